"""A second model beside the first: scored, compared, never emitted, and never in the way."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from fixtures_clock import Clock
from fixtures_runner import FEATURES, RecordingPredictor, Settled, contract, description, reasons, yes
from fixtures_ticks import OPEN, tick, ticks

from strategy_client.bindings import Bindings
from strategy_client.configuration import ConfigurationError, EmissionConfig, StrategyConfig
from strategy_client.events import MarketTick, NoSignal, Outcome, Reason, ShadowComparison, Signal
from strategy_client.factory import StrategyFactory
from strategy_client.lineup import create_executors, wanted_models
from strategy_client.predictor.description import Description
from strategy_client.predictor.port import Answer, Prediction, Question, Refusal
from strategy_client.processors.ml_momentum import create_ml_momentum_processor
from strategy_client.questions import QuestionSheet
from strategy_client.runner import RunnerOptions, StrategyRunner
from strategy_client.shadow import MAX_PENDING, PendingShadows, Shadows, ShadowStrategy, ShadowSummary

PARAMETERS = {"model": "m", "features": list(FEATURES), "shadow": {"model": "next"}}
MS = 1_000_000


def answer(question: Question, buy: float) -> Prediction:
    """Answer each row with a probability of class 1."""
    rows = len(question.features)
    outputs = {"label": np.ones(rows, np.int64), "probabilities": np.tile([1 - buy, buy], (rows, 1))}
    return yes(question, outputs=outputs)


def describe(models: Sequence[str]) -> Description:
    """Describe each model asked for as `m` is; `unknown` is not served."""
    served = description(contract()).models["m"]
    return Description({name: replace(served, name=name) for name in models if name != "unknown"}, ready=True)


@dataclass
class Slow:
    """A predictor whose answers come when they are let go, or never."""

    answer: Callable[[Question], Answer] = lambda question: answer(question, 0.75)
    pending: list["SlowAnswers"] = field(default_factory=list)

    def submit(self, questions: Sequence[Question], deadline_ns: int) -> "SlowAnswers":
        """Keep the questions."""
        self.pending.append(SlowAnswers(list(map(self.answer, questions)), deadline_ns))
        return self.pending[-1]

    def close(self) -> None:
        """Do nothing."""


@dataclass
class SlowAnswers:
    """Answers that are there when `settled` is set; `result` is not to be called before."""

    answers: Sequence[Answer]
    deadline_ns: int
    settled: bool = False
    request_id: str = "slow"
    taken: int = 0

    def result(self) -> Sequence[Answer]:
        """Return the answers, or that they are late."""
        self.taken += 1
        late = Refusal(Reason.DEADLINE_EXCEEDED, "no answer by the deadline")
        return self.answers if self.settled else [late] * len(self.answers)


def make(
    beside: Any = None,
    live: float = 0.75,
    *,
    tokens: Sequence[int] = (1,),
    now_ns: Any = None,
    wall_ns: Any = None,
    options: RunnerOptions | None = None,
    **parameters: Any,
) -> StrategyRunner:
    """Return a runner of one strategy with a shadow."""
    emission = parameters.pop("emission", EmissionConfig())
    configs = [
        StrategyConfig(
            "l", "ml_momentum", {**PARAMETERS, **parameters}, ("paper",), tuple(tokens), emission=emission
        )
    ]
    executors = create_executors(configs, StrategyFactory())
    bindings = Bindings(wanted_models(executors), describe)
    bindings.refresh()
    predictor = RecordingPredictor(lambda question: answer(question, live))
    return StrategyRunner(
        executors,
        predictor,
        bindings,
        options,
        shadow_predictor=beside,
        **({} if now_ns is None else {"now_ns": now_ns}),
        **({} if wall_ns is None else {"wall_ns": wall_ns}),
    )


def compare(
    runner: StrategyRunner, feed: Sequence[MarketTick]
) -> tuple[list[Outcome], list[ShadowComparison]]:
    """Return all outcomes and all comparisons."""
    outcomes = [outcome for each in feed for outcome in runner.process(each)]
    return outcomes, runner.take_comparisons()


def test_shadow_is_scored_beside_and_never_emitted() -> None:
    """A shadow's signal is in the comparison, under a name of its own, and in no outcome."""
    shadow = RecordingPredictor(lambda question: answer(question, 0.1))
    runner = make(shadow)
    outcomes, comparisons = compare(runner, ticks([100, 101, 102, 103]))
    assert reasons(outcomes) == [Reason.WARMING_UP] * 2 + ["BUY"] * 2
    assert [each.index for each in comparisons] == [0, 1, 2, 3]
    assert reasons([each.live for each in comparisons]) == reasons(outcomes)
    assert reasons([each.shadow for each in comparisons]) == [Reason.WARMING_UP] * 2 + ["SELL"] * 2
    last = comparisons[-1].shadow
    assert isinstance(last, Signal)
    assert (last.strategy_id, last.metadata["model"], last.confidence) == ("l (shadow)", "next", 0.9)
    assert [question.model for questions in shadow.requests for question in questions] == ["next"] * 2
    assert runner.answered_by["l (shadow)"] == {("next", 4, "d4"): 2}
    assert runner.take_comparisons() == []


def test_index_counts_every_tick() -> None:
    """The index is that of the run: refused and unknown ticks count, and have no comparison."""
    runner = make(RecordingPredictor(yes))
    feed = [tick(1), tick("NaN"), tick(1, token=9), tick(1, second=1)]
    assert [each.index for each in compare(runner, feed)[1]] == [0, 3]


def test_features_of_its_own() -> None:
    """A shadow may look at other features, which warm up by themselves."""
    served = contract(feature_names=("price",), window=1)

    def described(models: Sequence[str]) -> Description:
        both = {"m": description(contract()).models["m"], "next": description(served).models["m"]}
        return Description({name: replace(both[name], name=name) for name in models}, ready=True)

    shadow = RecordingPredictor(yes)
    parameters = {**PARAMETERS, "shadow": {"model": "next", "features": ["price"]}}
    executors = create_executors(
        [StrategyConfig("l", "ml_momentum", parameters, ("paper",), (1,))], StrategyFactory()
    )
    bindings = Bindings(wanted_models(executors), described)
    bindings.refresh()
    runner = StrategyRunner(executors, RecordingPredictor(yes), bindings, shadow_predictor=shadow)
    _, comparisons = compare(runner, ticks([100, 101, 102]))
    assert reasons([each.shadow for each in comparisons]) == ["BUY"] * 3
    assert shadow.requests[0][0].features.tolist() == [[100.0]]


@pytest.mark.parametrize(
    ("model", "with_predictor", "reason"),
    [
        ("next", False, Reason.UNAVAILABLE),
        ("unknown", True, Reason.MODEL_NOT_FOUND),
    ],
)
def test_shadow_that_cannot_be_asked_says_why(model: str, with_predictor: bool, reason: Reason) -> None:
    """Without a predictor for shadows, or without its model, a comparison has the shadow's reason."""
    runner = make(RecordingPredictor(yes) if with_predictor else None, shadow={"model": model})
    outcomes, comparisons = compare(runner, ticks([1, 1, 1]))
    assert reasons(outcomes[-1:]) == ["BUY"]
    shadow = comparisons[-1].shadow
    assert isinstance(shadow, NoSignal)
    assert shadow.reason is reason
    if not with_predictor:
        assert shadow.detail == "this runner has no sidecar to ask"


def test_comparisons_come_in_the_order_of_ticks() -> None:
    """A later tick's answer waits for the one before it; nothing is waited for otherwise."""
    slow = Slow()
    runner = make(slow, now_ns=Clock())
    for each in ticks([1, 1, 1, 1]):
        runner.process(each)
    assert [each.index for each in runner.take_comparisons()] == [0, 1]
    slow.pending[1].settled = True
    assert runner.take_comparisons() == []
    slow.pending[0].settled = True
    assert [each.index for each in runner.take_comparisons()] == [2, 3]


def test_late_shadow_is_concluded_at_its_deadline() -> None:
    """H3: an answer that is not there by its deadline is DEADLINE_EXCEEDED, and no later tick has it."""
    clock = Clock()
    slow = Slow()
    runner = make(slow, now_ns=clock)
    for each in ticks([1, 1, 1]):
        runner.process(each)
    assert len(runner.take_comparisons()) == 2
    assert slow.pending[0].deadline_ns == 50 * MS
    clock.now_ns = 50 * MS - 1
    assert runner.take_comparisons() == []
    clock.now_ns = 50 * MS
    (late,) = runner.take_comparisons()
    assert reasons([late.shadow]) == [Reason.DEADLINE_EXCEEDED]
    assert runner.take_comparisons() == []


@pytest.mark.parametrize(
    ("timeout_s", "together", "expected_s"), [(5, 1, 5), (5, 3, 15), (5, 20, 60), (90, 1, 90), (90, 2, 90)]
)
def test_ticks_that_ask_together_have_their_deadlines_together(
    timeout_s: int, together: int, expected_s: int
) -> None:
    """What several ticks ask together has the sum of their deadlines, a minute or one of them at most."""
    slow, sheet = Slow(), QuestionSheet()
    pending = [PendingShadows(index, tick(1), sheet) for index in range(together)]
    sheet.add(("m", 0, "h1"), np.ones(2, np.float32))
    Shadows(slow, timeout_s * 1_000 * MS, Clock(7)).send(pending, sheet)
    assert [each.deadline_ns for each in slow.pending] == [7 + expected_s * 1_000 * MS]
    assert {each.deadline_ns for each in pending} == {7 + expected_s * 1_000 * MS}


def test_the_end_collects_what_is_left() -> None:
    """With `wait` all comparisons come, answered or not."""
    slow = Slow()
    runner = make(slow, now_ns=Clock())
    for each in ticks([1, 1, 1, 1]):
        runner.process(each)
    assert len(runner.take_comparisons()) == 2
    slow.pending[1].settled = True
    came = runner.take_comparisons(wait=True)
    assert reasons([each.shadow for each in came]) == [Reason.DEADLINE_EXCEEDED, "BUY"]


def test_what_nobody_takes_is_dropped_and_counted() -> None:
    """H10: the queue is bounded; the oldest goes, and what is dropped before it was asked is never asked."""
    slow = Slow()
    runner = make(slow, now_ns=Clock())
    for each in ticks([1] * (MAX_PENDING + 5)):
        runner.process(each)
    came = runner.take_comparisons(wait=True)
    assert runner.shadows_dropped == 5
    assert len(came) == len(slow.pending) == MAX_PENDING
    assert came[0].index == 5


def test_each_comparison_that_is_dropped_counts() -> None:
    """H10: a tick of several strategies with a shadow is as many comparisons."""
    shadows = Shadows(None, 1, Clock())
    other = outcome(None)
    for index in range(MAX_PENDING + 2):
        pending = PendingShadows(index, tick(1))
        pending.asked = [(ShadowStrategy(slot, Any), other) for slot in range(3)]  # type: ignore[arg-type]
        shadows.keep(pending, [other] * 3)
    assert shadows.dropped == 2 * 3
    assert repr(shadows) == f"<Shadows {MAX_PENDING} ticks pending, 6 comparisons dropped>"
    assert len(shadows.take(wait=True)) == MAX_PENDING * 3


def test_what_is_dropped_after_it_was_asked_is_given_back() -> None:
    """H10: a predictor is told to forget what was dropped, if that costs no wait."""
    slow = Slow()
    runner = make(slow, now_ns=Clock())
    for each in ticks([1] * (MAX_PENDING + 2)):
        runner.process(each)
        runner.take_comparisons()
    slow.pending[0].settled = True
    for second in (MAX_PENDING + 2, MAX_PENDING + 3):
        runner.process(tick(1, second=second))
    assert runner.shadows_dropped == 2
    assert [answers.taken for answers in slow.pending[:3]] == [1, 0, 0]


def test_shadow_is_asked_when_the_outcomes_are_out() -> None:
    """A tick's own way holds no request of a shadow: it leaves when the loop takes comparisons."""
    shadow = RecordingPredictor(yes)
    runner = make(shadow)
    for each in ticks([1, 1, 1]):
        runner.process(each)
    assert shadow.requests == []
    assert len(runner.take_comparisons()) == 3
    assert len(shadow.requests) == 1


class Broken:
    """A predictor that raises wherever it is touched."""

    request_id = ""

    def __init__(self, where: str) -> None:
        self._where = where

    def submit(self, questions: Sequence[Question], deadline_ns: int) -> Any:
        """Raise, or return itself."""
        if self._where == "submit":
            raise OSError("broken")
        return Settled([]) if self._where == "nothing" else self

    @property
    def settled(self) -> bool:
        """Raise, or say yes."""
        if self._where == "settled":
            raise OSError("broken")
        return True

    def result(self) -> Any:
        """Raise."""
        raise OSError("broken")

    def close(self) -> None:
        """Do nothing."""


@pytest.mark.parametrize("where", ["submit", "settled", "result", "nothing"])
def test_predictor_that_raises_touches_no_live_outcome(where: str, caplog: pytest.LogCaptureFixture) -> None:
    """H8: whatever a shadow's predictor does, the strategy goes on; the log is not filled."""
    runner = make(Broken(where))
    outcomes, comparisons = compare(runner, ticks([1] * 50))
    assert reasons(outcomes[2:]) == ["BUY"] * 48
    assert reasons([each.shadow for each in comparisons[2:]]) == [Reason.UNAVAILABLE] * 48
    assert len(caplog.records) <= 10


def test_disabled_strategy_has_no_comparison() -> None:
    """A strategy that is stopped is not compared; its shadow is not asked."""
    shadow = RecordingPredictor(yes)
    runner = make(shadow)
    runner.executors[0].enabled = False
    _, comparisons = compare(runner, ticks([1, 1, 1]))
    assert (comparisons, shadow.requests) == ([], [])


def test_a_stale_tick_has_no_comparison() -> None:
    """Nothing is asked of a tick that no signal may come of, of the shadow neither; its features go on."""
    shadow = RecordingPredictor(yes)
    wall = Clock(int(OPEN.timestamp()) * 1_000 * MS)
    runner = make(shadow, now_ns=Clock(1_000 * MS), wall_ns=wall, options=RunnerOptions(max_tick_age_ms=500))
    received = [1_000 * MS, 1_000 * MS, 0, 1_000 * MS]
    feed = [replace(each, received_ns=came) for each, came in zip(ticks([1, 2, 3, 4]), received, strict=True)]
    outcomes, comparisons = compare(runner, feed)
    assert reasons(outcomes) == [Reason.WARMING_UP] * 2 + [Reason.STALE_TICK, "BUY"]
    assert [each.index for each in comparisons] == [0, 1, 3]
    assert [question.features.tolist() for [question] in shadow.requests] == [[[4.0, 1.0]]]


def test_comparison_is_of_what_was_wanted() -> None:
    """The rules of emission hold a signal back after the comparison: a repeated BUY is no disagreement."""
    runner = make(RecordingPredictor(yes), emission=EmissionConfig(edge_trigger=True))
    outcomes, comparisons = compare(runner, ticks([1] * 4))
    assert reasons(outcomes[2:]) == ["BUY", Reason.HOLD]
    assert reasons([each.live for each in comparisons[2:]]) == ["BUY", "BUY"]
    assert reasons([each.shadow for each in comparisons[2:]]) == ["BUY", "BUY"]


def test_limits_hold_for_the_shadow_too() -> None:
    """A shadow is trusted as far as the model is; it changes with its strategy's limits."""
    runner = make(RecordingPredictor(yes))
    (executor,) = runner.executors
    executor.reconfigure(replace(executor.config, max_position_size=7))
    runner.change([executor])
    _, comparisons = compare(runner, ticks([1] * 3))
    assert isinstance(comparisons[-1].shadow, Signal)
    assert comparisons[-1].shadow.quantity == 7


def test_shadow_stays_warm_over_a_change() -> None:
    """A change of other strategies leaves a shadow where it was."""
    runner = make(RecordingPredictor(yes))
    for each in ticks([1] * 3):
        runner.process(each)
    runner.change(runner.executors)
    runner.process(tick(1, second=3))
    assert reasons([each.shadow for each in runner.take_comparisons()[2:]]) == ["BUY", "BUY"]
    assert runner.answered_by["l (shadow)"].total() == 2


def test_instruments_are_compared_apart() -> None:
    """One shadow on two instruments has two rows of features."""
    runner = make(RecordingPredictor(yes), tokens=(1, 2))
    feed = [each for pair in zip(ticks([1] * 3), ticks([2] * 3, token=2), strict=True) for each in pair]
    _, comparisons = compare(runner, feed)
    assert [each.tick.instrument_token for each in comparisons] == [1, 2] * 3
    features = [each.shadow.metadata["features"]["price"] for each in comparisons[4:]]
    assert features == [1.0, 2.0]


@pytest.mark.parametrize(
    ("shadow", "says"),
    [
        ({}, r"^shadow: expected a mapping of model, model_version, features, came \{\}"),
        ("next", r"^shadow: expected a mapping of model, model_version, features, came 'next'"),
        ({"model_version": 2}, "^shadow.model: model name '': expected"),
        (
            {"model": "next", "version": 2},
            r"^shadow.version: unknown parameter \(did you mean 'model_version'",
        ),
        (
            {"model": "next", "features": ["prize"]},
            r"^shadow.features: unknown feature 'prize' \(did you mean",
        ),
        ({"model": "m"}, "^shadow.model: 'm' is the strategy's own model"),
    ],
)
def test_wrong_shadow_is_named(shadow: Any, says: str) -> None:
    """H9: each wrong field of a shadow is named with what was expected and what came."""
    with pytest.raises(ConfigurationError, match=says):
        create_ml_momentum_processor({**PARAMETERS, "shadow": shadow})


def test_a_shadow_may_be_another_version_of_the_model() -> None:
    """The version that is to come is compared with the one that is served."""
    shadow = RecordingPredictor(yes)
    runner = make(shadow, shadow={"model": "m", "model_version": 4})
    compare(runner, ticks([1] * 3))
    assert [(q.model, q.version) for q in shadow.requests[0]] == [("m", 4)]


def test_a_strategy_of_a_shadows_name_is_refused() -> None:
    """H9: a strategy and a shadow of one name could not be told apart."""
    (executor,) = make().executors
    other = create_executors(
        [StrategyConfig("l (shadow)", "momentum", {}, ("paper",), (1,))], StrategyFactory()
    )
    with pytest.raises(ConfigurationError, match=r"'l \(shadow\)' stands twice"):
        StrategyRunner([executor, *other])


def outcome(side: str | None, **probabilities: float) -> Outcome:
    """Return an outcome with the probabilities that a model gave."""
    metadata = {"probabilities": probabilities} if probabilities else {}
    one = tick(1)
    if side is None:
        return NoSignal("s", 1, one.timestamp, Reason.HOLD, "", metadata)
    return Signal("s", 1, side, 0.5, 1, one.last_price, one.timestamp, metadata)  # type: ignore[arg-type]


def test_summary_adds_up() -> None:
    """Every comparison is one of three, and differences are of the classes that both models have."""
    summary = ShadowSummary()
    assert (summary.agreement, summary.mean_difference) == (1.0, 0.0)
    for live, shadow in [
        (outcome("BUY", a=0.25, b=0.75), outcome("BUY", a=0.1875, b=0.875)),
        (outcome("BUY", a=0.25, b=0.75), outcome("SELL", b=0.25, c=0.75)),
        (outcome(None), outcome(None, a=1.0)),
        (outcome(None, a=1.0), outcome("BUY", b=1.0)),
        (outcome("SELL"), outcome(None)),
    ]:
        summary.took(ShadowComparison(0, tick(1), live, shadow))
    assert repr(summary) == "<ShadowSummary 5 compared, 3 differ>"
    assert summary.to_json() == {
        "compared": 5,
        "same_side": 1,
        "both_none": 1,
        "differ": 3,
        "agreement": 0.4,
        "probability_difference": {"compared": 2, "mean": 0.3125, "largest": 0.5},
        "reasons": {"HOLD": 2},
    }
