"""How far a learned strategy trusts its model: training range, age, and the version that answers."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fixtures_runner import (
    FEATURES,
    LearnedScripted,
    RecordingPredictor,
    contract,
    description,
    last,
    learned_runner,
    reasons,
    yes,
)
from fixtures_ticks import OPEN, tick, ticks

from strategy_client.binding import Bound
from strategy_client.bindings import Bindings
from strategy_client.configuration import StrategyConfig
from strategy_client.events import NoSignal, Outcome, Reason, Signal
from strategy_client.factory import StrategyFactory
from strategy_client.lineup import create_executors, wanted_models
from strategy_client.predictor.description import Contract, NanPolicy
from strategy_client.predictor.port import Answer, Prediction, Question, Refusal
from strategy_client.processors.limits import ModelLimits
from strategy_client.runner import StrategyRunner

RANGES = ((90.0, 110.0), (-0.05, 0.05))
DAY_NS = 86_400 * 10**9
TRAINED_NS = int(OPEN.timestamp()) * 10**9


def learned(*names: str, served: Contract, tokens: Sequence[int] = (1,), **parameters: Any) -> Any:
    """Return a runner of learned strategies of one kind, and its predictor and bindings."""
    options = {"model": "m", "features": list(FEATURES), **parameters}
    executors = create_executors(
        [StrategyConfig(name, "ml_momentum", options, ("paper",), tuple(tokens)) for name in names],
        StrategyFactory(),
    )
    bindings = Bindings(wanted_models(executors), lambda _models: description(served))
    bindings.refresh()
    predictor = RecordingPredictor(yes)
    return StrategyRunner(executors, predictor, bindings), predictor, bindings


def only(outcomes: Sequence[Outcome]) -> NoSignal:
    """Return the one outcome, which is no signal."""
    (outcome,) = outcomes
    assert isinstance(outcome, NoSignal)
    return outcome


def test_outside_of_the_training_range_nothing_is_asked() -> None:
    """Defect 7 of the runner this grew out of: what the model has never seen is OUT_OF_RANGE, by name."""
    runner, predictor, _ = learned("l", served=contract(training_ranges=RANGES))
    for each in ticks([100, 100, 100]):
        came = runner.process(each)
    assert reasons(came) == ["BUY"]
    outcome = only(runner.process(tick(120.5, second=3)))
    assert outcome.reason is Reason.OUT_OF_RANGE
    assert outcome.detail == (
        "price is 120.5, trained on 90 to 110, return_3 is 0.205, trained on -0.05 to 0.05"
    )
    assert len(predictor.requests) == 1
    assert only(runner.process(tick(80, second=4))).detail.startswith("price is 80, trained on 90 to 110")
    drift = runner.drift["l"]
    assert (drift.rows, drift.below, drift.above) == (
        3,
        {"price": 1, "return_3": 1},
        {"price": 1, "return_3": 1},
    )


def test_count_asks_all_the_same() -> None:
    """With `outside_training_range: count` the model answers, and the drift is counted."""
    runner, _, _ = learned(
        "l", served=contract(training_ranges=RANGES), outside_training_range="count", confidence_threshold=0.5
    )
    came = [runner.process(each) for each in ticks([100, 100, 100, 120])]
    assert reasons(came[-1]) == ["BUY"]
    assert runner.drift["l"].above == {"price": 1, "return_3": 1}


def test_the_ends_of_the_range_are_inside() -> None:
    """The extremes of the training are in range, though float32 moves the one that was 0.1."""
    runner, _, _ = learned("l", served=contract(training_ranges=((0.1, 0.7), (-7.0, 7.0))))
    came = [reasons(runner.process(each)) for each in ticks([0.1, 0.1, 0.1, 0.7])]
    assert came[2:] == [["BUY"], ["BUY"]]
    assert runner.drift["l"].above == {}


def test_margin_widens_the_range() -> None:
    """`training_range_margin` is a fraction of the span, at both ends."""
    runner, _, _ = learned(
        "l", served=contract(training_ranges=((90.0, 110.0), (-7.0, 7.0))), training_range_margin=0.25
    )
    came = [reasons(runner.process(each)) for each in ticks([100, 100, 85, 115, 84.5, 115.5])]
    assert came[2:] == [["BUY"], ["BUY"], [Reason.OUT_OF_RANGE], [Reason.OUT_OF_RANGE]]


@pytest.mark.parametrize(
    "ranges", [(), ((math.nan, math.nan), (math.nan, math.nan)), ((-1e300, 1e300), (-math.inf, math.inf))]
)
def test_no_range_checks_nothing(ranges: Any) -> None:
    """A contract without ranges, or with ones that hold everything, refuses nothing."""
    runner, _, _ = learned("l", served=contract(training_ranges=ranges))
    came = [reasons(runner.process(each)) for each in ticks([1, 1e6, 1e-6])]
    assert came[-1] == ["BUY"]
    assert runner.drift["l"].rows == (1 if ranges else 0)


def test_nan_that_the_contract_accepts_is_in_range() -> None:
    """A missing value was trained on: it is no drift."""
    features = ("price", "fixtures_features:Missing")
    served = contract(
        feature_names=features,
        window=2,
        nan_policy=NanPolicy.ACCEPT,
        training_ranges=((0.0, 9.0), (0.0, 1.0)),
    )
    runner, predictor, _ = learned("l", served=served, features=list(features))
    came = [reasons(runner.process(each)) for each in ticks([1, 2])]
    assert came[-1] == ["BUY"]
    assert math.isnan(predictor.requests[0][0].features[0, 1])
    assert not runner.drift["l"].above + runner.drift["l"].below


def test_infinity_is_refused_where_nan_is_accepted() -> None:
    """A policy that takes missing values takes no infinite ones: what float32 cannot hold is not asked."""
    served = contract(nan_policy=NanPolicy.ACCEPT)
    runner, predictor, _ = learned("l", served=served)
    came = only([runner.process(each) for each in ticks([1, 1, "1e39"])][-1])
    assert (came.reason, came.detail) == (Reason.NON_FINITE, "price is inf, return_3 is inf")
    assert predictor.requests == []


def test_drift_is_of_each_strategy_over_its_instruments() -> None:
    """Strategies that share a row and a contract count for themselves; instruments add up."""
    runner, _, _ = learned("a", "b", served=contract(training_ranges=RANGES), tokens=(1, 2))
    for token in (1, 2):
        for each in ticks([100, 100, 100, 120], token=token):
            runner.process(each)
    for name in "ab":
        assert (runner.drift[name].rows, runner.drift[name].above["price"]) == (4, 2)


def test_new_ranges_hold_from_the_new_binding_on() -> None:
    """A newer version that was trained on more is asked more, as soon as it is bound."""
    served = contract(training_ranges=RANGES)
    runner, _, bindings = learned("l", served=served)
    bindings._describe = lambda _models: description(served)
    for each in ticks([100, 100, 100]):
        runner.process(each)
    assert reasons(runner.process(tick(120, second=3))) == [Reason.OUT_OF_RANGE]
    served = replace(served, training_ranges=((0.0, 1000.0), (-1.0, 1.0)))
    bindings.refresh()
    assert reasons(runner.process(tick(120, second=4))) == ["BUY"]


@pytest.mark.parametrize(
    ("days", "reason"),
    [(0.0, "BUY"), (2.0, "BUY"), (2.5, Reason.MODEL_STALE), (-30.0, "BUY")],
)
def test_model_older_than_its_limit_is_stale(days: float, reason: Any) -> None:
    """`max_model_age_days` is counted from training to the tick; a replay of older ticks is no fault."""
    trained_ns = TRAINED_NS - int(days * DAY_NS)
    runner, predictor, _ = learned("l", served=contract(trained_at_ns=trained_ns), max_model_age_days=2.0001)
    came = [runner.process(each) for each in ticks([1, 1, 1])][-1]
    assert reasons(came) == [reason]
    if reason is Reason.MODEL_STALE:
        text = "model 'm' version 4 was trained 2.5 days before this tick, more than 2.0001"
        assert only(came).detail == text
        assert predictor.requests == []


@pytest.mark.parametrize(("older_us", "reason"), [(0, "BUY"), (1, Reason.MODEL_STALE)])
def test_a_model_is_used_to_the_end_of_its_age(older_us: int, reason: Any) -> None:
    """At exactly `max_model_age_days` a model is still asked, a microsecond later no more."""
    trained_ns = TRAINED_NS + 2 * 10**9 - 2 * DAY_NS - older_us * 1_000
    runner, _, _ = learned("l", served=contract(trained_at_ns=trained_ns), max_model_age_days=2)
    assert reasons([runner.process(each) for each in ticks([1, 1, 1])][-1]) == [reason]


@pytest.mark.parametrize(("limit", "reason"), [(1, Reason.MODEL_STALE), (None, "BUY")])
@pytest.mark.parametrize("trained_at_ns", [0, -5, 2**63 - 1])
def test_model_that_does_not_say_its_age(limit: float | None, reason: Any, trained_at_ns: int) -> None:
    """A model of unknown age is stale where an age is limited, and fine where none is."""
    runner, _, _ = learned("l", served=contract(trained_at_ns=trained_at_ns), max_model_age_days=limit)
    came = [runner.process(each) for each in ticks([1, 1, 1])][-1]
    # 2262 is far ahead, and so no age at all.
    expected = "BUY" if trained_at_ns > 0 else reason
    assert reasons(came) == [expected]
    if expected is Reason.MODEL_STALE:
        assert "does not say when it was trained" in only(came).detail


def test_a_limit_beyond_the_calendar_is_none() -> None:
    """The longest age that can be configured reaches beyond the year 9999 without raising."""
    served = contract(trained_at_ns=2**63 - 1)
    runner, _, _ = learned("l", served=served, max_model_age_days=36_525)
    later = datetime(9998, 1, 1, tzinfo=UTC)
    came = [
        runner.process(replace(each, timestamp=later + timedelta(seconds=index)))
        for index, each in enumerate(ticks([1, 1, 1]))
    ]
    assert reasons(came[-1]) == [Reason.MODEL_STALE]


def test_an_age_without_end_of_a_users_own_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor of a user's own may allow what no calendar holds: its model never grows old."""
    processor = LearnedScripted()
    monkeypatch.setattr(processor, "limits", ModelLimits(max_model_age=timedelta.max), raising=False)
    runner, _, _ = learned_runner({"l": processor}, served=contract(trained_at_ns=TRAINED_NS))
    assert reasons([runner.process(each) for each in ticks([1, 1, 1])][-1]) == ["BUY"]


def test_binding_carries_what_is_served() -> None:
    """A binding names version and digest, when the model was trained, and its range as float32 gives it."""
    _, _, bindings = learned(
        "l", served=contract(trained_at_ns=TRAINED_NS, training_ranges=((0.1, 1e300),) * 2)
    )
    bound = bindings.of("l")
    assert isinstance(bound, Bound)
    assert (bound.version, bound.digest, bound.trained_at) == (4, "d4", OPEN)
    assert bound.training_ranges == ((0.10000000149011612, math.inf),) * 2


def answering(answer: Callable[[Question], Answer]) -> tuple[StrategyRunner, list[int]]:
    """Return a runner over an answer, and the list to which each look at the sidecar is added."""
    looks: list[int] = []

    def describe(models: Sequence[str]) -> Any:
        looks.append(1)
        return description(contract())

    options = {"model": "m", "features": list(FEATURES)}
    executors = create_executors(
        [StrategyConfig(name, "ml_momentum", options, ("paper",), (1,)) for name in "ab"], StrategyFactory()
    )
    bindings = Bindings(wanted_models(executors), describe)
    bindings.refresh()
    bindings.doubt = lambda: looks.append(0)  # type: ignore[method-assign]
    return StrategyRunner(executors, RecordingPredictor(answer), bindings), looks


def test_a_version_that_is_not_the_bound_one_is_a_doubt_once() -> None:
    """H5: new bytes in an answer have the bindings renewed, once and not at each tick; the answer is used."""
    digests = ["d4", "d5", "d5", "d5", "d6"]
    runner, looks = answering(lambda question: yes(question, digest=digests[0]))
    for each in ticks([1, 1, *range(1, 6)]):
        came = runner.process(each)
        if each.timestamp >= OPEN + timedelta(seconds=2):
            assert reasons(came) == ["BUY", "BUY"]
            digests.pop(0)
    assert looks == [1, 0, 0]


def test_the_same_bytes_under_another_number_are_a_doubt_too() -> None:
    """A version is its number and its bytes."""
    runner, looks = answering(lambda question: yes(question, version=5))
    for each in ticks([1, 1, 1, 1]):
        runner.process(each)
    assert looks == [1, 0]


@pytest.mark.parametrize("reason", [Reason.CONTRACT_MISMATCH, Reason.MODEL_NOT_FOUND, Reason.MODEL_NOT_READY])
def test_a_refusal_of_what_was_bound_is_a_doubt(reason: Reason) -> None:
    """H5: where the sidecar says that what was asked is not what it serves, the bindings are renewed."""
    runner, looks = answering(lambda _question: Refusal(reason, "not here"))
    came = [reasons(runner.process(each)) for each in ticks([1, 1, 1])]
    assert came[-1] == [reason] * 2
    assert looks == [1, 0, 0]


def test_a_refusal_of_another_kind_is_no_doubt() -> None:
    """A sidecar that is late or away has said nothing of its models."""
    runner, looks = answering(lambda _question: Refusal(Reason.UNAVAILABLE, "gone"))
    for each in ticks([1, 1, 1]):
        runner.process(each)
    assert looks == [1]


def test_an_answer_under_another_contract_is_a_doubt() -> None:
    """H5: an answer that the contract it was asked under does not cover is not used, and looked into."""
    runner, looks = answering(lambda question: yes(question, contract_hash="h2"))
    came = [reasons(runner.process(each)) for each in ticks([1, 1, 1])]
    assert came[-1] == [Reason.CONTRACT_MISMATCH] * 2
    assert looks == [1, 0, 0]


@pytest.mark.parametrize(
    ("probability", "outcome"),
    [
        (0.75, "BUY"),
        (0.55, Reason.BELOW_THRESHOLD),
        (1.5, Reason.INVALID_SIGNAL),
        (math.nan, Reason.NON_FINITE),
    ],
)
def test_metadata_says_what_answered_whatever_came_of_it(probability: float, outcome: Any) -> None:
    """Each outcome of an answer names the bytes, the features, the probabilities and the threshold."""

    def answer(question: Question) -> Prediction:
        given = yes(question)
        given.outputs["probabilities"][:] = [1 - probability, probability]
        return given

    runner, _, _ = learned("l", served=contract())
    runner._predictor = RecordingPredictor(answer)
    (came,) = [runner.process(each) for each in ticks([100, 100, 100])][-1]
    assert reasons([came]) == [outcome]
    metadata = dict(came.metadata)
    assert metadata.pop("latency_us") >= 0
    assert str(metadata.pop("probability")) == str(max(1 - probability, probability))
    assert list(metadata.pop("probabilities")) == ["0", "1"]
    assert metadata == {
        "model": "m",
        "version": 4,
        "digest": "d4",
        "contract_hash": "h1",
        "features": {"price": 100.0, "return_3": 0.0},
        "confidence_threshold": 0.6,
        "request_id": "r-1",
    }


def test_metadata_of_an_answer_under_another_contract_names_its_bytes() -> None:
    """H5: a mismatch says which bytes it was that answered."""
    runner, _, _ = learned("l", served=contract())
    runner._predictor = RecordingPredictor(lambda question: yes(question, contract_hash="h2", digest="d9"))
    outcome = only([runner.process(each) for each in ticks([1, 1, 1])][-1])
    assert outcome.reason is Reason.CONTRACT_MISMATCH
    assert (outcome.metadata["digest"], outcome.metadata["contract_hash"]) == ("d9", "h2")


def test_metadata_is_empty_where_nothing_answered() -> None:
    """Without an answer there is nothing to name."""
    runner, _, _ = learned("l", served=contract(training_ranges=RANGES))
    assert [only(runner.process(each)).metadata for each in ticks([1, 1, 1])] == [{}, {}, {}]


def test_processor_of_a_users_own_has_the_default_limits() -> None:
    """A processor that names no limits refuses outside of the training range and has no oldest age."""
    runner, _, _ = learned_runner(
        {"l": LearnedScripted()}, served=contract(training_ranges=((0.0, 1.0),) * 2)
    )
    assert reasons(last(runner)) == [Reason.OUT_OF_RANGE]
    assert isinstance(last(learned_runner({"l": LearnedScripted()})[0])[0], Signal)


def test_a_range_that_is_nan_is_no_new_contract_at_each_look() -> None:
    """A feature that was always missing in training has a range of NaN; the binding stays the same object."""
    served = [contract(training_ranges=((float("nan"), float("nan")), (0.0, 1.0))) for _ in range(2)]
    _, _, bindings = learned("l", served=served[0])
    before = bindings.of("l")
    bindings._describe = lambda _models: description(served[1])
    bindings.refresh()
    assert bindings.of("l") is before
