"""What strategies of one instrument share is shared only where it is the same."""

import copy
import json
import pickle
from decimal import Decimal

import pytest
from fixtures_runner import (
    FEATURES,
    RecordingPredictor,
    config,
    contract,
    description,
    last,
    learned_runner,
    yes,
)
from fixtures_ticks import tick

from strategy_client.bindings import Bindings
from strategy_client.configuration import EmissionConfig, StrategyConfig
from strategy_client.events import NoSignal, Reason, Signal
from strategy_client.executor import StrategyExecutor
from strategy_client.factory import StrategyFactory
from strategy_client.features import FeatureSet
from strategy_client.lineup import wanted_models
from strategy_client.predictor.port import Prediction
from strategy_client.processors.classifier import ClassifierOptions, ClassifierProcessor
from strategy_client.processors.model import ClassMeanings, ModelReference, PredictionRow
from strategy_client.reading import Reading
from strategy_client.runner import StrategyRunner


def executor(name, lookback, kind="momentum", tokens=(1,), **parameters):
    given = {"lookback_periods": lookback, **parameters}
    config = StrategyConfig(name, kind, given, ("paper",), tokens)
    return StrategyExecutor(StrategyFactory().create_processor(kind, given), config)


def test_one_history_serves_those_that_began_together_and_look_back_equally_far():
    """A history costs its appends a tick; two of one length, begun together, would hold the same ticks."""
    runner = StrategyRunner(
        [executor(name, periods) for name, periods in zip("abcd", (3, 4, 4, 3), strict=True)]
    )
    (instrument,) = runner._instruments.values()
    assert [len(instrument.histories), len(instrument.traditional)] == [2, 4]
    for second in range(3):
        runner.process(tick(100 + second, second=second))
    assert [len(strategy.history) for _, strategy in instrument.traditional] == [3] * 4


def test_a_strategy_that_begins_later_warms_up_by_itself():
    """One that is added over a change does not look at ticks of before it, as if it had been there."""
    first = executor("a", 3, momentum_threshold="0.001")
    runner = StrategyRunner([first])
    for second, price in enumerate((100, 101, 102)):
        runner.process(tick(price, second=second))
    runner.change([first, executor("b", 3, momentum_threshold="0.001")])
    old, new = runner.process(tick(103, second=3))
    assert isinstance(old, Signal)
    assert (new.reason, len(runner._instruments[1].histories)) == (Reason.WARMING_UP, 2)


def test_a_strategy_that_is_enabled_later_is_as_it_is_alone():
    """By when a z-score began its last bits differ: they do not hang on whether another one asked before."""
    told = []
    for others in ([], [executor("other", 5, "mean_reversion")]):
        late = executor("late", 5, "mean_reversion", std_deviation_threshold=0.01)
        late.enabled = False
        runner = StrategyRunner([*others, late])
        for second in range(60):
            late.enabled = second > 7
            price = f"{100 + (second * 7919 % 101) / 100:.2f}"
            told.append(runner.process(tick(price, second=second))[-1])
    assert told[:60] == told[60:]
    assert sum(isinstance(each, Signal) for each in told) > 60


def test_instruments_share_no_history():
    """ORIGIN defect 1: strategies of one length on two instruments see the ticks of their own."""
    runner = StrategyRunner([executor("a", 2, momentum_threshold="0.05", tokens=(1, 2))])
    runner.process(tick(100, 1))
    runner.process(tick(200, 2))
    assert [runner.process(tick(101, 1, second=1))[0].reason] == [Reason.HOLD]


def test_counts_are_told_by_name():
    """BUY, SELL and each reason as they stand in records, whatever they are counted by."""
    one = executor("a", 2, momentum_threshold="0.05")
    runner = StrategyRunner([one])
    for second, price in enumerate((100, 101, 120, 100)):
        runner.process(tick(price, second=second))
    assert one.counts == {"WARMING_UP": 1, "HOLD": 1, "BUY": 1, "SELL": 1}


def test_metadata_is_of_its_own_tick_and_threshold():
    """Two thresholds, two ticks: each outcome tells its own; the same in turn share one object."""
    reading = Reading(Prediction("m", 1, "d", "h", {}), PredictionRow(), {}, None)
    first, second = {"request_id": "1"}, {"request_id": "2"}
    asked = [(first, 0.6), (first, 0.6), (first, 0.7), (second, 0.7), (second, None), (first, None)]
    told = [reading.metadata(*each) for each in asked]
    assert told[0] is told[1]
    assert [each["request_id"] for each in told] == ["1", "1", "1", "2", "2", "1"]
    assert [each.get("confidence_threshold") for each in told] == [0.6, 0.6, 0.7, 0.7, None, None]
    assert all(each["model"] == "m" for each in told)


def classifier(threshold, kind=ClassifierProcessor):
    options = ClassifierOptions(
        confidence_threshold=threshold, position_size=5, outside_training_range="count"
    )
    return kind("ml", ModelReference("m"), FeatureSet(FEATURES), options)


def test_classifiers_of_one_rule_in_turn_conclude_once():
    """One threshold, one meaning of the classes, one tick: one verdict; of any other a verdict of its own."""
    meanings = ClassMeanings()
    reading = Reading(Prediction("m", 1, "d", "h", {}), PredictionRow("1", (0.3, 0.7)), {}, meanings)
    first, second = {"request_id": "1"}, {"request_id": "2"}
    turned = classifier(0.6)
    turned.bind(ClassMeanings(("0", "1"), ("BUY", "SELL")))
    asked = [(0.6, first), (0.6, first), (0.6, second), (0.7, second)]
    told = [reading.conclude(classifier(threshold), provenance) for threshold, provenance in asked]
    told.append(reading.conclude(turned, second))
    assert told[0] is told[1]
    assert [verdict for verdict, _ in told] == [
        *[("BUY", 0.7)] * 3,
        Reason.BELOW_THRESHOLD,
        ("SELL", 0.7),
    ]
    assert [metadata["request_id"] for _, metadata in told] == ["1", "1", "2", "2", "2"]


def test_what_is_derived_from_a_classifier_of_ours_is_asked_itself():
    """A user's class may interpret as it likes, for each strategy, beside one of ours with the same rule."""

    class Contrary(ClassifierProcessor):
        def interpret(self, now, features, prediction):
            raise LookupError("contrary")

    logics = {"ours": classifier(0.6), "theirs": classifier(0.6, Contrary), "ours too": classifier(0.6)}
    ours, theirs, again = last(learned_runner(logics)[0])
    assert isinstance(ours, Signal)
    assert isinstance(again, Signal)
    assert ours.metadata is again.metadata
    assert (theirs.reason, theirs.metadata["model"]) == (Reason.PROCESSOR_ERROR, "m")


def test_peers_are_as_each_by_itself():
    """Of one model and row each has its own rule, limits and counts, and is asked or not for itself."""
    changes = {
        "first": {},
        "next": {"max_position_size": 3},
        "doubled": {"risk_multiplier": Decimal(2)},
        "sure": {},
        "disabled": {"enabled": False},
        "once": {"emission": EmissionConfig(edge_trigger=True)},
        "last": {},
    }
    thresholds = {"sure": 0.8, "last": 0.7}

    def said_by(names):
        executors = [
            StrategyExecutor(classifier(thresholds.get(name, 0.6)), config(name, **changes[name]))
            for name in names
        ]
        served = contract(training_ranges=((0.0, 101.0), (-1.0, 1.0)))
        bindings = Bindings(wanted_models(executors), lambda _models: description(served))
        bindings.refresh()
        runner = StrategyRunner(executors, RecordingPredictor(yes), bindings)
        outcomes = [runner.process(tick(100 + second, second=second)) for second in range(6)]
        told = [
            [each._replace(metadata={**each.metadata, "latency_us": 0}) for each in of_tick]
            for of_tick in outcomes
        ]
        return told, runner, {each.strategy_id: each.counts for each in executors}

    together, runner, counts = said_by(changes)
    for place, name in enumerate(changes):
        alone, by_itself, its_counts = said_by([name])
        assert [of_tick[place] for of_tick in together] == [outcome for (outcome,) in alone]
        assert runner.drift[name] == by_itself.drift[name]
        assert runner.answered_by[name] == by_itself.answered_by[name]
        assert counts[name] == its_counts[name]
    assert {told.quantity for told in together[-1] if isinstance(told, Signal)} == {5, 3, 10}


def test_other_limits_hold_from_the_next_signal_on():
    """The quantity that the limits let through is remembered, and only as long as they are the same."""
    one = StrategyExecutor(classifier(0.6), config("a"))
    given = (tick(100), "BUY", 0.7, 5, {})
    quantities = []
    for changes in ({}, {"max_position_size": 3}, {"risk_multiplier": Decimal(2)}):
        one.reconfigure(config("a", **changes))
        quantities.append(one.signal(*given).quantity)
    assert quantities == [5, 3, 10]


def test_outcomes_are_frozen():
    """What was decided stays as it was decided."""
    outcome = NoSignal("a", 1, tick(1).timestamp, Reason.HOLD)
    for name in ("reason", "other"):
        try:
            setattr(outcome, name, Reason.STALE_TICK)
        except AttributeError:
            continue
        raise AssertionError(name)


def test_an_outcome_without_metadata_can_be_copied_and_written():
    """It goes to another process, into JSON and through a copy as one with metadata does."""
    outcome = NoSignal("a", 1, tick(1).timestamp, Reason.HOLD)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        came = pickle.loads(pickle.dumps(outcome, protocol))  # noqa: S301 - our own bytes
        assert came == outcome
        assert came.reason is Reason.HOLD
    assert copy.deepcopy(outcome) == outcome
    assert json.dumps(outcome.metadata) == repr(outcome.metadata) == "{}"


@pytest.mark.parametrize(
    "write",
    [
        lambda metadata: metadata.update(a=1),
        lambda metadata: metadata.setdefault("a", 1),
        lambda metadata: metadata.__setitem__("a", 1),
        lambda metadata: metadata.__ior__({"a": 1}),
    ],
    ids=["update", "setdefault", "item", "or"],
)
def test_no_metadata_stays_none(write):
    """All outcomes without metadata share it: what one was given would be everyone's."""
    outcome = NoSignal("a", 1, tick(1).timestamp, Reason.HOLD)
    with pytest.raises(TypeError, match="not to be written to"):
        write(outcome.metadata)
    assert NoSignal("b", 1, tick(1).timestamp, Reason.HOLD).metadata == {}
