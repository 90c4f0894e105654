"""What holds for the runner whatever ticks come and whatever the sidecar answers."""

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any

import numpy as np
from fixtures_ticks import OPEN
from hypothesis import given, settings
from hypothesis import strategies as st

from strategy_client.bindings import Bindings
from strategy_client.configuration import StrategyConfig
from strategy_client.events import MarketTick, Outcome, Reason, Signal
from strategy_client.factory import StrategyFactory
from strategy_client.lineup import create_executors, wanted_models
from strategy_client.predictor.description import (
    Contract,
    Description,
    ModelDescription,
    NanPolicy,
    OutputKind,
    OutputMeaning,
    VersionDescription,
    VersionState,
)
from strategy_client.predictor.port import Answer, Prediction, Question, Refusal
from strategy_client.runner import StrategyRunner

FEATURES = ("return_3", "price")
TOKENS = (1, 2)
TRADITIONAL = ("momentum", "reversion")
LEARNED = ("learned_a", "learned_b")
FINITE = st.decimals(Decimal("0.01"), Decimal(100_000), places=2)
BAD = st.sampled_from([Decimal(text) for text in ("0", "-1", "NaN", "sNaN", "Infinity", "1e999", "1e-999")])
TICKS = st.lists(
    st.builds(
        lambda token, price, second, zone: MarketTick(
            token, price, (OPEN + timedelta(seconds=second)).replace(tzinfo=OPEN.tzinfo if zone else None)
        ),
        st.sampled_from([*TOKENS, 9]),
        FINITE | FINITE | FINITE | BAD,
        st.integers(0, 5),
        st.sampled_from([True] * 9 + [False]),
    ),
    max_size=40,
)
NUMBERS = st.lists(st.floats(width=32), max_size=3)
ANSWERS = st.one_of(
    st.builds(Refusal, st.sampled_from(Reason), st.text(max_size=3)),
    st.builds(
        lambda contract_hash, label, row: Prediction(
            "m",
            1,
            "d",
            contract_hash,
            {"label": np.array([label]), "probabilities": np.array([row], dtype=np.float32)},
        ),
        st.sampled_from(["h", "h", "h", "other"]),
        st.integers(0, 1),
        st.sampled_from([[0.2, 0.8], [0.9, 0.1], [0.5, 0.5]]) | NUMBERS,
    ),
    st.builds(Prediction, st.just("m"), st.just(1), st.just("d"), st.just("h"), st.just({})),
)


class Settled:
    """Answers that are there already; without a request id nothing was sent."""

    settled = True

    def __init__(self, answers: Sequence[Answer], request_id: str = "r") -> None:
        self.request_id = request_id
        self._answers = answers

    def result(self) -> Sequence[Answer]:
        """Return them."""
        return self._answers


class Answering:
    """A predictor that answers each question by a function."""

    def __init__(self, answer: Callable[[Question], Answer]) -> None:
        self._answer = answer

    def submit(self, questions: Sequence[Question], deadline_ns: int) -> Settled:
        """Answer at once; no row that is not finite may come this far."""
        assert all(np.isfinite(question.features).all() for question in questions)
        return Settled([self._answer(question) for question in questions])

    def close(self) -> None:
        """Do nothing."""


class Failing(Answering):
    """A predictor that refuses requests as it is told to, and says whether they were sent."""

    def __init__(
        self, answer: Callable[[Question], Answer], sent: Sequence[bool], request_id: str = ""
    ) -> None:
        super().__init__(answer)
        self._sent = iter(sent)
        self._request_id = request_id

    def submit(self, questions: Sequence[Question], deadline_ns: int) -> Settled:
        """Answer or refuse."""
        if next(self._sent):
            return super().submit(questions, deadline_ns)
        return Settled([Refusal(Reason.BREAKER_OPEN, "open")] * len(questions), self._request_id)


def by_row(question: Question) -> Answer:
    """Answer by the fraction of the price."""
    buy = float(question.features[0, 1] % 1)
    outputs = {"label": np.array([1]), "probabilities": np.array([[1 - buy, buy]])}
    return Prediction(question.model, 1, "d", "h", outputs)


def describe(models: Sequence[str]) -> Description:
    """Describe a model of two features under the contract `h`."""
    outputs = (
        OutputMeaning("label", OutputKind.LABEL, ("0", "1"), ("SELL", "BUY")),
        OutputMeaning("probabilities", OutputKind.PROBABILITIES, ("0", "1"), ("SELL", "BUY")),
    )
    contract = Contract(
        "h", FEATURES, 3, includes_current_tick=True, nan_policy=NanPolicy.REFUSE, outputs=outputs
    )
    version = VersionDescription(1, VersionState.AVAILABLE, "", "d", contract, ("FP32",))
    return Description({name: ModelDescription(name, (version,), 1) for name in models}, ready=True)


def make_runner(
    answer: Callable[[Question], Answer], tokens: Sequence[int] = TOKENS, predictor: Answering | None = None
) -> StrategyRunner:
    """Return a runner of two traditional and two learned strategies."""

    def config(name: str, kind: str, **parameters: Any) -> StrategyConfig:
        return StrategyConfig(name, kind, parameters, ("paper",), tuple(tokens))

    learned = {"features": list(FEATURES), "confidence_threshold": 0.5}
    executors = create_executors(
        [
            config("momentum", "momentum", lookback_periods=2, momentum_threshold=0.1),
            config("learned_a", "ml_momentum", model="a", **learned),
            config("reversion", "mean_reversion", lookback_periods=3, std_deviation_threshold=0.5),
            config("learned_b", "ml_momentum", model="b", **learned),
        ],
        StrategyFactory(),
    )
    bindings = Bindings(wanted_models(executors), describe)
    bindings.refresh()
    return StrategyRunner(executors, predictor or Answering(answer), bindings)


def said(outcome: Outcome) -> tuple[Any, ...]:
    """Return what a strategy said."""
    if isinstance(outcome, Signal):
        return outcome.signal_type, outcome.price, outcome.confidence, outcome.metadata.get("z_score")
    return outcome.reason, outcome.detail


@settings(max_examples=60, deadline=None)
@given(TICKS, st.data())
def test_one_outcome_for_each_strategy_and_tick(ticks: list[MarketTick], data: st.DataObject) -> None:
    """H6: whatever comes, each strategy of the instrument has one outcome, in order, and the counts add up.

    What the sidecar answers changes nothing that a traditional strategy says.
    """
    runner = make_runner(lambda _: data.draw(ANSWERS))
    without = make_runner(lambda _: Refusal(Reason.UNAVAILABLE, ""))
    known = 0
    counted: dict[str, Counter[str]] = {executor.strategy_id: Counter() for executor in runner.executors}
    for tick in ticks:
        outcomes, quiet = runner.process(tick), without.process(tick)
        if tick.instrument_token not in TOKENS:
            assert outcomes == []
            continue
        known += 1
        assert [outcome.strategy_id for outcome in outcomes] == list(counted)
        for outcome, other in zip(outcomes, quiet, strict=True):
            assert (outcome.instrument_token, outcome.timestamp) == (tick.instrument_token, tick.timestamp)
            if isinstance(outcome, Signal):
                assert outcome.price == tick.last_price > 0
                assert outcome.price.is_finite()
                counted[outcome.strategy_id][outcome.signal_type] += 1
            else:
                counted[outcome.strategy_id][outcome.reason.value] += 1
            if outcome.strategy_id in TRADITIONAL:
                assert said(outcome) == said(other)
    assert {executor.strategy_id: executor.counts for executor in runner.executors} == counted
    assert all(counts.total() == known for counts in counted.values())
    assert runner.counts.taken == known
    assert runner.counts.unknown_instrument == len(ticks) - known


@settings(max_examples=60, deadline=None)
@given(TICKS)
def test_instruments_that_take_turns_are_separate_runs(ticks: list[MarketTick]) -> None:
    """ORIGIN defect 1: each instrument's outcomes are those of a runner that sees nothing else."""
    together = make_runner(by_row)
    alone = {token: make_runner(by_row, (token,)) for token in TOKENS}
    for tick in ticks:
        outcomes = together.process(tick)
        expected = alone[tick.instrument_token].process(tick) if tick.instrument_token in alone else []
        assert [said(outcome) for outcome in outcomes] == [said(outcome) for outcome in expected]


@settings(max_examples=60, deadline=None)
@given(TICKS, st.lists(st.booleans(), min_size=40, max_size=40), st.sets(st.integers(0, 40)))
def test_who_goes_first_changes_no_outcome(ticks: list[MarketTick], sent: list[bool], off: set[int]) -> None:
    """H4: where requests are not sent the traditional strategies decide first, and all say the same.

    Also while strategies are switched off and on.
    """
    first = make_runner(by_row, predictor=Failing(by_row, sent))
    always_after = make_runner(by_row, predictor=Failing(by_row, sent, request_id="r"))
    for number, tick in enumerate(ticks):
        for runner in (first, always_after):
            for executor in runner.executors[:2]:
                executor.enabled = number not in off
        came, expected = first.process(tick), always_after.process(tick)
        assert list(map(said, came)) == list(map(said, expected))
    assert [each.counts for each in first.executors] == [each.counts for each in always_after.executors]
    assert first.drift == always_after.drift
    assert first.counts == always_after.counts
