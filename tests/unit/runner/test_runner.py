"""A tick in, one outcome a strategy out."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from fixtures_clock import Clock
from fixtures_features import Touchy
from fixtures_runner import (
    FEATURES,
    LearnedScripted,
    RecordingPredictor,
    Scripted,
    Settled,
    buys,
    config,
    contract,
    description,
    last,
    learned_runner,
    reasons,
    run,
    yes,
)
from fixtures_ticks import tick, ticks
from sidecars import eventually

from strategy_client.binding import Wanted
from strategy_client.bindings import Bindings
from strategy_client.configuration import ConfigurationError
from strategy_client.events import MarketTick, NoSignal, Reason, Signal, SignalResult
from strategy_client.executor import MAX_LOGGED_ERRORS, StrategyExecutor
from strategy_client.feature_row import FeatureRow
from strategy_client.features import FeatureSet
from strategy_client.predictor.backoff import Backoff, BackoffOptions
from strategy_client.predictor.description import (
    OutputKind,
    OutputMeaning,
)
from strategy_client.predictor.port import Answer, Question, Refusal
from strategy_client.processors.classifier import create_classifier
from strategy_client.processors.model import ClassMeanings, ModelReference
from strategy_client.runner import RunnerOptions, StrategyRunner


def test_signal_takes_price_and_time_from_the_tick() -> None:
    """A signal's price is the tick's, whatever the processor says."""
    outcome = run(lambda now, history: SignalResult("SELL", 1, 3, Decimal(7)))
    assert isinstance(outcome, Signal)
    assert (outcome.signal_type, outcome.price, outcome.quantity) == ("SELL", Decimal(100), 3)
    assert outcome.timestamp == tick(100).timestamp


@pytest.mark.parametrize(
    ("result", "names"),
    [
        (SignalResult("BUY", 1.01, 1, Decimal(1)), "confidence"),
        (SignalResult("BUY", -0.1, 1, Decimal(1)), "confidence"),
        (SignalResult("BUY", float("nan"), 1, Decimal(1)), "confidence"),
        (SignalResult("BUY", 0.5, 0, Decimal(1)), "quantity"),
        (SignalResult("BUY", 0.5, 1.5, Decimal(1)), "quantity"),  # type: ignore[arg-type] a user's slip
        (SignalResult("BUY", 0.5, 1, Decimal(0)), "price"),
        (SignalResult("BUY", 0.5, 1, Decimal("NaN")), "price"),
        (SignalResult("LONG", 0.5, 1, Decimal(1)), "signal_type"),  # type: ignore[arg-type] a user's slip
    ],
)
def test_invalid_signal_names_what_is_wrong(result: SignalResult, names: str) -> None:
    """Each rule of validation refuses with INVALID_SIGNAL and the field's name."""
    outcome = run(lambda now, history: result)
    assert isinstance(outcome, NoSignal)
    assert outcome.reason is Reason.INVALID_SIGNAL
    assert names in outcome.detail


def test_hold_is_never_emitted() -> None:
    """None and a HOLD result are both the reason HOLD."""
    for result in (None, SignalResult("HOLD", 0.5, 1, Decimal(1))):
        outcome = run(lambda now, history, result=result: result)
        assert reasons([outcome]) == [Reason.HOLD]


@pytest.mark.parametrize(
    ("limits", "quantity"),
    [
        ({"max_position_size": 4}, 4),
        ({"risk_multiplier": Decimal("0.5")}, 5),
        ({"risk_multiplier": Decimal(3), "max_position_size": 20}, 20),
    ],
)
def test_limits_hold_the_quantity(limits: dict[str, Any], quantity: int) -> None:
    """The quantity is scaled by the multiplier, then capped by the position size."""
    outcome = run(buys, **limits)
    assert isinstance(outcome, Signal)
    assert outcome.quantity == quantity


def test_quantity_scaled_to_nothing_is_invalid() -> None:
    """A multiplier that leaves less than one unit gives no signal."""
    assert reasons([run(buys, risk_multiplier=Decimal("0.01"))]) == [Reason.INVALID_SIGNAL]


def test_disabled_strategy_is_silent_but_stays_warm() -> None:
    """A disabled strategy says DISABLED; its history goes on, so that it is warm when it is enabled."""
    executor = StrategyExecutor(Scripted(buys, length=3), config("s", enabled=False))
    runner = StrategyRunner([executor])
    came = [runner.process(each) for each in ticks([1, 2])]
    executor.enabled = True
    came.append(runner.process(tick(3, second=2)))
    assert [reasons(each) for each in came] == [[Reason.DISABLED], [Reason.DISABLED], ["BUY"]]


def test_warming_up_until_the_history_is_long_enough() -> None:
    """Before its required history a processor is not called."""
    runner = StrategyRunner([StrategyExecutor(Scripted(buys, length=3), config("s"))])
    assert [reasons(runner.process(each))[0] for each in ticks([1, 2, 3])] == [
        Reason.WARMING_UP,
        Reason.WARMING_UP,
        "BUY",
    ]


def test_a_processor_that_raises_degrades_only_itself(caplog: pytest.LogCaptureFixture) -> None:
    """H8: the others go on, the traceback is in the log, and a raise on every tick does not fill it."""

    def fails(now: MarketTick, history: Sequence[MarketTick]) -> None:
        raise ZeroDivisionError("bad luck")

    bad = StrategyExecutor(Scripted(fails), config("bad"))
    runner = StrategyRunner([bad, StrategyExecutor(Scripted(buys), config("good"))])
    for each in ticks([1] * (MAX_LOGGED_ERRORS + 5)):
        outcomes = runner.process(each)
        assert reasons(outcomes) == [Reason.PROCESSOR_ERROR, "BUY"]
    assert isinstance(outcomes[0], NoSignal)
    assert outcomes[0].detail == "ZeroDivisionError: bad luck"
    assert bad.counts["PROCESSOR_ERROR"] == MAX_LOGGED_ERRORS + 5
    assert len(caplog.records) == MAX_LOGGED_ERRORS
    assert caplog.records[0].exc_info


@pytest.mark.parametrize(
    ("price", "reason"),
    [
        ("NaN", Reason.NON_FINITE),
        ("sNaN", Reason.NON_FINITE),
        ("Infinity", Reason.NON_FINITE),
        ("1e999", Reason.NON_FINITE),
        ("0", Reason.OUT_OF_RANGE),
        ("-1", Reason.OUT_OF_RANGE),
    ],
)
def test_bad_price_is_refused_at_the_edge(price: str, reason: Reason) -> None:
    """H6: a bad price gives every strategy its reason, reaches no history, and is counted."""
    seen: list[int] = []
    runner = StrategyRunner(
        [
            StrategyExecutor(Scripted(lambda now, history: seen.append(len(history)), 2), config("a")),
            StrategyExecutor(Scripted(buys), config("b")),
        ]
    )
    runner.process(tick(100))
    assert reasons(runner.process(tick(price))) == [reason, reason]
    runner.process(tick(101))
    assert seen == [2]
    assert runner.counts.invalid == 1


def test_naive_time_is_refused() -> None:
    """A tick whose time has no zone is STALE_TICK: its age cannot be told."""
    naive = MarketTick(1, Decimal(1), tick(1).timestamp.replace(tzinfo=None))
    runner = StrategyRunner([StrategyExecutor(Scripted(buys), config("s"))])
    assert reasons(runner.process(naive)) == [Reason.STALE_TICK]


def test_unknown_instrument_touches_no_strategy() -> None:
    """H6: a tick that no strategy looks at has no outcome and is counted."""
    runner = StrategyRunner([StrategyExecutor(Scripted(buys), config("s"))])
    assert runner.process(tick(1, token=99)) == []
    assert runner.counts.unknown_instrument == 1


def test_ticks_from_the_past_are_counted() -> None:
    """H6: a tick older than the newest of its instrument is counted; an equal time is not."""
    runner = StrategyRunner([StrategyExecutor(Scripted(buys), config("s"))])
    for second in (5, 5, 3, 6):
        runner.process(tick(1, second=second))
    assert runner.counts.out_of_order == 1


def test_instruments_have_histories_of_their_own() -> None:
    """One strategy on two instruments never sees the one in the history of the other."""
    mixed: list[set[int]] = []
    watch = Scripted(lambda now, history: mixed.append({each.instrument_token for each in history}), 2)
    runner = StrategyRunner([StrategyExecutor(watch, config("s", (1, 2)))])
    for pair in zip(ticks([1, 2, 3]), ticks([9, 8, 7], token=2), strict=True):
        for each in pair:
            runner.process(each)
    assert mixed == [{1}, {2}, {1}, {2}]


def test_two_strategies_of_one_id_are_refused() -> None:
    """Two strategies of one id could not be told apart."""
    with pytest.raises(ConfigurationError, match="'s' stands twice"):
        StrategyRunner([StrategyExecutor(Scripted(buys), config("s")) for _ in range(2)])


def test_instrument_that_is_not_supported_is_refused() -> None:
    """An instrument that the processor does not take is refused at the start."""
    with pytest.raises(ConfigurationError, match="does not support instrument 13"):
        StrategyRunner([StrategyExecutor(Scripted(buys), config("s", (13,)))])


def test_processor_that_cannot_say_what_it_supports_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """H9: what a user's `supports_instrument` raises is told as a problem of the strategy."""

    def supports_instrument(self: Scripted, token: int) -> bool:
        raise LookupError("no such file\n")

    monkeypatch.setattr(Scripted, "supports_instrument", supports_instrument)
    told = r"^instrument_tokens: strategy 's' cannot say .* instrument 1: LookupError: no such file \("
    with pytest.raises(ConfigurationError, match=told):
        StrategyRunner([StrategyExecutor(Scripted(buys), config("s"))])


def test_an_instrument_that_stands_twice_is_refused() -> None:
    """A strategy has one outcome a tick: an instrument named twice would give it two, and two orders."""
    with pytest.raises(ConfigurationError, match="'s' names instrument 2 twice"):
        StrategyRunner([StrategyExecutor(Scripted(buys), config("s", (2, 1, 2)))])


def test_learned_signal_carries_its_provenance() -> None:
    """A learned signal names model, version, digest, contract, probabilities, features and request."""
    runner, _, _ = learned_runner({"l": LearnedScripted()})
    (outcome,) = last(runner)
    assert isinstance(outcome, Signal)
    assert (outcome.price, outcome.confidence) == (Decimal(102), 0.75)
    metadata = dict(outcome.metadata)
    assert metadata.pop("latency_us") >= 0
    assert metadata.pop("features") == {"price": 102.0, "return_3": pytest.approx(0.02)}
    assert metadata == {
        "own": 1,
        "model": "m",
        "version": 4,
        "digest": "d4",
        "contract_hash": "h1",
        "probability": 0.75,
        "probabilities": {"0": 0.25, "1": 0.75},
        "request_id": "r-1",
    }
    assert runner.answered_by == {"l": {("m", 4, "d4"): 1}}


def test_no_question_while_warming_up() -> None:
    """ORIGIN defect 2: nothing is asked before the window is full; then one request a tick."""
    runner, predictor, _ = learned_runner({"l": LearnedScripted()})
    came = [reasons(runner.process(each)) for each in ticks([100, 101, 102, 103])]
    assert came == [[Reason.WARMING_UP], [Reason.WARMING_UP], ["BUY"], ["BUY"]]
    assert len(predictor.requests) == 2


def test_equal_rows_are_asked_once_and_all_in_one_request() -> None:
    """Two strategies with equal model and features share a row; all models go in one request."""
    other = LearnedScripted(ModelReference("m", version=4))
    runner, predictor, _ = learned_runner({"a": LearnedScripted(), "b": LearnedScripted(), "c": other})
    assert reasons(last(runner)) == ["BUY"] * 3
    ((first, second),) = predictor.requests
    assert (first.features.shape, second.features.shape) == ((1, 2), (1, 2))
    assert (first.version, second.version, first.contract_hash) == (0, 4, "h1")


def test_request_leaves_before_the_traditional_ones_run() -> None:
    """The learned strategies' request is on its way while the traditional ones run."""
    events: list[str] = []

    def notes(now: MarketTick, history: Sequence[MarketTick]) -> None:
        events.append("traditional")

    runner, predictor, _ = learned_runner(
        {"l": LearnedScripted()}, extra=[StrategyExecutor(Scripted(notes), config("t"))]
    )
    predictor.events = events
    last(runner)
    assert events[-2:] == ["submit", "traditional"]


def test_traditional_ones_run_first_while_requests_are_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """H4: with the breaker open they wait for nothing; a request that is sent goes first."""
    events: list[str] = []
    extract = FeatureRow.update

    def update(row: FeatureRow, price: float) -> None:
        events.append("features")
        extract(row, price)

    monkeypatch.setattr(FeatureRow, "update", update)
    notes = Scripted(lambda now, history: events.append("traditional"))
    runner, predictor, _ = learned_runner(
        {"l": LearnedScripted()}, extra=[StrategyExecutor(notes, config("t"))]
    )
    predictor.events = events
    last(runner)

    def order(request_id: str) -> list[str]:
        monkeypatch.setattr(Settled, "request_id", request_id)
        events.clear()
        runner.process(tick(103, second=3))
        return list(events)

    before, after = ["features", "submit", "traditional"], ["traditional", "features", "submit"]
    assert [order(""), order(""), order("r"), order("r")] == [before, after, after, before]


@pytest.mark.parametrize("reason", [Reason.DEADLINE_EXCEEDED, Reason.BREAKER_OPEN, Reason.MODEL_NOT_FOUND])
def test_refusal_becomes_the_outcome(reason: Reason) -> None:
    """What the predictor refuses is the strategy's reason, with its detail."""
    runner, _, _ = learned_runner({"l": LearnedScripted()}, lambda _: Refusal(reason, "why"))
    (outcome,) = last(runner)
    assert isinstance(outcome, NoSignal)
    assert (outcome.reason, outcome.detail) == (reason, "why")


def test_answer_under_another_contract_is_not_used() -> None:
    """H5: an answer that names another contract than the bound one is CONTRACT_MISMATCH, never read."""
    processor = LearnedScripted()
    runner, _, _ = learned_runner({"l": processor}, lambda q: yes(q, contract_hash="h2"))
    assert reasons(last(runner)) == [Reason.CONTRACT_MISMATCH]
    assert processor.rows == []


def test_new_version_of_the_same_contract_is_used_at_once() -> None:
    """Another version under the same contract answers without a gap, and both are counted."""
    versions = iter([4, 5, 5])
    runner, _, _ = learned_runner({"l": LearnedScripted()}, lambda q: yes(q, version=next(versions)))
    came = [reasons(runner.process(each)) for each in ticks([1, 2, 3, 4, 5])]
    assert came[2:] == [["BUY"]] * 3
    assert runner.answered_by["l"] == {("m", 4, "d4"): 1, ("m", 5, "d4"): 2}


@pytest.mark.parametrize(
    "outputs",
    [
        {},
        {"label": np.ones(1), "probabilities": np.array([])},
        {"probabilities": np.ones((1, 2))},
        {"label": np.ones(1), "probabilities": np.ones(1)},
    ],
)
def test_answer_without_what_the_contract_promises_degrades_only_itself(outputs: dict[str, Any]) -> None:
    """An output that is missing, empty or of one number a row is CONTRACT_MISMATCH, and names the bytes."""
    runner, _, _ = learned_runner(
        {"l": LearnedScripted()},
        lambda q: yes(q, outputs=outputs),
        extra=[StrategyExecutor(Scripted(buys), config("other"))],
    )
    refused, other = last(runner)
    assert reasons([refused, other]) == [Reason.CONTRACT_MISMATCH, "BUY"]
    assert isinstance(refused, NoSignal)
    assert refused.detail.startswith("the answer lacks what the contract promises: ")
    assert refused.metadata["digest"] == "d4"


def test_row_beyond_float32_is_not_sent() -> None:
    """A feature that is no finite float32 is NON_FINITE and names the feature; nothing is asked."""
    runner, predictor, _ = learned_runner({"l": LearnedScripted()})
    (outcome,) = last(runner, ["1e200", "1e200", "1e200"])
    assert isinstance(outcome, NoSignal)
    assert (outcome.reason, outcome.detail) == (Reason.NON_FINITE, "price is inf")
    assert predictor.requests == []


def test_own_feature_that_raises_degrades_only_its_strategies() -> None:
    """H8: a feature that raises is PROCESSOR_ERROR on its tick, then a warm-up from nothing.

    The others of its set have been told the price by then: none of what they hold is used again.
    """
    features = FeatureSet(("return_3", "fixtures_features:Touchy"))
    runner, predictor, _ = learned_runner(
        {"l": LearnedScripted(features=features)},
        extra=[StrategyExecutor(Scripted(buys), config("t"))],
        served=contract(feature_names=features.names),
    )
    came = [reasons(runner.process(each)) for each in ticks([1, 2, 3, 666, 666, 4, 5, 6])]
    assert [each[0] for each in came] == [
        *[Reason.WARMING_UP, Reason.WARMING_UP, "BUY"],
        *[Reason.PROCESSOR_ERROR, Reason.PROCESSOR_ERROR],
        *[Reason.WARMING_UP, Reason.WARMING_UP, "BUY"],
    ]
    assert {each[1] for each in came} == {"BUY"}
    assert predictor.requests[-1][0].features.tolist() == [[0.5, 6.0]]


def test_own_feature_that_cannot_start_degrades_only_its_strategies(monkeypatch: pytest.MonkeyPatch) -> None:
    """H8: a feature whose stream cannot be made is PROCESSOR_ERROR on each tick."""
    monkeypatch.setattr(Touchy, "stream", lambda self: 1 / 0)
    features = FeatureSet(("price", "fixtures_features:Touchy"))
    runner, _, _ = learned_runner(
        {"l": LearnedScripted(features=features)}, extra=[StrategyExecutor(Scripted(buys), config("t"))]
    )
    came = [reasons(runner.process(each)) for each in ticks([1, 2, 3])]
    assert came == [[Reason.PROCESSOR_ERROR, "BUY"]] * 3


def test_processor_is_told_the_meanings_once_a_binding() -> None:
    """`bind` is called on the tick path when the binding is new, and not again while it stays."""
    processor = LearnedScripted()
    runner, _, bindings = learned_runner({"l": processor}, tokens=(1,))
    last(runner, range(1, 8))
    bindings.refresh()
    last(runner, range(1, 8))
    assert processor.bound == [ClassMeanings(("0", "1"), ("SELL", "BUY"))]


def test_an_answer_is_read_under_the_meanings_that_it_was_asked_under() -> None:
    """H5: a tick of another instrument, asked under a new contract meanwhile, turns no BUY into a SELL."""
    served = contract()

    def answer(question: Question) -> Answer:
        return yes(question, contract_hash=question.contract_hash)

    processor = create_classifier("c", lambda _: FEATURES, {"model": "m"})
    wanted = Wanted("l", processor.model, processor.features)
    bindings = Bindings([wanted], lambda _models: description(served))
    bindings.refresh()
    executors = [StrategyExecutor(processor, config("l", (1, 2)))]
    runner = StrategyRunner(executors, RecordingPredictor(answer), bindings)
    for token in (1, 2):
        for each in ticks([1, 2, 3], token):
            runner.process(each)
    first = runner.begin(tick(4, token=1, second=4))
    meanings = (("0", "1"), ("BUY", "SELL"))
    outputs = (OutputMeaning("probabilities", OutputKind.PROBABILITIES, *meanings),)
    served = contract(hash="h2", outputs=outputs)
    bindings.refresh()
    second = runner.begin(tick(4, token=2, second=4))
    assert [reasons(runner.finish(pending)) for pending in (first, second)] == [["BUY"], ["SELL"]]


@pytest.mark.parametrize("refused", [True, False], ids=["refused", "answered under the new contract"])
def test_another_contract_is_bound_again_by_itself(refused: bool) -> None:
    """H5: a model swapped to a contract with other meanings is bound anew, and the processor told.

    Until then each tick is CONTRACT_MISMATCH; nobody but the strategy itself has to notice.
    """
    served = contract()

    def answer(question: Question) -> Answer:
        if refused and question.contract_hash != served.hash:
            return Refusal(Reason.CONTRACT_MISMATCH, "another contract is served")
        return yes(question, contract_hash=served.hash)

    processor = LearnedScripted()
    bindings = Bindings(
        [Wanted("l", processor.model, processor.features)],
        lambda _models: description(served),
        Backoff(BackoffOptions(first_ms=1, longest_ms=1)),
    )
    executors = [StrategyExecutor(processor, config("l"))]
    runner = StrategyRunner(executors, RecordingPredictor(answer), bindings)
    bindings.start()
    assert reasons(last(runner)) == ["BUY"]
    outputs = (
        OutputMeaning("label", OutputKind.LABEL, ("0", "1"), ("BUY", "SELL")),
        OutputMeaning("probabilities", OutputKind.PROBABILITIES, ("0", "1"), ("BUY", "SELL")),
    )
    served = contract(hash="h2", outputs=outputs)
    assert reasons(runner.process(tick(103, second=3))) == [Reason.CONTRACT_MISMATCH]
    eventually(lambda: reasons(runner.process(tick(104, second=3))) == ["BUY"], "the strategy is bound again")
    bindings.close()
    assert [each.meanings for each in processor.bound] == [("SELL", "BUY"), ("BUY", "SELL")]


def test_runner_without_a_sidecar_says_so() -> None:
    """Learned strategies of a runner without a predictor are UNAVAILABLE."""
    runner = StrategyRunner([StrategyExecutor(LearnedScripted(), config("l"))])
    assert reasons(last(runner)) == [Reason.UNAVAILABLE]
    _, _, bindings = learned_runner({"l": LearnedScripted()})
    told = StrategyRunner([StrategyExecutor(LearnedScripted(), config("l"))], bindings=bindings)
    assert reasons(last(told)) == [Reason.UNAVAILABLE]


def test_a_strategy_may_need_no_history() -> None:
    """A processor that asks for no history sees the tick itself, as one that asks for one tick does."""
    seen: list[int] = []
    act = Scripted(lambda _now, history: seen.append(len(history)), 0)
    last(StrategyRunner([StrategyExecutor(act, config("s"))]))
    assert seen == [1, 1, 1]


def test_a_tick_has_its_deadline_and_its_latency() -> None:
    """The sidecar has `deadline_ms` from when the question left; the latency is in microseconds from then."""
    clock = Clock(7_000_000_000)
    deadlines: list[int] = []

    class Slow(RecordingPredictor):
        def submit(self, questions: Sequence[Question], deadline_ns: int) -> Settled:
            deadlines.append(deadline_ns)
            clock.now_ns += 1_234_567
            return super().submit(questions, deadline_ns)

    _, _, bindings = learned_runner({"l": LearnedScripted()})
    executors = [StrategyExecutor(LearnedScripted(), config("l"))]
    runner = StrategyRunner(executors, Slow(yes), bindings, RunnerOptions(deadline_ms=20), clock)
    (outcome,) = last(runner)
    assert deadlines == [7_020_000_000]
    assert outcome.metadata["latency_us"] == 1_234


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"feature_names": ("price", "return_4")}, "feature 1 is 'return_3' in the strategy and 'return_4'"),
        ({"feature_names": ("return_3", "price")}, "feature 0 is 'price'"),
        ({"feature_names": (*FEATURES, "zscore_5")}, "'zscore_5' is the first"),
        ({"feature_names": ("price",)}, "'return_3' is the first"),
        ({"window": 20}, "window is 20"),
        ({"includes_current_tick": False}, "current tick"),
    ],
)
def test_contract_mismatch_names_the_first_difference(change: dict[str, Any], names: str) -> None:
    """ORIGIN defect 5: features that are not the contract's are refused at the start, by name."""
    runner, predictor, _ = learned_runner({"l": LearnedScripted()}, served=contract(**change))
    (outcome,) = last(runner)
    assert isinstance(outcome, NoSignal)
    assert outcome.reason is Reason.CONTRACT_MISMATCH
    assert names in outcome.detail
    assert predictor.requests == []
