"""Ticks from a source to the loop."""

import threading
from collections.abc import Iterator

import pytest
from fixtures_ticks import tick, ticks
from sidecars import eventually

from strategy_client.events import MarketTick
from strategy_client.live.intake import Intake


class ListSource:
    """Gives the ticks of a list, then ends, or waits for `close`; `given` is how many were asked for."""

    def __init__(self, given_ticks: list[MarketTick], *, endless: bool = False) -> None:
        self._ticks = given_ticks
        self._endless = endless
        self.closed = threading.Event()
        self.given = 0

    def __iter__(self) -> Iterator[MarketTick]:
        for each in self._ticks:
            if self.closed.is_set():
                return
            self.given += 1
            yield each
        if self._endless:
            self.closed.wait()

    def close(self) -> None:
        """End."""
        self.closed.set()


def test_ticks_come_in_order_with_the_time_of_their_receipt() -> None:
    """A source that does not say when a tick came is helped; then the end is known."""
    clock = iter(range(7, 100))
    intake = Intake(ListSource(ticks([1, 2, 3])), now_ns=lambda: next(clock))
    intake.start()
    taken = [intake.take(10) for _ in range(3)]
    assert [(each.last_price, each.received_ns) for each in taken if each] == [(1, 7), (2, 8), (3, 9)]
    assert intake.take(10) is None
    assert intake.ended
    assert intake.problem == ""


def test_time_of_receipt_that_is_there_stays() -> None:
    """What the source knows of a tick's receipt is better than what its reader knows."""
    given = MarketTick(1, tick(1).last_price, tick(1).timestamp, received_ns=5)
    intake = Intake(ListSource([given]))
    intake.start()
    assert intake.take(10) is given


def test_full_queue_holds_the_source_up() -> None:
    """Memory has a bound: beyond it the source is not read until the loop takes a tick."""
    source = ListSource(ticks(range(1, 101)))
    intake = Intake(source, max_waiting=4)
    intake.start()
    eventually(lambda: source.given == 5, "the fifth tick waits for room")
    assert intake.waiting == 4
    for _ in range(10):
        intake.take(10)
    eventually(lambda: source.given == 15, "the source was read on")
    assert intake.waiting == 4
    rest = [intake.take(10) for _ in range(90)]
    assert None not in rest
    assert intake.take(10) is None
    assert source.given == 100


def test_wake_ends_a_wait_and_takes_nothing() -> None:
    """A change of the configuration is taken while the feed is silent: the loop is woken for it."""
    intake = Intake(ListSource([], endless=True))
    intake.start()
    done = threading.Event()

    def take() -> None:
        assert intake.take(3_600) is None
        done.set()

    thread = threading.Thread(target=take)
    thread.start()
    intake.wake()
    thread.join(60)
    assert done.is_set()
    assert not intake.ended
    assert intake.close()


def test_wake_ends_one_wait_and_no_other() -> None:
    """Who was woken waits again afterwards, for the next tick: a wake is no end of all waiting."""
    given = threading.Event()

    class Late(ListSource):
        def __iter__(self) -> Iterator[MarketTick]:
            given.wait()
            yield from self._ticks

    intake = Intake(Late(ticks([1])))
    intake.start()
    intake.wake()
    assert intake.take(3_600) is None
    taken: list[MarketTick | None] = []
    thread = threading.Thread(target=lambda: taken.append(intake.take(3_600)))
    thread.start()
    given.set()
    thread.join(60)
    assert [each and each.last_price for each in taken] == [1]


def test_end_is_that_of_the_last_tick_taken() -> None:
    """While ticks wait nothing has ended, though the source has no more of them."""
    intake = Intake(ListSource(ticks([1, 2])))
    intake.start()
    eventually(lambda: not intake._thread.is_alive(), "the source has ended")
    assert [intake.ended, intake.take(0) is None] == [False, False]
    assert [intake.ended, intake.take(0) is None] == [False, False]
    assert intake.ended


def test_close_ends_the_wait_for_room_and_for_ticks() -> None:
    """A stop waits for nobody: neither for the loop to take ticks, nor for the source to give some."""
    source = ListSource(ticks(range(1, 10)))
    intake = Intake(source, max_waiting=1)
    intake.start()
    eventually(lambda: source.given == 2, "the second tick waits for room")
    assert intake.close()
    assert intake.ended
    assert intake.take(10) is None
    assert intake.close()


def test_source_that_does_not_let_go_is_left_behind() -> None:
    """A stop is told of a source that goes on, and goes on itself."""

    class Stubborn(ListSource):
        def close(self) -> None:
            pass

    source = Stubborn([], endless=True)
    intake = Intake(source)
    intake.start()
    assert not intake.close(0.01)
    source.closed.set()


@pytest.mark.parametrize(
    "error", [RuntimeError("the wire is cut"), SystemExit("the wire is cut")], ids=["error", "exit"]
)
def test_source_that_raises_ends_the_feed_and_is_told(error: BaseException) -> None:
    """Against its promise a source raises: what it gave is taken, then the feed has ended, with a reason."""

    class Broken(ListSource):
        def __iter__(self) -> Iterator[MarketTick]:
            yield from self._ticks
            raise error

    intake = Intake(Broken(ticks([1])))
    intake.start()
    assert intake.take(10) is not None
    assert intake.take(10) is None
    assert intake.ended
    assert intake.problem == f"the source failed: {type(error).__name__}: the wire is cut"


def test_no_room_at_all_is_refused() -> None:
    """A queue of nothing would never give a tick."""
    with pytest.raises(ValueError, match="max_waiting: expected at least 1 tick, came 0"):
        Intake(ListSource([]), max_waiting=0)
