"""A line-up that changes between two ticks."""

import gc
import weakref
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from fixtures_runner import (
    FEATURES,
    LearnedScripted,
    RecordingPredictor,
    Scripted,
    buys,
    config,
    contract,
    description,
    learned_runner,
    reasons,
    yes,
)
from fixtures_ticks import tick, ticks

from strategy_client.bindings import Bindings
from strategy_client.configuration import ConfigurationError, EmissionConfig
from strategy_client.events import Reason, Signal
from strategy_client.executor import StrategyExecutor
from strategy_client.features import FeatureSet
from strategy_client.lineup import wanted_models
from strategy_client.runner import StrategyRunner


def watch(name: str, length: int = 1, tokens: Sequence[int] = (1,), **changes: Any) -> StrategyExecutor:
    """Return a strategy that buys as many units as its history is long."""
    act = Scripted(lambda now, history: replace(buys(now, history), quantity=len(history)), length)
    return StrategyExecutor(act, config(name, tokens, **changes))


def quantities(runner: StrategyRunner, **where: Any) -> list[Any]:
    """Return the quantity or the reason of each strategy at a tick."""
    return [
        outcome.quantity if isinstance(outcome, Signal) else outcome.reason
        for outcome in runner.process(tick(1, **where))
    ]


def test_what_stays_keeps_its_history_and_what_is_new_begins() -> None:
    """The same executor goes on where it was; a new one of the same id starts from nothing."""
    stays, goes, replaced = watch("stays", 3), watch("goes", 3), watch("replaced", 3)
    runner = StrategyRunner([stays, goes, replaced])
    for second in range(3):
        came = quantities(runner, second=second)
    assert came == [3, 3, 3]
    runner.change([watch("new", 2), watch("replaced", 3), stays])
    assert runner.instruments == {1: 3}
    assert quantities(runner, second=3) == [Reason.WARMING_UP, Reason.WARMING_UP, 3]
    assert quantities(runner, second=4) == [2, Reason.WARMING_UP, 3]
    assert stays.counts == {"WARMING_UP": 2, "BUY": 3}
    assert goes.counts == {"WARMING_UP": 2, "BUY": 1}


def test_instruments_of_a_strategy_change() -> None:
    """An instrument that stays keeps its history, a new one starts, one that is gone is unknown again."""
    executor = watch("s", 2, (1, 2))
    runner = StrategyRunner([executor])
    for second in range(2):
        for token in (1, 2):
            quantities(runner, token=token, second=second)
    executor.reconfigure(config("s", (2, 3)))
    runner.change([executor])
    assert quantities(runner, token=2, second=2) == [2]
    assert quantities(runner, token=3, second=2) == [Reason.WARMING_UP]
    assert quantities(runner, token=1, second=2) == []
    assert runner.counts.unknown_instrument == 1


def test_a_strategy_is_stopped_at_the_next_tick_and_stays_warm() -> None:
    """A strategy that is switched off says DISABLED from the next tick on; switched on it is warm."""
    executor = watch("s", 3)
    runner = StrategyRunner([executor])
    for second in range(2):
        quantities(runner, second=second)
    executor.reconfigure(config("s", enabled=False))
    runner.change([executor])
    assert quantities(runner, second=2) == [Reason.DISABLED]
    executor.reconfigure(config("s"))
    runner.change([executor])
    assert quantities(runner, second=3) == [3]


def test_limits_change_without_losing_a_history() -> None:
    """A smaller position holds from the next tick on."""
    executor = watch("s", 3)
    runner = StrategyRunner([executor])
    for second in range(3):
        quantities(runner, second=second)
    executor.reconfigure(config("s", max_position_size=2))
    runner.change([executor])
    assert quantities(runner, second=3) == [2]


def test_a_tick_that_was_begun_is_finished_by_those_it_began_with() -> None:
    """A change between begin and finish concerns the next tick."""
    runner, _, _ = learned_runner({"l": LearnedScripted()}, extra=[watch("t")])
    for each in ticks([1, 2, 3]):
        runner.process(each)
    pending = runner.begin(tick(4, second=3))
    runner.change([watch("other")])
    assert [outcome.strategy_id for outcome in runner.finish(pending)] == ["l", "t"]
    assert [outcome.strategy_id for outcome in runner.process(tick(5, second=4))] == ["other"]


def test_features_that_are_still_looked_at_stay_warm() -> None:
    """A new strategy of a feature set that another one keeps warm is warm at once; others warm up."""
    first = StrategyExecutor(LearnedScripted(), config("first"))
    second = StrategyExecutor(LearnedScripted(), config("second"))
    cold = StrategyExecutor(LearnedScripted(features=FeatureSet(("return_3", "price"))), config("cold"))
    bindings = Bindings(wanted_models([first]), lambda _models: description(contract()))
    bindings.refresh()
    runner = StrategyRunner([first], RecordingPredictor(yes), bindings)
    for each in ticks([1, 2, 3]):
        runner.process(each)
    bindings.change(wanted_models([second, cold]))
    runner.change([second, cold])
    assert reasons(runner.process(tick(4, second=3))) == ["BUY", Reason.WARMING_UP]
    assert cold.processor.features.names != FEATURES  # type: ignore[attr-defined]
    runner.change([])
    runner.change([second])
    assert reasons(runner.process(tick(5, second=4))) == [Reason.WARMING_UP]


def test_counts_of_what_stays_go_on() -> None:
    """Answers and drift of a learned strategy that stays are counted on, also over other instruments."""
    runner, _, _ = learned_runner(
        {"l": LearnedScripted()}, served=contract(training_ranges=((0.0, 2.5), (-9.0, 9.0)))
    )
    (executor,) = runner.executors
    for each in ticks([1, 2, 2, 3]):
        runner.process(each)
    executor.reconfigure(config("l", (2, 1)))
    runner.change([executor, watch("t")])
    runner.process(tick(1, second=4))
    assert runner.answered_by["l"].total() == 2
    assert (runner.drift["l"].rows, runner.drift["l"].above) == (3, {"price": 1})
    runner.change([StrategyExecutor(LearnedScripted(), config("l"))])
    assert runner.drift["l"].rows == 0


def test_nothing_is_kept_of_line_ups_long_gone() -> None:
    """A run whose line-up changes every day for a year holds one line-up, not all there ever were."""
    runner = StrategyRunner([watch("s")])
    before = weakref.ref(runner._line_up)
    for second in range(2):
        runner.change([watch("s")])
        runner.process(tick(1, second=second))
    gc.collect()
    assert before() is None


def test_an_edge_outlives_a_change() -> None:
    """A side that went out does not go out again because another strategy came."""
    executor = watch("s", emission=EmissionConfig(edge_trigger=True))
    runner = StrategyRunner([executor])
    assert quantities(runner) == [1]
    runner.change([watch("new"), executor])
    assert quantities(runner, second=1) == [1, Reason.HOLD]


def test_order_of_ticks_outlives_a_change() -> None:
    """H6: an instrument that stays knows its newest time, whoever looks at it."""
    runner = StrategyRunner([watch("a")])
    quantities(runner, second=9)
    runner.change([watch("b")])
    assert quantities(runner, second=8) == [Reason.STALE_TICK]


@pytest.mark.parametrize(
    ("executors", "says"),
    [
        ([watch("a"), watch("a")], "'a' stands twice"),
        ([watch("a", tokens=(13,))], "does not support instrument 13"),
    ],
)
def test_a_change_that_cannot_be_made_changes_nothing(executors: Any, says: str) -> None:
    """H9: a line-up that is refused leaves the one before running, with its histories."""
    runner = StrategyRunner([watch("s", 2)])
    quantities(runner)
    with pytest.raises(ConfigurationError, match=says):
        runner.change(executors)
    assert quantities(runner, second=1) == [2]
