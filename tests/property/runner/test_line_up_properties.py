"""What holds for a runner however its line-up changes, and whatever its shadows do."""

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import numpy as np
from fixtures_clock import Clock
from fixtures_runner import contract, description
from fixtures_ticks import OPEN
from hypothesis import given, settings
from hypothesis import strategies as st

from strategy_client.bindings import Bindings
from strategy_client.configuration import EmissionConfig, StrategyConfig
from strategy_client.events import MarketTick, NoSignal, Outcome, Reason, Signal
from strategy_client.factory import StrategyFactory
from strategy_client.lineup import create_executors, renew, wanted_models
from strategy_client.predictor.description import Description
from strategy_client.predictor.port import Answer, Prediction, Question, Refusal
from strategy_client.runner import StrategyRunner

TOKENS = (1, 2)
FEATURES = ("price", "return_3")
ALL = ("momentum", "reversion", "learned_a", "learned_b")


def describe(models: Sequence[str]) -> Description:
    """Describe each model under one contract, with a range that some prices leave."""
    served = description(contract(training_ranges=((0.5, 9_000.0), (-0.9, 9.0)))).models["m"]
    return Description({name: replace(served, name=name) for name in models}, ready=True)


class ByRow:
    """Answers each row by what is in it."""

    def submit(self, questions: Sequence[Question], deadline_ns: int) -> "Now":
        """Answer at once."""
        return Now([self._answer(question) for question in questions])

    def close(self) -> None:
        """Do nothing."""

    def _answer(self, question: Question) -> Answer:
        buy = (np.abs(question.features[:, 0]) * 7.3) % 1.0
        outputs = {"label": np.ones(len(buy)), "probabilities": np.stack([1 - buy, buy], axis=1)}
        return Prediction(question.model, 4, "d4", "h1", outputs)


class Now:
    """Answers that are there."""

    request_id = "r"
    settled = True

    def __init__(self, answers: Sequence[Answer]) -> None:
        self._answers = answers

    def result(self) -> Sequence[Answer]:
        """Return them."""
        return self._answers


def configs(line_up: dict[str, dict[str, Any]]) -> list[StrategyConfig]:
    """Return the configuration of some of the strategies."""
    kinds: dict[str, tuple[str, dict[str, Any]]] = {
        "momentum": ("momentum", {"lookback_periods": 2, "momentum_threshold": 0.1}),
        "reversion": ("mean_reversion", {"lookback_periods": 3, "std_deviation_threshold": 0.5}),
        "learned_a": ("ml_momentum", {"model": "a", "features": list(FEATURES), "confidence_threshold": 0.5}),
        "learned_b": (
            "ml_momentum",
            {"model": "b", "features": ["price", "return_3"], "confidence_threshold": 0.6},
        ),
    }
    return [
        StrategyConfig(name, *kinds[name], ("paper",), **{"instrument_tokens": TOKENS, **changes})
        for name, changes in line_up.items()
    ]


def said(outcome: Outcome) -> tuple[Any, ...]:
    """Return what a strategy said, without what differs with the run or, in the last bits, with its start."""
    metadata = {key: value for key, value in outcome.metadata.items() if key not in VARYING}
    if isinstance(outcome, Signal):
        return (outcome.strategy_id, outcome.signal_type, outcome.quantity, outcome.price, repr(metadata))
    return (outcome.strategy_id, outcome.reason, outcome.detail, repr(metadata))


VARYING = ("latency_us", "z_score", "price_mean", "price_std")
PRICES = st.decimals(Decimal("0.01"), Decimal(10_000), places=2)
TICKS = st.builds(
    lambda token, price, second: MarketTick(token, price, OPEN + timedelta(seconds=second)),
    st.sampled_from([*TOKENS, 9]),
    PRICES | st.sampled_from([Decimal("NaN"), Decimal(-1)]),
    st.integers(0, 8),
)
CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "enabled": st.booleans(),
        "max_position_size": st.integers(1, 5),
        "instrument_tokens": st.sampled_from([(1,), (2,), (1, 2), (2, 1)]),
    },
)
LINE_UPS = st.lists(st.sampled_from(ALL), unique=True).flatmap(
    lambda names: st.fixed_dictionaries(dict.fromkeys(names, CHANGES))
)
STEPS = st.lists(TICKS | TICKS | TICKS | LINE_UPS, max_size=40)


@settings(max_examples=80, deadline=None)
@given(LINE_UPS, STEPS)
def test_any_changes_give_what_a_fresh_runner_gives_once_warm(first: Any, steps: list[Any]) -> None:
    """Each strategy has one outcome a tick; once it is warm, that of a runner that always had its line-up.

    The runner to compare with is made anew at each tick, and shown every tick that the edge let through
    while somebody looked at the instrument.
    """
    factory = StrategyFactory()
    executors = create_executors(configs(first), factory)
    bindings = Bindings(wanted_models(executors), describe)
    bindings.refresh()
    runner = StrategyRunner(executors, ByRow(), bindings)
    seen: dict[int, deque[MarketTick]] = {token: deque(maxlen=200) for token in TOKENS}
    line_up = first
    for step in steps:
        if isinstance(step, dict):
            line_up = step
            executors = renew(runner.executors, configs(step), factory)
            bindings.change(wanted_models(executors))
            runner.change(executors)
            bindings.refresh()
            for token in set(TOKENS) - set(runner.instruments):
                seen[token].clear()
            continue
        refused = runner.counts.invalid + runner.counts.out_of_order
        outcomes = runner.process(step)
        token = step.instrument_token
        expected = [
            name for name, changes in line_up.items() if token in changes.get("instrument_tokens", TOKENS)
        ]
        assert [outcome.strategy_id for outcome in outcomes] == expected
        if not expected:
            continue
        always = create_executors(configs(line_up), factory)
        fresh_bindings = Bindings(wanted_models(always), describe)
        fresh_bindings.refresh()
        fresh = StrategyRunner(always, ByRow(), fresh_bindings)
        for earlier in seen[token]:
            fresh.process(earlier)
        for outcome, other in zip(outcomes, fresh.process(step), strict=True):
            # A strategy that came later knows less, until it has seen as much as it needs.
            if not (isinstance(outcome, NoSignal) and outcome.reason is Reason.WARMING_UP):
                assert said(outcome) == said(other)
        edge = runner.counts
        if edge.invalid + edge.out_of_order == refused:
            seen[token].append(step)
    assert sum(sum(executor.counts.values()) for executor in runner.executors) <= len(ALL) * len(steps)


class Wild:
    """A predictor that does what it likes: refuses, answers something else, is late, raises."""

    def __init__(self, data: st.DataObject) -> None:
        self._data = data

    def submit(self, questions: Sequence[Question], deadline_ns: int) -> "WildAnswers":
        """Send nothing anywhere."""
        if self._data.draw(st.integers(0, 9)) == 0:
            raise OSError("submit")
        return WildAnswers(self._data, questions)

    def close(self) -> None:
        """Do nothing."""


class WildAnswers:
    """Answers of a wild predictor."""

    request_id = "wild"

    def __init__(self, data: st.DataObject, questions: Sequence[Question]) -> None:
        self._data = data
        self._questions = questions

    @property
    def settled(self) -> bool:
        """Say anything."""
        said = self._data.draw(st.integers(0, 5))
        if said == 0:
            raise OSError("settled")
        return said > 2

    def result(self) -> Sequence[Answer]:
        """Answer anything."""
        kind = self._data.draw(st.integers(0, 5))
        if kind == 0:
            raise OSError("result")
        if kind == 1:
            return []
        if kind == 2:
            return [Refusal(self._data.draw(st.sampled_from(Reason)), "no") for _ in self._questions]
        contract_hash = "h1" if kind < 5 else "other"
        row = self._data.draw(st.sampled_from([[0.1, 0.9], [0.9, 0.1], [float("nan"), 2.0], [1.0], []]))
        outputs: dict[str, Any] = {"label": np.ones(1), "probabilities": np.array([row])} if kind > 3 else {}
        return [Prediction(q.model, 4, "d4", contract_hash, outputs) for q in self._questions]


def shadowed(
    shadow: dict[str, Any] | None, emission: EmissionConfig, beside: Any, clock: Clock
) -> StrategyRunner:
    """Return a runner of a traditional and a learned strategy, with or without a shadow."""
    learned: dict[str, Any] = {"model": "a", "features": list(FEATURES), "confidence_threshold": 0.5}
    if shadow is not None:
        learned["shadow"] = shadow
    executors = create_executors(
        [
            StrategyConfig("learned", "ml_momentum", learned, ("paper",), TOKENS, emission=emission),
            *configs({"momentum": {}}),
        ],
        StrategyFactory(),
    )
    bindings = Bindings(wanted_models(executors), describe)
    bindings.refresh()
    return StrategyRunner(executors, ByRow(), bindings, None, clock, shadow_predictor=beside)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(TICKS, max_size=30),
    st.sampled_from(
        [
            {"model": "b"},
            {"model": "b", "features": ["price"]},
            {"model": "b", "features": ["price", "fixtures_features:Touchy"]},
            {"model": "a", "model_version": 9},
        ]
    ),
    st.booleans(),
    st.data(),
)
def test_a_shadow_changes_no_live_outcome(
    ticks: list[MarketTick], shadow: dict[str, Any], edge_trigger: bool, data: st.DataObject
) -> None:
    """Whatever a shadow does, the live outcomes are the same, and so is what is counted of them.

    There is one comparison for each tick that passed the edge, in their order.
    """
    emission = EmissionConfig(edge_trigger=edge_trigger, cooldown_s=2.0 if edge_trigger else 0.0)
    clock = Clock()
    alone = shadowed(None, emission, None, clock)
    beside = shadowed(shadow, emission, Wild(data), clock)
    comparisons = []
    for one in ticks:
        assert list(map(said, beside.process(one))) == list(map(said, alone.process(one)))
        clock.now_ns += data.draw(st.sampled_from([0, 30_000_000]))
        comparisons += beside.take_comparisons()
    comparisons += beside.take_comparisons(wait=True)
    assert [e.counts for e in beside.executors] == [e.counts for e in alone.executors]
    assert beside.answered_by["learned"] == alone.answered_by["learned"]
    counts = alone.counts
    assert len(comparisons) == counts.taken - counts.invalid - counts.out_of_order
    assert [each.index for each in comparisons] == sorted(each.index for each in comparisons)
    assert all(each.tick is ticks[each.index] for each in comparisons)
    assert all(each.shadow.strategy_id == "learned (shadow)" for each in comparisons)
