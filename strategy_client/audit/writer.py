"""What the log's thread does: records into segments, segments one after the other, all of it in one chain."""

import errno
import logging
import math
import os
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from strategy_client.audit import chain
from strategy_client.audit.encoder import Encoder
from strategy_client.audit.folder import (
    FOLDER_MODE,
    MAX_LINE_BYTES,
    Head,
    find_head,
    segment_path,
    segments,
)
from strategy_client.audit.options import AuditOptions
from strategy_client.audit.plain import to_text
from strategy_client.audit.segment import Segment, sync_folder
from strategy_client.binding import Binding, Bound
from strategy_client.events import ProcessedTick, ShadowComparison

FORMAT: Final = 1
NS_PER_S: Final = 1_000_000_000
# So many lines are handed to the system at once, and are all that a failing disk keeps outside the queue.
BATCH_LINES: Final = 256
# A line has its hash behind its body.
MAX_BODY_BYTES: Final = MAX_LINE_BYTES - 1_024
FREE_EVERY_S: Final = 1.0
TRY_AGAIN_S: Final = 10.0
# After these the same file may take more later; after any other error a new file is tried.
FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EAGAIN, errno.EINTR})

log = logging.getLogger(__name__)


class Writer:
    """Writes one run's records, from one thread.

    Every method may raise OSError; what was taken is kept then, and written by a later `flush`.
    """

    def __init__(
        self,
        folder: Path,
        options: AuditOptions,
        run: str,
        *,
        lineup: Mapping[str, Any],
        software: Mapping[str, str],
        wall_ns: Callable[[], int],
    ) -> None:
        self._folder = folder
        self._options = options
        self._run = run
        self._lineup = lineup
        self._software = software
        self._wall_ns = wall_ns
        self._bindings: Mapping[str, Binding] = {}
        self._encoder = Encoder()
        self._segment: Segment | None = None
        self._last_head = chain.START
        self._number = 0
        self._opened_s = self._synced_s = time.monotonic()
        self._looked_s = -math.inf

    def __repr__(self) -> str:
        return f"<Writer {self._segment!r}>"

    @property
    def head(self) -> bytes:
        """The hash of the last line taken, also after `close`."""
        return self._segment.head if self._segment is not None else self._last_head

    @property
    def unwritten(self) -> int:
        """How many lines were taken and are not wholly in the file."""
        return len(self._segment.unwritten) if self._segment is not None else 0

    def open(self) -> None:
        """Begin the first segment of this run, behind those that are there."""
        found = segments(self._folder)
        self._number = max(found, default=0)
        self._begin(find_head(found), [])
        try:
            self.flush()
        except OSError:
            self._give_up()
            raise

    def tick(self, processed: ProcessedTick, wall_ns: int, monotonic_ns: int) -> None:
        """Take a tick; the two readings are those of the clocks when its outcomes were known."""
        self._append(self._encoder.encode_tick(processed, wall_ns, monotonic_ns))

    def shadow(self, comparison: ShadowComparison) -> None:
        """Take what a shadow said."""
        self._append(self._encoder.encode_comparison(comparison))

    def gap(self, record: Mapping[str, Any]) -> None:
        """Take what is known of records that were dropped."""
        self._append([_body({**record, "at": self._wall_ns()})])

    def lineup(self, record: Mapping[str, Any], wall_ns: int) -> None:
        """Take the strategies that run from the next tick on."""
        self._lineup = record
        self._append([_body({"lineup": wall_ns, **record})])

    def bound(self, bindings: Mapping[str, Binding]) -> None:
        """Take what the learned strategies are bound to; what has not changed is not written again."""
        if bindings != self._bindings:
            self.make_room()
            self._bindings = bindings
            self._append([_body({"bound": self._wall_ns(), "bindings": _bindings(bindings)})])

    def make_room(self) -> None:
        """Write what was taken where it has become much, and begin the next segment where it is time to."""
        segment = self._open_segment()
        if len(segment.unwritten) >= BATCH_LINES:
            self.flush()
        aged = time.monotonic() - self._opened_s >= self._options.segment_s
        if aged or segment.appended_bytes >= self._options.segment_bytes:
            self._rotate()

    def flush(self) -> None:
        """Hand what was taken to the system and, every `sync_ms`, to the disk."""
        segment = self._open_segment()
        now_s = time.monotonic()
        if segment.unwritten:
            self._check_free(now_s)
            self._flush_somewhere(now_s)
        if now_s - self._synced_s >= self._options.sync_ms / 1000:
            self._sync()

    def _flush_somewhere(self, now_s: float) -> None:
        while True:
            segment = self._open_segment()
            try:
                segment.flush()
            except OSError as error:
                # A segment that took nothing but its own beginning was tried in vain, and so would others be.
                in_vain = segment.whole_lines <= 1 + len(self._encoder.named)
                if error.errno in FULL or (in_vain and now_s - self._opened_s < TRY_AGAIN_S):
                    raise
                log.warning("%s: %s; trying another segment", segment.path, error)
                self._abandon()
            else:
                return

    def close(self) -> None:
        """Write the end, wait for the disk, and let the file go. After an OSError it may be called again."""
        segment = self._end("closed")
        self._segment, self._last_head = None, segment.head
        segment.close()

    def abandon(self) -> None:
        """Let the file go without an end: a log that could not be written must not look whole."""
        if self._segment is not None:
            self._segment.close()

    def _append(self, bodies: list[bytes]) -> None:
        segment = self._open_segment()
        for body in bodies:
            # What names a model stands before what uses it, and is short: it is never left out.
            if len(body) > MAX_BODY_BYTES:
                raise ValueError(f"a record of {len(body):,} bytes: expected up to {MAX_BODY_BYTES:,}")
            segment.append(body)

    def _give_up(self) -> None:
        """Leave nothing of a segment that not one line was written to: every try would leave another."""
        segment = self._open_segment()
        self._segment = None
        if not segment.size:
            segment.path.unlink(missing_ok=True)
        segment.close()

    def _open_segment(self) -> Segment:
        if self._segment is None:
            raise RuntimeError("the audit log is not open")
        return self._segment

    def _check_free(self, now_s: float) -> None:
        if now_s - self._looked_s < FREE_EVERY_S:
            return
        free = os.statvfs(self._folder)
        free_bytes = free.f_bavail * free.f_frsize
        if free_bytes < self._options.keep_free_bytes:
            text = f"{free_bytes:,} bytes are free, {self._options.keep_free_bytes:,} are to be kept free"
            raise OSError(errno.ENOSPC, text, str(self._folder))
        self._looked_s = now_s

    def _sync(self) -> None:
        segment = self._open_segment()
        if not segment.is_there():
            log.error("%s is gone, and what was in it; trying another segment", segment.path)
            self._abandon()
            segment = self._open_segment()
        segment.sync()
        self._synced_s = time.monotonic()

    def _rotate(self) -> None:
        self.flush()
        segment = self._end("full")
        self._begin(Head(self._number, segment.head), [])
        segment.close()

    def _end(self, why: str) -> Segment:
        """Write a segment's end once, however often it is tried; returns the segment that took it."""
        segment = self._open_segment()
        if not segment.ended:
            segment.append(_body({"end": self._wall_ns(), "why": why}))
            segment.ended = True
        self.flush()
        self._sync()
        # What failed, or was gone, has been left for another segment.
        last = self._open_segment()
        if last.ended:
            return last
        raise OSError(errno.ESTALE, "it was removed before its end was written", str(segment.path))

    def _abandon(self) -> None:
        """Go on in a new segment with what the old one did not take."""
        old = self._open_segment()
        unwritten = old.unwritten
        self._begin(Head(self._number, old.written_head), unwritten)
        # An end is the last of all lines: it goes along with any that does.
        self._open_segment().ended = old.ended and bool(unwritten)
        old.close()

    def _begin(self, before: Head | None, unwritten: list[bytes]) -> None:
        self._folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
        chain_before = before.hash if before and before.hash else chain.START
        number = self._number + 1
        segment = Segment(segment_path(self._folder, number), chain_before)
        # Also if the rest of this fails: what is there now cannot be begun again.
        self._number = number
        try:
            sync_folder(self._folder)
        except OSError:
            segment.close()
            raise
        now_ns = self._wall_ns()
        previous = {"segment": before.segment, "hash": before.hash.hex()} if before else None
        segment.append(
            _body(
                {
                    "segment": number,
                    "format": FORMAT,
                    "at": now_ns,
                    "opened": datetime.fromtimestamp(now_ns // NS_PER_S, UTC).isoformat(),
                    "run": self._run,
                    "previous": previous,
                    "software": self._software,
                    **self._lineup,
                    "bindings": _bindings(self._bindings),
                }
            )
        )
        # A segment can be read without those before it.
        for body in (*self._encoder.named, *unwritten):
            segment.append(body)
        self._segment = segment
        self._opened_s = time.monotonic()


def _body(record: Mapping[str, Any]) -> bytes:
    return to_text(record)[:-1].encode("ascii")


def _bindings(bindings: Mapping[str, Binding]) -> dict[str, Any]:
    return {
        strategy_id: {
            "version": binding.version,
            "digest": binding.digest,
            "contract_hash": binding.contract_hash,
            "accepts_nan": binding.accepts_nan,
            "classes": binding.meanings.classes if binding.meanings else None,
            "meanings": binding.meanings.meanings if binding.meanings else None,
        }
        if isinstance(binding, Bound)
        else {"reason": binding.reason.value, "detail": binding.detail}
        for strategy_id, binding in bindings.items()
    }
