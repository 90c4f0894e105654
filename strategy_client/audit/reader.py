"""A log read back: its records in order, and whether it is whole."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from strategy_client.audit import chain
from strategy_client.audit.folder import AuditError, is_being_written, segments

FORMATS: Final = (1,)
CLOSED: Final = "closed"
# Damage in the middle of a segment may make of its rest one line, or a hundred thousand findings.
MAX_FINDINGS: Final = 1_000


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about the log itself; `line` 0 is the segment as a whole.

    `broken`: this cannot have been written so. Otherwise it was, and something is missing all the same.
    """

    segment: int
    line: int
    text: str
    broken: bool

    def __str__(self) -> str:
        place = f"audit-{self.segment:06}.jsonl" + (f":{self.line}" if self.line else "")
        return f"{place}: {self.text}"


@dataclass(frozen=True, slots=True)
class Entry:
    """One record and where it stands; lines count from 1."""

    segment: int
    line: int
    record: Mapping[str, Any]


class LogReader:
    """Reads a folder's segments; iterate it once, and then look at `findings`.

    `head` is the hash of the last line read, `heads` those of the `anchors` that were met. Raises AuditError
    for a folder without a log.
    """

    def __init__(self, folder: Path, anchors: frozenset[bytes] = frozenset()) -> None:
        self.folder = folder
        self.findings: list[Finding] = []
        self.head = chain.START
        self.heads: set[bytes] = set()
        self.bytes_read = 0
        self.lines = 0
        self.dropped = 0
        self.being_written = False
        self._anchors = anchors
        try:
            self._segments = segments(folder)
        except OSError as error:
            raise AuditError(f"{folder}: expected a folder with an audit log: {error.strerror}") from None
        if not self._segments:
            raise AuditError(f"{folder}: expected an audit log, there is no audit-000001.jsonl or later one")
        self.total_bytes = sum(path.stat().st_size for path in self._segments.values())
        # What the next line may follow: more than one where the line before was damaged, none where unknown.
        self._before: tuple[bytes, ...] = ()
        self._run = ""
        self._next_index = 0
        self._ended = True
        self._torn: Finding | None = None

    def __repr__(self) -> str:
        return f"<LogReader {self.folder}, {len(self._segments)} segments, {len(self.findings)} findings>"

    def __iter__(self) -> Iterator[Entry]:
        # Looked at first: whoever ends it meanwhile has written the end then, or not.
        self.being_written = is_being_written(self.folder)
        expected = min(self._segments)
        if expected > 1:
            self._find(expected, 0, f"{expected - 1} segments before it are not here", broken=False)
        for number, path in self._segments.items():
            if number != expected:
                missing = f"segment {expected}" + (f" to {number - 1}" if number - 1 > expected else "")
                self._find(number, 0, f"{missing} before it is not here", broken=True)
                self._before = ()
            yield from self._read_segment(number, path, first=number == min(self._segments))
            expected = number + 1
        self._tell_torn()
        if not self._ended and not self.being_written:
            text = "it has no end: the process was cut off, and nobody can say what came after"
            self._find(expected - 1, 0, text, broken=False)

    def _read_segment(self, number: int, path: Path, *, first: bool) -> Iterator[Entry]:
        with path.open("rb") as file:
            line = 0
            for line, text in enumerate(file, 1):
                self.bytes_read += len(text)
                if not text.endswith(b"\n"):
                    if not (self.being_written and number == max(self._segments)):
                        what = f"torn end: the last {len(text)} bytes are no whole line"
                        self._torn = Finding(number, line, what, broken=False)
                    break
                record = self._check(number, line, text, first=first)
                if record is None:
                    continue
                entry = Entry(number, line, record)
                self._follow(entry)
                yield entry
        if line == 0:
            self._find(number, 0, "it is empty", broken=False)

    def _check(self, number: int, line: int, text: bytes, *, first: bool) -> Mapping[str, Any] | None:
        """Hold a line against the one before it; None where it holds no record."""
        self.lines += 1
        parts = chain.split(text)
        if parts is None:
            self._find(number, line, "no line of a log: it does not end with a hash", broken=True)
            self._before = ()
            return None
        body, stated = parts
        record: Mapping[str, Any] | None
        try:
            record = json.loads(body + b"}")
        except ValueError:
            record = None
        if not isinstance(record, dict) or not record:
            record = None
        if line == 1 and record is not None:
            self._check_header(number, record, first=first)
        possible = [chain.hash_of(before, body) for before in self._before]
        if possible and stated not in possible:
            text_ = "it does not follow the line before it: one of them was changed, removed or moved"
            self._find(number, line, text_, broken=True)
        elif record is None:
            self._find(number, line, "it holds no record", broken=True)
        # Where the hash itself was damaged, the line behind follows what it ought to be.
        self._before = (stated, *(each for each in possible if each != stated))
        self.head = stated
        if stated in self._anchors:
            self.heads.add(stated)
        return record

    def _check_header(self, number: int, record: Mapping[str, Any], *, first: bool) -> None:
        if record.get("format") not in FORMATS:
            known = ", ".join(map(str, FORMATS))
            text = f"expected the header of a log of format {known}, came {str(record)[:80]!r}"
            self._find(number, 1, text, broken=True)
            return
        if record.get("segment") != number:
            text = f"its header says that it is segment {record.get('segment')}"
            self._find(number, 1, text, broken=True)
        previous = record.get("previous")
        stated = ""
        if isinstance(previous, dict):
            stated = str(previous.get("hash", ""))
            if first:
                # What it follows is not here, so that there is nothing to hold it against but its own word.
                self._before = (bytes.fromhex(stated) if _is_hash(stated) else chain.START,)
                return
            if not stated:
                text = "the segment before it held no whole line, so it begins a chain of its own"
                self._find(number, 1, text, broken=False)
        if first or (isinstance(previous, dict) and not stated):
            self._before = (chain.START,)

    def _follow(self, entry: Entry) -> None:
        record = entry.record
        if "segment" in record:
            if record.get("run") == self._run:
                # The line was written again at the beginning of this segment.
                self._torn = None
            self._tell_torn()
            if record.get("run") != self._run:
                if not self._ended:
                    text = f"it has no end: the run {self._run} was cut off before this one"
                    self._find(entry.segment - 1, 0, text, broken=False)
                self._run, self._next_index = str(record.get("run")), 0
            self._ended = False
        elif "tick" in record:
            self._index(entry, record["tick"], record["tick"], record["tick"])
        elif "gap" in record:
            self._gap(entry)
        elif "end" in record:
            # One that is only full is followed by another.
            self._ended = record.get("why") == CLOSED

    def _gap(self, entry: Entry) -> None:
        ticks, first, last = (entry.record.get(name) for name in ("gap", "first", "last"))
        if not (isinstance(ticks, int) and isinstance(first, int) and isinstance(last, int)):
            self._find(entry.segment, entry.line, "a gap that does not say of what", broken=True)
            return
        self.dropped += ticks
        shadows = entry.record.get("shadows") or 0
        if ticks:
            text = f"gap: {ticks} ticks, {first} to {last}, were dropped"
            self._index(entry, first, last, first)
        else:
            text = "gap: no tick was dropped"
        text += f", {shadows} comparisons of shadows" if shadows else ""
        text += f" ({entry.record['why']})" if "why" in entry.record else ""
        self._find(entry.segment, entry.line, text, broken=False)

    def _index(self, entry: Entry, first: object, last: object, shown: object) -> None:
        if not (isinstance(first, int) and isinstance(last, int)):
            self._find(entry.segment, entry.line, f"a tick without an index: {shown!r}", broken=True)
            return
        # The first segments may be elsewhere: that is told already.
        begins_late = self._next_index == 0 and entry.segment == min(self._segments) > 1
        if first != self._next_index and not begins_late:
            text = f"expected tick {self._next_index}, came {first}, and no gap says why"
            self._find(entry.segment, entry.line, text, broken=True)
        self._next_index = last + 1

    def _tell_torn(self) -> None:
        if self._torn is not None:
            self.findings.append(self._torn)
            self._torn = None

    def _find(self, segment: int, line: int, text: str, *, broken: bool) -> None:
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(Finding(segment, line, text, broken))


def _is_hash(text: str) -> bool:
    return len(text) == 64 and set(text) <= set("0123456789abcdef")
