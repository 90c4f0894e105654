"""The audit log as the tick loop sees it: it takes what came of a tick at once, and writes it on a thread."""

import logging
import os
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from strategy_client.audit.folder import lock_folder
from strategy_client.audit.lineup import lineup_record, software
from strategy_client.audit.options import AuditOptions
from strategy_client.audit.writer import Writer
from strategy_client.bindings import Bindings
from strategy_client.events import ProcessedTick, ShadowComparison
from strategy_client.executor import StrategyExecutor

CLOSE_TIMEOUT_S: Final = 5.0
RETRY_S: Final = 0.25
# So often is what is queued tried when the log is closed; what fails for a second then fails for longer.
CLOSE_TRIES: Final = 5
PATIENCE_S: Final = 0.05
# The thread gives way so often and so long while its queue is less than half full; beyond, it does not.
# Whoever holds the interpreter is asked for it after 5 ms only, and the loop must not wait as long for it.
YIELD_RECORDS: Final = 4
YIELD_S: Final = 0.0003

log = logging.getLogger(__name__)


@dataclass(slots=True)
class AuditCounts:
    """What became of the records: `dropped` ticks found no room, `dropped_shadows` comparisons of shadows.

    `written` records were handed to the system, `failures` is how often it did not take them.
    """

    written: int = 0
    dropped: int = 0
    dropped_shadows: int = 0
    failures: int = 0


@dataclass(slots=True)
class Gap:
    """Records that were dropped, one after the other: ticks `first` to `last`, and shadows."""

    ticks: int = 0
    first: int = -1
    last: int = -1
    shadows: int = 0

    def add_tick(self, index: int) -> None:
        """Count a tick that was dropped."""
        self.first = index if self.first < 0 else self.first
        self.last = index
        self.ticks += 1


class AuditLog:
    """Writes a log into a folder; a TickListener, called from one thread. See docs/audit.md for the format.

    Use it as a context manager: entering raises AuditError where another process writes this log, OSError
    where the folder cannot be written. From then on nothing raises: what the disk does not take waits,
    within the bounds of `options`, and what finds no room is dropped, counted, and told in the log as a gap
    as soon as there is room. `executors` are the strategies that run, `bindings` what the learned ones are
    bound to. Leaving waits for the disk, for `close_timeout_s` and `CLOSE_TRIES` errors of it at most.
    """

    def __init__(
        self,
        folder: Path,
        executors: Sequence[StrategyExecutor],
        bindings: Bindings | None = None,
        options: AuditOptions | None = None,
        *,
        close_timeout_s: float = CLOSE_TIMEOUT_S,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.folder = folder
        self.counts = AuditCounts()
        self._options = options or AuditOptions()
        self._bindings = bindings
        self._close_timeout_s = close_timeout_s
        self._wall_ns = wall_ns
        self._lineup = lineup_record(executors)
        self._run = secrets.token_hex(8)
        # Appended to by the loop's thread, taken from by the writer's: both are atomic.
        self._queue: deque[tuple[Any, int, int]] = deque()
        self._max_queued = self._options.max_queued
        # Nobody waits for the interpreter where the loop waits for the log.
        self._yield_below = 0 if self._options.patient else self._max_queued // 2
        self._gap: Gap | None = None
        self._gap_lock = threading.Lock()
        self._stopping = threading.Event()
        self._room = threading.Event()
        # Set to have the thread write before its pause is over; never on a live loop's way.
        self._wake = threading.Event()
        self._failing = False
        self._lock: int | None = None
        self._writer: Writer | None = None
        self._thread = threading.Thread(target=self._write, name="tickserve-audit", daemon=True)

    def __repr__(self) -> str:
        return f"<AuditLog {self.folder} {self.counts}, {len(self._queue)} queued>"

    def __enter__(self) -> Self:
        self._lock = lock_folder(self.folder)
        try:
            self._writer = Writer(
                self.folder,
                self._options,
                self._run,
                lineup=self._lineup,
                software=software(),
                wall_ns=self._wall_ns,
            )
            self._writer.open()
        except BaseException:
            self._unlock()
            raise
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def head(self) -> str:
        """The hash of the last line taken into a segment, to be kept where nobody can rewrite it."""
        return self._writer.head.hex() if self._writer is not None else ""

    def took(self, processed: ProcessedTick) -> None:
        """Queue a tick; drop and count it where there is no room."""
        if self._gap is None and len(self._queue) < self._max_queued:
            self._queue.append((processed, self._wall_ns(), time.monotonic_ns()))
        else:
            self._put(processed)

    def compared(self, comparison: ShadowComparison) -> None:
        """Queue what a shadow said; drop and count it where there is no room."""
        self._put(comparison)

    def changed(self, executors: Sequence[StrategyExecutor]) -> None:
        """Say that these strategies run from the next tick on. It is never dropped: it is rare, and small."""
        record = lineup_record(executors)
        with self._gap_lock:
            self._close_gap()
            self._queue.append((record, self._wall_ns(), 0))

    def close(self) -> None:
        """Write what is queued, for `close_timeout_s` at most, and let the folder go. May be called twice."""
        if self._lock is None:
            return
        self._stopping.set()
        self._wake.set()
        self._thread.join(self._close_timeout_s)
        unwritten = len(self._queue) + (self._writer.unwritten if self._writer is not None else 0)
        if self._thread.is_alive() or unwritten:
            log.error("%s: closed before %d records were written: it has no end", self.folder, unwritten)
        # A writer that hangs in the system holds the folder until the process ends: no other may take it.
        if not self._thread.is_alive():
            self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _put(self, item: ProcessedTick | ShadowComparison) -> None:
        if self._options.patient:
            self._wait_for_room()
        with self._gap_lock:
            if len(self._queue) < self._max_queued:
                self._close_gap()
                self._queue.append((item, self._wall_ns(), time.monotonic_ns()))
                return
            gap = self._gap = self._gap or Gap()
            if isinstance(item, ProcessedTick):
                gap.add_tick(item.index)
                self.counts.dropped += 1
            else:
                gap.shadows += 1
                self.counts.dropped_shadows += 1

    def _close_gap(self) -> None:
        if self._gap is not None:
            self._queue.append((self._gap, self._wall_ns(), 0))
            self._gap = None

    def _wait_for_room(self) -> None:
        while True:
            self._room.clear()
            if len(self._queue) < self._max_queued or self._failing or not self._thread.is_alive():
                return
            self._wake.set()
            self._room.wait(PATIENCE_S)

    def _write(self) -> None:
        assert self._writer is not None  # noqa: S101 the thread starts behind it
        pause_s = self._options.flush_ms / 1000
        tries = 0
        while True:
            # Read before the queue is emptied, so that what was put before `close` is written.
            stopping = self._stopping.is_set()
            try:
                self._write_queued(self._writer)
                if stopping:
                    self._writer.close()
                    return
            except OSError as error:
                self._failed(error)
                tries += stopping
                if tries == CLOSE_TRIES:
                    self._writer.abandon()
                    return
                if stopping:
                    time.sleep(RETRY_S)
                else:
                    self._stopping.wait(RETRY_S)
            else:
                self._recovered()
                self._wake.wait(pause_s)
                self._wake.clear()

    def _write_queued(self, writer: Writer) -> None:
        if self._bindings is not None:
            writer.bound(self._bindings.all)
        records = 0
        while self._queue or self._told_gap():
            # Written first and taken out then: what the disk does not take stays where it is counted.
            writer.make_room()
            self._append(writer, *self._queue.popleft())
            self._room.set()
            records += 1
            if not records % YIELD_RECORDS and self._may_give_way():
                time.sleep(YIELD_S)
        writer.flush()

    def _may_give_way(self) -> bool:
        return len(self._queue) < self._yield_below and not self._stopping.is_set()

    def _told_gap(self) -> bool:
        """Queue the gap, if there is one: nothing stands behind it then, so it comes in its place."""
        with self._gap_lock:
            self._close_gap()
            return bool(self._queue)

    def _append(self, writer: Writer, item: object, wall_ns: int, monotonic_ns: int) -> None:
        self.counts.written += 1
        try:
            if isinstance(item, ProcessedTick):
                writer.tick(item, wall_ns, monotonic_ns)
            elif isinstance(item, ShadowComparison):
                writer.shadow(item)
            elif isinstance(item, Gap):
                writer.gap(
                    {"gap": item.ticks, "first": item.first, "last": item.last, "shadows": item.shadows}
                )
            elif isinstance(item, dict):
                writer.lineup(item, wall_ns)
        except BaseException as error:
            # A user's processor may put anything into its metadata, and what is asked of that may raise
            # anything, such as SystemExit; a record that cannot be written is a gap too.
            log.exception("%s: a record could not be written", self.folder)
            index = item.index if isinstance(item, ProcessedTick | ShadowComparison) else -1
            ticks = int(isinstance(item, ProcessedTick))
            why = f"{type(error).__name__}: it could not be written as text"
            writer.gap({"gap": ticks, "first": index, "last": index, "shadows": 1 - ticks, "why": why})

    def _failed(self, error: OSError) -> None:
        self.counts.failures += 1
        if not self._failing:
            self._failing = True
            log.error("%s: the audit log cannot be written and will have a gap soon: %s", self.folder, error)

    def _recovered(self) -> None:
        if self._failing:
            self._failing = False
            log.warning(
                "%s: the audit log is written again; %d ticks were dropped", self.folder, self.counts.dropped
            )
