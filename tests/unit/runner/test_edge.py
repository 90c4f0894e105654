"""What the edge of the loop lets in, and what it refuses."""

import zoneinfo
from collections.abc import Sequence
from dataclasses import astuple, replace
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from fixtures_clock import Clock
from fixtures_runner import LearnedScripted, Scripted, buys, config, learned_runner, reasons
from fixtures_ticks import OPEN, tick, ticks

from strategy_client.edge import TickCounts
from strategy_client.events import MarketTick, NoSignal, Reason, Signal
from strategy_client.executor import StrategyExecutor
from strategy_client.runner import RunnerOptions, StrategyRunner

MS = 1_000_000
S = 1_000_000_000


class NoZone(tzinfo):
    """A zone that knows no offset: the time is as naive as without it."""

    def utcoffset(self, when: datetime | None) -> None:
        """Return nothing."""


class Unreadable:
    """A price of a user's own that raises what nobody expects."""

    def __float__(self) -> float:
        raise RuntimeError


class NoOffset(tzinfo):
    """A zone that does not say how far it is: Python raises NotImplementedError for it."""


def watching(seen: list[list[Any]], length: int = 3) -> StrategyExecutor:
    """Return a strategy that keeps the prices that it was shown."""
    return StrategyExecutor(
        Scripted(lambda now, history: seen.append([each.last_price for each in history]), length),
        config("watch"),
    )


def runner_of(options: RunnerOptions, now_ns: Clock, wall_ns: Clock | None = None) -> StrategyRunner:
    """Return a runner of one strategy that buys at every tick, over clocks that stand."""
    executors = [StrategyExecutor(Scripted(buys), config("s"))]
    return StrategyRunner(executors, options=options, now_ns=now_ns, wall_ns=wall_ns or Clock())


def test_out_of_order_leaves_no_trace() -> None:
    """H6: a tick older than the newest of its instrument is STALE_TICK, and reaches no history or feature."""
    seen: list[list[Any]] = []
    runner, predictor, _ = learned_runner({"l": LearnedScripted()}, extra=[watching(seen)])
    for each in ticks([1, 2, 3]):
        runner.process(each)
    late = runner.process(tick(666, second=1))
    assert reasons(late) == [Reason.STALE_TICK] * 2
    assert "1.000000 s older than the tick before it" in late[0].detail
    runner.process(tick(4, second=3))
    assert seen == [[1, 2, 3], [2, 3, 4]]
    assert [question.features.tolist() for (question,) in predictor.requests] == [[[3.0, 2.0]], [[4.0, 1.0]]]
    assert runner.counts == TickCounts(taken=5, out_of_order=1)


def test_equal_times_are_taken() -> None:
    """H6: many trades of one millisecond, and a tick that comes twice, are all taken."""
    seen: list[list[Any]] = []
    runner = StrategyRunner([watching(seen)])
    for price in (1, 2, 2):
        runner.process(tick(price, second=5))
    assert seen == [[1, 2, 2]]
    assert runner.counts == TickCounts(taken=3)


def test_order_is_of_each_instrument_alone() -> None:
    """H6: a feed of many instruments is not in order as a whole, and need not be."""
    runner = StrategyRunner([StrategyExecutor(Scripted(buys), config("s", (1, 2)))])
    assert reasons(runner.process(tick(1, token=1, second=9))) == ["BUY"]
    assert reasons(runner.process(tick(1, token=2, second=3))) == ["BUY"]


def test_the_hour_that_summer_time_repeats_is_in_order() -> None:
    """H6: times of a zone whose clock goes back by an hour are compared as instants."""
    zone = zoneinfo.ZoneInfo("America/New_York")
    before = datetime(2024, 11, 3, 1, 59, tzinfo=zone)
    after = datetime(2024, 11, 3, 1, 0, tzinfo=zone, fold=1)
    runner = StrategyRunner([StrategyExecutor(Scripted(buys), config("s"))])
    for when in (before, after):
        assert reasons(runner.process(MarketTick(1, Decimal(1), when))) == ["BUY"]
    assert reasons(runner.process(MarketTick(1, Decimal(1), before))) == [Reason.STALE_TICK]


@pytest.mark.parametrize(
    "price",
    ["100", b"100", None, True, float("nan"), float("inf"), [], object(), 10**400, 1 + 1j, Unreadable()],
    ids=lambda price: type(price).__name__,
)
def test_price_that_is_no_number_is_refused(price: Any) -> None:
    """H6: whatever stands where a price should, the outcome is NON_FINITE and nothing raises."""
    runner = StrategyRunner([StrategyExecutor(Scripted(buys), config(name)) for name in "ab"])
    outcomes = runner.process(replace(tick(1), last_price=price))
    assert reasons(outcomes) == [Reason.NON_FINITE] * 2
    assert outcomes[0].detail.endswith("expected a finite number")
    assert runner.counts == TickCounts(taken=1, invalid=1)


def test_price_of_too_many_digits_to_be_written_is_refused() -> None:
    """H6: an integer that Python itself refuses to write out is NON_FINITE, and its type is told."""
    runner = StrategyRunner([StrategyExecutor(Scripted(buys), config("s"))])
    (outcome,) = runner.process(replace(tick(1), last_price=10**5_000))
    assert isinstance(outcome, NoSignal)
    assert (outcome.reason, outcome.detail) == (
        Reason.NON_FINITE,
        "price of type int: expected a finite number",
    )


@pytest.mark.parametrize("price", [100, 100.0, np.float64(100), np.float32(100)], ids=repr)
def test_price_that_is_a_number_is_taken(price: Any) -> None:
    """A number that is no Decimal is taken; the signal's price is a Decimal all the same."""
    act = Scripted(lambda now, history: replace(buys(now, history), price=Decimal(1)))
    runner = StrategyRunner([StrategyExecutor(act, config("s"))])
    (outcome,) = runner.process(replace(tick(1), last_price=price))
    assert isinstance(outcome, Signal)
    assert type(outcome.price) is Decimal
    assert outcome.price == 100


@pytest.mark.parametrize(
    "timestamp",
    [
        None,
        "2024-08-08T09:15:00Z",
        1723108500,
        OPEN.date(),
        OPEN.replace(tzinfo=None),
        OPEN.replace(tzinfo=NoZone()),
        OPEN.replace(tzinfo=NoOffset()),
    ],
    ids=["none", "text", "number", "date", "naive", "no-zone", "no-offset"],
)
def test_time_that_is_no_instant_is_refused(timestamp: Any) -> None:
    """H6: no datetime, or one without a zone, is STALE_TICK; nothing raises, and the next tick is taken."""
    runner = StrategyRunner([StrategyExecutor(Scripted(buys), config("s"))])
    (outcome,) = runner.process(replace(tick(1), timestamp=timestamp))
    assert isinstance(outcome, NoSignal)
    assert outcome.reason is Reason.STALE_TICK
    assert "expected a datetime with a time zone" in outcome.detail
    assert reasons(runner.process(tick(1))) == ["BUY"]
    assert runner.counts == TickCounts(taken=2, invalid=1)


@pytest.mark.parametrize("token", [99, None, "1", [1]], ids=repr)
def test_unknown_instrument_is_counted(token: Any) -> None:
    """H6: an instrument that nobody looks at, or that is none at all, has no outcome and is counted."""
    runner = StrategyRunner([StrategyExecutor(Scripted(buys), config("s"))])
    assert runner.process(replace(tick(1), instrument_token=token)) == []
    assert runner.counts == TickCounts(unknown_instrument=1)


def test_stale_tick_is_asked_nothing_and_stays_market_data() -> None:
    """H6: of a tick received too long ago no signal comes, but histories and features have seen it."""
    clock = Clock(10 * S)
    seen: list[list[Any]] = []
    _, predictor, bindings = learned_runner({"l": LearnedScripted()})
    runner = StrategyRunner(
        [StrategyExecutor(LearnedScripted(), config("l")), watching(seen)],
        predictor,
        bindings,
        RunnerOptions(max_tick_age_ms=500),
        clock,
        wall_ns=Clock(int(OPEN.timestamp()) * S),
    )
    fresh, late = clock.now_ns - 500 * MS, clock.now_ns - 501 * MS
    for second, price in enumerate([1, 2]):
        runner.process(replace(tick(price, second=second), received_ns=fresh))
    outcomes = runner.process(replace(tick(3, second=2), received_ns=late))
    assert reasons(outcomes) == [Reason.STALE_TICK] * 2
    assert outcomes[0].detail == "received 501 ms ago, more than 500 ms"
    assert predictor.requests == []
    runner.process(replace(tick(4, second=3), received_ns=fresh))
    assert seen == [[2, 3, 4]]
    assert predictor.requests[0][0].features.tolist() == [[4.0, 1.0]]
    assert runner.counts == TickCounts(taken=4, stale=1)
    assert reasons(runner.process(replace(tick(5, second=2), received_ns=fresh))) == [Reason.STALE_TICK] * 2


def test_a_stale_tick_is_stale_for_a_stopped_strategy_too() -> None:
    """What is wrong with a tick is said before what is wrong with a strategy, as with any other bad tick."""
    runner = runner_of(RunnerOptions(max_tick_age_ms=500), Clock(10 * S), Clock(int(OPEN.timestamp()) * S))
    runner.executors[0].enabled = False
    assert reasons(runner.process(replace(tick(1), received_ns=0))) == [Reason.STALE_TICK]
    assert reasons(runner.process(replace(tick(1), received_ns=10 * S))) == [Reason.DISABLED]


@pytest.mark.parametrize(
    ("limit_ms", "received_ns"), [(None, 0), (500.0, None), (500.0, 20 * S), (500.0, 10 * S)]
)
def test_tick_that_is_not_known_to_be_old_is_taken(limit_ms: float | None, received_ns: int | None) -> None:
    """H6: without a limit, without a receipt, or at a negative age, a tick is fresh."""
    runner = runner_of(
        RunnerOptions(max_tick_age_ms=limit_ms), Clock(10 * S), Clock(int(OPEN.timestamp()) * S)
    )
    assert reasons(runner.process(replace(tick(1), received_ns=received_ns))) == ["BUY"]


def test_what_a_bus_kept_through_an_outage_gives_no_signal() -> None:
    """H6: a tick that has only just been received may be old all the same; it stays market data."""
    wall = Clock(int(OPEN.timestamp()) * S + 600 * S)
    seen: list[list[Any]] = []
    runner = StrategyRunner(
        [StrategyExecutor(Scripted(buys), config("s")), watching(seen)],
        options=RunnerOptions(max_tick_age_ms=500, max_behind_s=60),
        now_ns=Clock(10 * S),
        wall_ns=wall,
    )
    old = runner.process(replace(tick(1), received_ns=10 * S))
    assert reasons(old) == [Reason.STALE_TICK] * 2
    assert old[0].detail == "received 600 s after its own time, more than 60 s"
    runner.process(replace(tick(2, second=539), received_ns=10 * S))
    fresh = runner.process(replace(tick(3, second=540), received_ns=10 * S))
    assert reasons(fresh)[0] == "BUY"
    assert seen == [[1, 2, 3]]
    assert runner.counts == TickCounts(taken=3, stale=2)
    recorded = runner.process(tick(4, second=541))
    assert reasons(recorded)[0] == "BUY"


def test_time_far_ahead_is_refused_and_the_next_tick_taken() -> None:
    """H6: one absurd time may not make every true tick after it a tick of the past."""
    wall = Clock(int(OPEN.timestamp()) * S)
    runner = runner_of(RunnerOptions(), Clock(), wall)
    absurd = replace(tick(1), timestamp=datetime(2099, 1, 1, tzinfo=UTC), received_ns=0)
    (outcome,) = runner.process(absurd)
    assert isinstance(outcome, NoSignal)
    assert outcome.reason is Reason.STALE_TICK
    assert "s ahead of the clock of this machine" in outcome.detail
    # A recorder may run behind its exchange by seconds, and a clock by minutes.
    assert reasons(runner.process(replace(tick(1, second=299), received_ns=0))) == ["BUY"]
    assert runner.counts == TickCounts(taken=2, ahead=1)


def test_recorded_ticks_are_of_their_own_time() -> None:
    """Without a receipt there is nothing to compare with: a recording of tomorrow runs today."""
    runner = runner_of(RunnerOptions(max_tick_age_ms=1, max_ahead_s=1), Clock(10**18), Clock())
    assert reasons(runner.process(tick(1))) == ["BUY"]


def test_age_ahead_can_be_left_unchecked() -> None:
    """`max_ahead_s=None` takes live ticks of any time."""
    runner = runner_of(RunnerOptions(max_ahead_s=None), Clock(), Clock())
    assert reasons(runner.process(replace(tick(1), received_ns=0))) == ["BUY"]


@pytest.mark.parametrize("name", ["deadline_ms", "max_tick_age_ms", "max_behind_s", "max_ahead_s"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_options_are_checked(name: str, value: float) -> None:
    """H9: a limit that is no finite number above 0 is refused by its name."""
    with pytest.raises(ValueError, match=f"^{name}: expected more than 0, came"):
        RunnerOptions(**{name: value})


def test_counts_have_a_place_for_each_case() -> None:
    """H6: what was noticed adds up over a feed with one of each fault."""
    runner = runner_of(RunnerOptions(max_tick_age_ms=500), Clock(10 * S), Clock(int(OPEN.timestamp()) * S))
    feed: Sequence[MarketTick] = [
        tick(1, second=1),
        tick("NaN", second=1),
        tick(-1, second=1),
        replace(tick(1), timestamp=None),  # type: ignore[arg-type]
        tick(1),
        tick(1, token=9),
        replace(tick(1, second=1), received_ns=0),
        replace(tick(1, second=900), received_ns=10 * S),
    ]
    assert [len(runner.process(each)) for each in feed] == [1, 1, 1, 1, 1, 0, 1, 1]
    assert astuple(runner.counts) == (7, 1, 3, 1, 1, 1)
