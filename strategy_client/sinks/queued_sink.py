"""The signals of one broker: a bounded queue, and a thread that delivers it to a bus in order."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from strategy_client.buses.port import Delivery, Outbox, OutgoingMessage
from strategy_client.buses.seldom_log import SeldomLog
from strategy_client.configuration import name_error
from strategy_client.events import Cause, Signal
from strategy_client.predictor.backoff import Backoff
from strategy_client.sinks.envelope import Envelope, envelop

NS_PER_S: Final = 10**9

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SinkOptions:
    """`max_queued` signals wait at most; one that could not be delivered for `max_age_s` is dropped.

    An order that was due half a minute ago is no order any more.
    """

    max_queued: int = 10_000
    max_age_s: float = 30.0
    max_batch: int = 500
    send_timeout_s: float = 5.0


@dataclass(slots=True)
class SinkCounts:
    """`taken` is the sum of `sent`, `dropped`, `failed` and `queued`.

    `dropped` found the queue full, became too old, or were left when the sink was closed. `failed` were
    refused for good, by the bus or because they cannot be written. `retries` counts attempts that came to
    nothing.
    """

    taken: int = 0
    sent: int = 0
    dropped: int = 0
    failed: int = 0
    queued: int = 0
    retries: int = 0


@dataclass(frozen=True, slots=True)
class _Waiting:
    message: OutgoingMessage
    wall_ns: int
    taken_ns: int


class QueuedSink:
    """Implements SignalSink on any bus. At least once: what may have arrived is sent again, with its id."""

    def __init__(
        self,
        broker: str,
        name: str,
        outbox: Outbox,
        options: SinkOptions | None = None,
        *,
        backoff: Backoff | None = None,
        now_ns: Callable[[], int] = time.monotonic_ns,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.broker = broker
        self.name = name
        self._outbox = outbox
        self._options = options or SinkOptions()
        self._backoff = backoff or Backoff()
        self._now_ns = now_ns
        self._wall_ns = wall_ns
        self._queue: deque[tuple[Envelope, int]] = deque()
        self._counts = SinkCounts()
        self._changed = threading.Condition()
        # When the last attempt of a sink that is closed ends; None while it is open.
        self._end_ns: int | None = None
        self._lost_log = SeldomLog(log)
        self._failure_log = SeldomLog(log)
        self._thread = threading.Thread(target=self._deliver_all, name=f"signals-{broker}", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        state = "open" if self._end_ns is None else "closed"
        return f"<QueuedSink {self.broker} {self.name} {state} {self.counts}>"

    @property
    def counts(self) -> SinkCounts:
        """What became of the signals so far."""
        with self._changed:
            return replace(self._counts)

    def send(self, signal: Signal, cause: Cause | None = None) -> None:
        """Queue a signal, or drop and count it where the queue is full or the sink closed."""
        envelope = envelop(signal, self.broker, cause, self._wall_ns())
        with self._changed:
            self._counts.taken += 1
            if self._end_ns is None and self._counts.queued < self._options.max_queued:
                self._counts.queued += 1
                self._queue.append((envelope, self._now_ns()))
                self._changed.notify_all()
                return
            self._counts.dropped += 1
            why = "it is closed" if self._end_ns is not None else f"{self._counts.queued:,} wait already"
        self._lost_log.warn(f"{self._here}: a signal of {envelope.key} is dropped, {why}")

    def close(self, timeout_s: float = 5.0) -> None:
        """Deliver what is queued, for `timeout_s` at most, and free the connection."""
        with self._changed:
            if self._end_ns is None:
                self._end_ns = self._now_ns() + int(timeout_s * NS_PER_S)
                self._changed.notify_all()
        self._thread.join(timeout_s + self._options.send_timeout_s)

    @property
    def _here(self) -> str:
        return f"{self.broker} at {self.name}"

    def _deliver_all(self) -> None:
        waiting: list[_Waiting] = []
        try:
            while waiting or self._wait():
                waiting = self._young([*waiting, *self._take(self._options.max_batch - len(waiting))])
                if waiting and (error := self._attempt(waiting)):
                    self._failure_log.warn(f"{self._here}: {error}; tried again until it works")
                    if not self._pause():
                        break
        finally:
            self._drop(
                len(waiting) + len(self._take(self._options.max_queued)), "not delivered before the end"
            )
            self._outbox.close()

    def _wait(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._end_ns is not None)
            return bool(self._queue)

    def _take(self, most: int) -> list[_Waiting]:
        with self._changed:
            taken = [self._queue.popleft() for _ in range(min(most, len(self._queue)))]
        waiting = []
        for envelope, taken_ns in taken:
            try:
                waiting.append(_Waiting(envelope.message(), envelope.wall_ns, taken_ns))
            except BaseException as error:  # noqa: BLE001 whatever stands in a user's metadata is that signal's fault
                self._fail(1, f"a signal of {envelope.key} cannot be written: {name_error(error)}")
        return waiting

    def _young(self, waiting: Sequence[_Waiting]) -> list[_Waiting]:
        oldest_ns = self._now_ns() - int(self._options.max_age_s * NS_PER_S)
        young = [each for each in waiting if each.taken_ns >= oldest_ns]
        self._drop(len(waiting) - len(young), f"not delivered for {self._options.max_age_s:g} s")
        return young

    def _attempt(self, waiting: list[_Waiting]) -> str:
        """Send what waits, take out what needs no other attempt, and return what went wrong."""
        until_ns = self._now_ns() + int(self._options.send_timeout_s * NS_PER_S)

        def time_left_s() -> float:
            end_ns = until_ns if self._end_ns is None else min(until_ns, self._end_ns)
            return (end_ns - self._now_ns()) / NS_PER_S

        try:
            delivery = self._outbox.send([each.message for each in waiting], time_left_s)
        except Exception as error:
            log.exception("%s: a bug in its adapter", self._here)
            delivery = Delivery(error=type(error).__name__)
        for position, why in delivery.refused.items():
            self._fail(1, f"a signal of {waiting[position].message.key} is refused: {why}")
        done = {*delivery.arrived, *delivery.refused}
        waiting[:] = [each for position, each in enumerate(waiting) if position not in done]
        with self._changed:
            self._counts.sent += len(delivery.arrived)
            self._counts.queued -= len(delivery.arrived)
            self._counts.retries += bool(waiting)
        if done:
            self._backoff.reset()
        return (delivery.error or "not confirmed in time") if waiting else ""

    def _pause(self) -> bool:
        """Wait before the next attempt; False where there is no time left for one."""
        pause_ns = self._backoff.next_ns()
        with self._changed:
            was_open = self._end_ns is None
            if self._end_ns is not None:
                pause_ns = max(0, min(pause_ns, self._end_ns - self._now_ns()))
            self._changed.wait_for(lambda: was_open and self._end_ns is not None, pause_ns / NS_PER_S)
            return self._end_ns is None or self._now_ns() < self._end_ns

    def _drop(self, count: int, why: str) -> None:
        if count:
            with self._changed:
                self._counts.dropped += count
                self._counts.queued -= count
            self._lost_log.warn(f"{self._here}: {count:,} signals are dropped, {why}")

    def _fail(self, count: int, text: str) -> None:
        with self._changed:
            self._counts.failed += count
            self._counts.queued -= count
        self._lost_log.warn(f"{self._here}: {text}")
