"""The queue in front of a bus: what is sent again, what is given up, what is counted."""

import json
import logging
import threading
from collections.abc import Callable, Sequence

import pytest
from eventually import until
from fixtures_signals import signal
from manual_clock import ManualClock

from strategy_client.buses.port import Delivery, OutgoingMessage
from strategy_client.predictor.backoff import Backoff, BackoffOptions
from strategy_client.sinks.queued_sink import QueuedSink, SinkCounts, SinkOptions


class ScriptedBus:
    """Implements Outbox: what comes of each batch is the next of `script`, at its end all arrives.

    A batch waits while `gate` is not set.
    """

    def __init__(self, *script: Delivery | Exception) -> None:
        self.script = list(script)
        self.batches: list[list[int]] = []
        self.ids: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.closed_by: str | None = None

    def send(self, batch: Sequence[OutgoingMessage], time_left_s: Callable[[], float]) -> Delivery:
        self.entered.set()
        self.gate.wait(60)
        self.batches.append([json.loads(each.value)["data"]["metadata"]["number"] for each in batch])
        self.ids += [each.id for each in batch]
        came = self.script.pop(0) if self.script else Delivery(range(len(batch)))
        if isinstance(came, Exception):
            raise came
        return came

    @property
    def numbers(self) -> list[int]:
        return [number for batch in self.batches for number in batch]

    def close(self) -> None:
        self.closed_by = threading.current_thread().name


def make(bus: ScriptedBus, clock: ManualClock | None = None, **options: float) -> QueuedSink:
    """Return a sink on a bus, whose pauses are short."""
    now_ns = {"now_ns": clock.monotonic_ns} if clock is not None else {}
    backoff = Backoff(BackoffOptions(first_ms=1, longest_ms=5))
    return QueuedSink("paper", "a bus", bus, SinkOptions(**options), backoff=backoff, **now_ns)


def test_what_did_not_arrive_is_sent_again_and_nothing_else():
    """Of a batch that half arrived only the other half is sent again, in its order and with its ids."""
    bus = ScriptedBus(Delivery([], error="down"), Delivery([0, 2], error="cut"))
    bus.gate.clear()
    sink = make(bus)
    sink.send(signal(number=0))
    bus.entered.wait(60)
    for number in range(1, 4):
        sink.send(signal(number=number))
    bus.gate.set()
    sink.close()

    assert bus.batches == [[0], [0, 1, 2, 3], [1, 3]]
    assert bus.ids[0] == bus.ids[1]
    assert bus.ids[2] == bus.ids[5]
    assert sink.counts == SinkCounts(taken=4, sent=4, retries=2)


def test_what_a_bus_refuses_is_not_sent_again(caplog: pytest.LogCaptureFixture):
    """A signal that will never be taken is counted as failed and told, without a pause for the others."""
    sink = make(bus := ScriptedBus(Delivery([], {0: "too large"})))
    sink.send(signal(number=0))
    sink.close()

    assert (bus.batches, sink.counts) == ([[0]], SinkCounts(taken=1, failed=1))
    assert "paper at a bus: a signal of up:1 is refused: too large" in caplog.messages


def test_a_signal_that_grew_old_is_dropped():
    """A signal that could not be delivered for max_age is no order any more: dropped, counted, not sent."""
    clock = ManualClock()
    bus = ScriptedBus(Delivery(error="down"))
    bus.gate.clear()
    sink = make(bus, clock, max_age_s=30)
    sink.send(signal(number=0))
    bus.entered.wait(60)
    clock.advance(31)
    sink.send(signal(number=1))
    bus.gate.set()
    until(lambda: sink.counts.sent == 1)
    sink.close()

    assert bus.batches == [[0], [1]]
    assert sink.counts == SinkCounts(taken=2, sent=1, dropped=1, retries=1)


def test_a_full_queue_drops_the_newcomer_and_says_so_once(caplog: pytest.LogCaptureFixture):
    """Beyond the bound what comes is dropped; the log says so once, not with every signal."""
    bus = ScriptedBus()
    bus.gate.clear()
    sink = make(bus, max_queued=2)
    for number in range(10):
        sink.send(signal(number=number))
    full = sink.counts
    bus.gate.set()
    sink.close()

    assert (full.queued, full.dropped) == (2, 8)
    assert bus.numbers == [0, 1]
    assert caplog.messages == ["paper at a bus: a signal of up:1 is dropped, 2 wait already"]


def test_what_is_taken_is_always_accounted_for():
    """However attempts end, taken is the sum of sent, dropped, failed and queued, at any time."""
    bus = ScriptedBus(
        Delivery(error="down"), Delivery([1], {0: "bad"}, "cut"), ValueError("a bug"), Delivery([0])
    )
    sink = make(bus, max_queued=5)
    for number in range(50):
        sink.send(signal(number=number))
        now = sink.counts
        assert now.taken == now.sent + now.dropped + now.failed + now.queued == number + 1
    sink.close()

    ended = sink.counts
    assert (ended.queued, ended.taken) == (0, ended.sent + ended.dropped + ended.failed)


def test_a_bug_in_an_adapter_does_not_end_the_sink(caplog: pytest.LogCaptureFixture):
    """Whatever an adapter raises is logged with its traceback and the batch sent again."""
    sink = make(bus := ScriptedBus(ZeroDivisionError()))
    sink.send(signal(number=0))
    sink.close()

    assert bus.batches == [[0], [0]]
    assert [record.exc_info is not None for record in caplog.records if record.levelno == logging.ERROR] == [
        True
    ]


@pytest.mark.parametrize("error", [RuntimeError("no text"), SystemExit(3)], ids=["error", "exit"])
def test_what_cannot_be_written_is_that_signals_fault(error: BaseException):
    """Metadata that cannot be turned into text fails its own signal; the next one arrives."""

    class Unwritable:
        def __str__(self) -> str:
            raise error

    sink = make(bus := ScriptedBus())
    sink.send(signal(number=0, bad=Unwritable()))
    sink.send(signal(number=1))
    sink.close()

    assert bus.numbers == [1]
    assert sink.counts == SinkCounts(taken=2, sent=1, failed=1)


def test_close_sends_what_waits_once_more_and_then_lets_go():
    """At the end a bus that is down is tried once more at once; what is left is dropped and counted."""
    bus = ScriptedBus(*[Delivery(error="down")] * 1_000)
    options = SinkOptions()
    slow = Backoff(BackoffOptions(first_ms=60_000, longest_ms=60_000))
    sink = QueuedSink("paper", "a bus", bus, options, backoff=slow)
    sink.send(signal(number=0))
    until(lambda: sink.counts.retries == 1)
    sink.close(1.0)
    sink.send(signal(number=1))
    sink.close()

    assert bus.batches == [[0], [0]]
    assert sink.counts == SinkCounts(taken=2, dropped=2, retries=2)
    assert bus.closed_by == "signals-paper"


def test_a_batch_is_bounded():
    """However many signals wait, no more than the bound go out in one batch."""
    bus = ScriptedBus()
    bus.gate.clear()
    sink = make(bus, max_batch=3)
    for number in range(8):
        sink.send(signal(number=number))
    bus.gate.set()
    sink.close()

    assert max(map(len, bus.batches)) <= 3
    assert bus.numbers == list(range(8))
