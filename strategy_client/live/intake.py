"""Ticks from a source to the loop, over a bounded queue."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from strategy_client.configuration import name_error
from strategy_client.events import MarketTick
from strategy_client.sources.source import TickSource

# A live source has a queue of its own behind this one. A file has not: what waits here was read, and so
# received, too early, and must not be stale before the loop comes to it.
MAX_WAITING_TICKS: Final = 64
STOP_S: Final = 2.0
NS_PER_S: Final = 1_000_000_000

log = logging.getLogger(__name__)


class Intake:
    """Reads a source on a thread of its own; the loop takes the ticks from here, in their order.

    When `max_waiting` ticks wait the source is not read until one is taken: back-pressure, never memory
    without a bound. `problem` is what the source raised, if it ended so.
    """

    def __init__(
        self,
        source: TickSource,
        max_waiting: int = MAX_WAITING_TICKS,
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        if max_waiting < 1:
            raise ValueError(f"max_waiting: expected at least 1 tick, came {max_waiting}")
        self.problem = ""
        self.max_waiting = max_waiting
        self._source = source
        self._now_ns = now_ns
        self._waiting: deque[MarketTick] = deque()
        self._changed = threading.Condition()
        self._ended = False
        self._closed = False
        self._woken = False
        self._thread = threading.Thread(target=self._read, name="tickserve-intake", daemon=True)

    def __repr__(self) -> str:
        state = "closed" if self._closed else "ended" if self._ended else "reading"
        return f"<Intake {state}, {len(self._waiting)} of {self.max_waiting} waiting>"

    @property
    def waiting(self) -> int:
        """How many ticks wait to be taken."""
        return len(self._waiting)

    @property
    def ended(self) -> bool:
        """Whether the source has ended and all its ticks were taken, or this was closed."""
        with self._changed:
            return self._closed or (self._ended and not self._waiting)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def take(self, timeout_s: float) -> MarketTick | None:
        """Return the next tick; None after `timeout_s`, when woken, or at the end."""
        with self._changed:
            if not self._waiting:
                self._changed.wait_for(
                    lambda: self._waiting or self._ended or self._closed or self._woken, timeout_s
                )
            self._woken = False
            if self._closed or not self._waiting:
                return None
            tick = self._waiting.popleft()
            if len(self._waiting) == self.max_waiting - 1:
                self._changed.notify_all()
            return tick

    def wake(self) -> None:
        """Let the `take` that waits return at once; one that does not wait is not disturbed."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def close(self, timeout_s: float = STOP_S) -> bool:
        """Stop reading; what waits is not taken any more. False where the source does not let go in time."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._source.close()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _read(self) -> None:
        try:
            for tick in self._source:
                if not self._put(tick):
                    break
        except BaseException as error:
            # A source is told not to raise; one that does ends the feed, and nothing else.
            log.exception("the source of ticks failed")
            self.problem = f"the source failed: {name_error(error)}"
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _put(self, tick: MarketTick) -> bool:
        if tick.received_ns is None:
            tick = replace(tick, received_ns=self._now_ns())
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._waiting) < self.max_waiting)
            if self._closed:
                return False
            self._waiting.append(tick)
            self._changed.notify_all()
        return True
