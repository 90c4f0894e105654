"""The loop, step by step."""

import asyncio
import threading
from collections.abc import Sequence

import pytest
from fixtures_ticks import tick
from live_parts import Buyer, Told, buyer, outcomes

from strategy_client.configuration import StrategyConfig
from strategy_client.events import MarketTick, NoSignal, ProcessedTick, Reason, ShadowComparison
from strategy_client.factory import StrategyFactory
from strategy_client.lineup import create_executors
from strategy_client.live.journal import Journal
from strategy_client.live.loop import LOOK_EVERY_NS, LiveLoop
from strategy_client.live.silence import SilenceWatch
from strategy_client.runner import StrategyRunner

S = 1_000_000_000


class Queue:
    """An intake that a test fills."""

    def __init__(self, *ticks: MarketTick | None, ended: bool = False) -> None:
        self.ticks = list(ticks)
        self._ended = ended

    @property
    def ended(self) -> bool:
        """Whether it has ended, and all was taken."""
        return self._ended and not self.ticks

    def take(self, timeout_s: float) -> MarketTick | None:
        """Give the next one."""
        return self.ticks.pop(0) if self.ticks else None


class Clock:
    """A clock that the test moves."""

    now = 0

    def __call__(self) -> int:
        return self.now


class Faulty:
    """A listener that raises, against its promise."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def took(self, processed: ProcessedTick) -> None:
        """Raise."""
        raise self._error

    def compared(self, comparison: ShadowComparison) -> None:
        """Raise."""
        raise self._error


def looping(
    queue: Queue, strategies: Sequence[StrategyConfig] = (), silent_after_s: float = 0, **options: object
) -> tuple[LiveLoop, Told, Journal]:
    """A loop over a buyer of instrument 1, a listener that remembers, and the journal."""
    runner = StrategyRunner(create_executors(strategies or [buyer()], StrategyFactory()))
    told, journal = Told(), Journal()
    listeners = options.pop("listeners", [told])
    silence = SilenceWatch(silent_after_s, [1], 0)
    return LiveLoop(runner, queue, listeners, silence=silence, journal=journal, **options), told, journal


def test_each_tick_is_told_once_with_its_outcomes() -> None:
    """A tick in, its outcomes to the listeners, with its index in the run."""
    loop, told, _ = looping(Queue(tick(1), tick(2), ended=True))
    loop.run()
    assert [processed.index for processed in told.ticks] == [0, 1]
    assert outcomes(told.ticks) == [["BUY"], ["BUY"]]
    assert loop.ticks == 2


def test_instrument_of_nobody_is_counted_and_not_told() -> None:
    """A feed of all instruments fills no file with lines of those that no strategy looks at."""
    loop, told, _ = looping(Queue(tick(1, token=9), tick(2), ended=True))
    loop.run()
    assert [processed.index for processed in told.ticks] == [1]
    assert loop.ticks == 2


@pytest.mark.parametrize("error", [RuntimeError("a bug"), SystemExit(3)], ids=["error", "exit"])
def test_listener_that_raises_takes_nothing_from_the_others(error: BaseException) -> None:
    """A bug of one listener is told; the next one hears of the tick, and both of the next tick."""
    told = Told()
    loop, _, journal = looping(Queue(tick(1), tick(2), ended=True), listeners=[Faulty(error), told])
    loop.run()
    assert len(told.ticks) == 2
    assert journal.counts == {"listener": 2}


@pytest.mark.parametrize("error", [RuntimeError("a bug"), SystemExit(3), KeyboardInterrupt()])
def test_runner_that_raises_costs_one_tick(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug of the runner itself is told and counted, and the next tick is taken: no end without a word."""
    loop, told, journal = looping(Queue(tick(1), tick(2), ended=True))
    process = loop._runner.process

    def fail_once(given: MarketTick) -> object:
        if given.last_price == 1:
            raise error
        return process(given)

    monkeypatch.setattr(loop._runner, "process", fail_once)
    loop.run()
    assert [processed.index for processed in told.ticks] == [1]
    assert (loop.ticks, loop.failed) == (2, 1)
    assert journal.counts == {"runner": 1}


class Panic(BaseException):
    """What a library in another language raises: none of Python's ordinary exceptions."""

    def __str__(self) -> str:
        raise SystemExit(4)


@pytest.mark.parametrize(
    "error",
    [ValueError("no"), SystemExit(3), Panic(), GeneratorExit(), asyncio.CancelledError()],
    ids=lambda error: type(error).__name__,
)
def test_processor_that_raises_degrades_only_itself(
    error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    """H8: one strategy's tick is PROCESSOR_ERROR, another's its signal, on every tick."""

    def fail(given: MarketTick) -> None:
        if given.last_price == 2:
            raise error

    strategies = [
        buyer("first"),
        StrategyConfig("momentum", "momentum", {"lookback_periods": 2}, ("paper",), (1,)),
    ]
    monkeypatch.setattr(Buyer, "before", staticmethod(fail))
    loop, told, _ = looping(Queue(tick(1), tick(2), tick(3), ended=True), strategies)
    loop.run()
    assert outcomes(told.ticks) == [["BUY", "WARMING_UP"], ["PROCESSOR_ERROR", "BUY"], ["BUY", "BUY"]]


def test_interrupt_of_a_processor_of_its_own_is_its_error_and_not_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """H8: Ctrl-C comes to the main thread alone; in the loop's a KeyboardInterrupt is the processor's."""

    def fail(_given: MarketTick) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Buyer, "before", staticmethod(fail))
    loop, told, journal = looping(Queue(tick(1), tick(2), ended=True))
    thread = threading.Thread(target=loop.run)
    thread.start()
    thread.join(60)
    assert outcomes(told.ticks) == [["PROCESSOR_ERROR"], ["PROCESSOR_ERROR"]]
    assert journal.counts == {}
    executor = loop._runner.executors[0]
    with pytest.raises(KeyboardInterrupt):
        executor.decide(tick(3), [tick(3)])


def test_changes_come_between_two_ticks_and_while_the_feed_is_silent() -> None:
    """A change is asked for before each tick, and once more each time that none came."""
    order: list[str] = []
    queue = Queue(tick(1), None, tick(2))
    loop, told, _ = looping(queue, apply_changes=lambda: order.append(f"after {len(told.ticks)}"))
    for _ in range(3):
        assert loop.step()
    assert order == ["after 0", "after 1", "after 1"]


@pytest.mark.parametrize("error", [RuntimeError("a bug"), SystemExit(3)], ids=["error", "exit"])
def test_what_raises_beside_the_ticks_is_told_and_the_loop_goes_on(error: BaseException) -> None:
    """A bug in a change, or in what looks around, does not end the session."""

    def fail() -> None:
        raise error

    loop, told, journal = looping(Queue(tick(1), ended=True), apply_changes=fail, look=fail)
    loop.run()
    assert len(told.ticks) == 1
    assert journal.counts["loop"] >= 3


def test_silence_is_told_and_gives_no_outcome() -> None:
    """H7: a silent feed is one problem in the journal; no strategy says anything meanwhile."""
    clock = Clock()
    queue = Queue(tick(1))
    loop, told, journal = looping(queue, silent_after_s=30, now_ns=clock)
    loop.step()
    for second in range(1, 100):
        clock.now = second * S
        loop.step()
    assert len(told.ticks) == 1
    assert journal.counts == {"silence": 1}
    assert journal.last is not None
    assert journal.last.text == "the feed: no tick for 30 s"
    queue.ticks.append(tick(2))
    clock.now += LOOK_EVERY_NS
    loop.step()
    assert len(told.ticks) == 2
    assert journal.counts == {"silence": 1}


def test_silence_is_counted_from_the_last_tick() -> None:
    """H7: a tick begins the time anew, so that a feed that gives one now and then is not silent."""
    clock = Clock()
    queue = Queue()
    loop, _, journal = looping(queue, silent_after_s=30, now_ns=clock)
    for second in (20, 40, 60):
        clock.now = second * S
        queue.ticks.append(tick(second))
        loop.step()
    clock.now = 89 * S
    loop.step()
    assert journal.counts == {}
    clock.now = 90 * S
    loop.step()
    assert journal.counts == {"silence": 1}


def test_look_comes_a_few_times_a_second_and_once_at_the_end() -> None:
    """However many ticks come together, one look is taken among them, and the last behind the last of all."""
    clock, looks = Clock(), []
    queue = Queue(tick(1), tick(2), tick(3), ended=True)
    loop, told, _ = looping(queue, look=lambda: looks.append(len(told.ticks)), now_ns=clock)
    loop.run()
    assert looks == [1, 3]


def test_tick_takes_from_its_begin_to_its_last_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    """How long a tick took is by the loop's clock, and what the strategies spent is in it."""
    clock = Clock()

    def spend(_given: MarketTick) -> None:
        clock.now += 7

    monkeypatch.setattr(Buyer, "before", staticmethod(spend))
    loop, told, _ = looping(Queue(tick(1), tick(2), ended=True), now_ns=clock)
    loop.run()
    assert [processed.duration_ns for processed in told.ticks] == [7, 7]


def test_end_waits_for_the_comparisons_that_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shadow's last answers are told before the run ends; until then nobody waits for one."""
    loop, told, _ = looping(Queue(tick(1), ended=True))
    left = NoSignal("buyer", 1, tick(1).timestamp, Reason.HOLD)
    comparison = ShadowComparison(0, tick(1), left, left)
    monkeypatch.setattr(loop._runner, "take_comparisons", lambda *, wait: [comparison] if wait else [])
    assert loop.step()
    assert told.comparisons == []
    assert not loop.step()
    assert told.comparisons == [comparison]


def test_heartbeat_is_that_of_the_last_round() -> None:
    """What asks whether the loop lives sees when it last came round, ticks or not."""
    clock = Clock()
    loop, _, _ = looping(Queue(), now_ns=clock)
    clock.now = 7
    loop.step()
    assert loop.heartbeat_ns == 7
