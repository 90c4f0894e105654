"""A log read back: its records in order, and whether it is whole."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from strategy_client.audit import chain
from strategy_client.audit.folder import MAX_LINE_BYTES, AuditError, is_being_written, segments
from strategy_client.audit.record import read_record

FORMATS: Final = (1,)
KINDS: Final = frozenset({"segment", "model", "tick", "shadow", "bound", "lineup", "gap", "end"})
CLOSED: Final = "closed"
# Damage in the middle of a segment may make of its rest one line, or a hundred thousand findings.
MAX_FINDINGS: Final = 1_000
SHOWN_BYTES: Final = 80


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
    """One record and where it stands; lines count from 1. `kind` is the name of its first member."""

    segment: int
    line: int
    record: Mapping[str, Any]

    @property
    def kind(self) -> str:
        """One of KINDS."""
        return next(iter(self.record))


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
        self.lines = 0
        self.dropped = 0
        self.being_written = False
        self._bytes_read = 0
        self._found: Counter[bool] = Counter()
        self._anchors = anchors
        try:
            self._segments = segments(folder)
        except AuditError:
            raise
        except OSError as error:
            raise AuditError(f"{folder}: expected a folder with an audit log: {error.strerror}") from None
        if not self._segments:
            raise AuditError(f"{folder}: expected an audit log, there is no audit-000001.jsonl or later one")
        self._total_bytes = sum(path.stat().st_size for path in self._segments.values())
        # What the next line may follow: more than one where the line before was damaged, none where unknown.
        self._before: tuple[bytes, ...] = ()
        self._run = ""
        # The last one that began with a header.
        self._segment = min(self._segments)
        self._next_index = 0
        self._ended = True
        self._closed_by = 0
        self._torn: Finding | None = None

    def __repr__(self) -> str:
        return f"<LogReader {self.folder}, {len(self._segments)} segments, {len(self.findings)} findings>"

    @property
    def part(self) -> float:
        """How much of it has been read, 0 to 1; it may grow meanwhile."""
        return min(self._bytes_read / max(self._total_bytes, 1), 1.0)

    def __iter__(self) -> Iterator[Entry]:
        # Looked at first: whoever ends it meanwhile has written the end then, or not.
        self.being_written = is_being_written(self.folder)
        expected = min(self._segments)
        if expected > 1:
            before = f"{expected - 1} segments before it are" if expected > 2 else "the segment before it is"
            self._find(expected, 0, f"{before} not here", broken=False)
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
            self._find(self._segment, 0, text, broken=False)

    def _read_segment(self, number: int, path: Path, *, first: bool) -> Iterator[Entry]:
        with path.open("rb") as file:
            line = 0
            for line, text in enumerate(self._lines(file), 1):
                if not text.endswith(b"\n"):
                    if not (self.being_written and number == max(self._segments)):
                        what = f"torn end: the last {len(text)} bytes are no whole line"
                        self._torn = Finding(number, line, what, broken=False)
                    break
                record = self._check(number, line, text, first=first)
                if record is None:
                    continue
                if line == 1 and _other_format(record):
                    # What its lines mean is for whoever knows that format.
                    self._before = ()
                    break
                entry = Entry(number, line, record)
                if self._follow(entry):
                    yield entry
        if line == 0:
            self._find(number, 0, "it is empty", broken=False)

    def _lines(self, file: BinaryIO) -> Iterator[bytes]:
        """Return the lines; of one that is longer than any line of a log its first bytes only."""
        while text := file.readline(MAX_LINE_BYTES):
            self._bytes_read += len(text)
            kept = text
            while not text.endswith(b"\n") and (text := file.readline(MAX_LINE_BYTES)):
                self._bytes_read += len(text)
                kept = kept[:SHOWN_BYTES] + b"\n"
            yield kept

    def _check(self, number: int, line: int, text: bytes, *, first: bool) -> Mapping[str, Any] | None:
        """Hold a line against the one before it; None where it holds no record."""
        self.lines += 1
        parts = chain.split(text)
        if parts is None:
            self._find(number, line, "no line of a log: it does not end with a hash", broken=True)
            self._before = ()
            return None
        body, stated = parts
        record = read_record(body + b"}")
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
        if next(iter(record)) != "segment" or record.get("format") not in FORMATS:
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

    def _follow(self, entry: Entry) -> bool:
        """Hold a record against those before it; False for what is none that can stand there."""
        record, kind = entry.record, entry.kind
        if kind not in KINDS or (kind == "segment") != (entry.line == 1):
            text = f"{kind[:SHOWN_BYTES]!r}: no record that is known, or none that can stand here"
            self._find(entry.segment, entry.line, text, broken=True)
            return False
        if self._closed_by == entry.segment:
            self._find(entry.segment, entry.line, "it stands behind the end of the run", broken=True)
        if kind == "segment":
            if record.get("run") == self._run:
                # The line was written again at the beginning of this segment.
                self._torn = None
            self._tell_torn()
            if record.get("run") != self._run:
                if not self._ended:
                    text = f"it has no end: the run {self._run} was cut off before this one"
                    self._find(self._segment, 0, text, broken=False)
                self._run, self._next_index = str(record.get("run")), 0
            self._ended, self._segment = False, entry.segment
        elif kind == "tick":
            return self._tick(entry)
        elif kind == "gap":
            return self._gap(entry)
        elif kind == "end":
            # One that is only full is followed by another.
            self._ended = record.get("why") == CLOSED
            self._closed_by = entry.segment if self._ended else 0
        return True

    def _tick(self, entry: Entry) -> bool:
        index = entry.record["tick"]
        if type(index) is not int or index < 0:
            text = f"a tick without an index: {str(index)[:SHOWN_BYTES]!r}"
            self._find(entry.segment, entry.line, text, broken=True)
            return False
        self._index(entry, index, index)
        return True

    def _gap(self, entry: Entry) -> bool:
        told = [entry.record.get(name) for name in ("gap", "first", "last", "shadows")]
        ticks, first, last, shadows = (each if type(each) is int else -1 for each in told)
        # What is dropped is ticks, one after the other, or no tick, and none of them has an index then.
        if min(ticks, shadows) < 0 or (ticks and (first < 0 or ticks != last - first + 1)):
            self._find(entry.segment, entry.line, "a gap that does not say of what", broken=True)
            return False
        self.dropped += ticks
        if ticks:
            text = f"gap: {ticks} ticks, {first} to {last}, were dropped"
            self._index(entry, first, last)
        else:
            text = "gap: no tick was dropped"
        text += f", {shadows} comparisons of shadows" if shadows else ""
        text += f" ({entry.record['why']})" if "why" in entry.record else ""
        self._find(entry.segment, entry.line, text, broken=False)
        return True

    def _index(self, entry: Entry, first: int, last: int) -> None:
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
        # Each kind has its own room: a thousand gaps hide nothing that is broken.
        self._found[broken] += 1
        if self._found[broken] <= MAX_FINDINGS:
            self.findings.append(Finding(segment, line, text, broken))


def _other_format(record: Mapping[str, Any]) -> bool:
    stated = record.get("format")
    return next(iter(record)) == "segment" and type(stated) is int and stated not in FORMATS


def _is_hash(text: str) -> bool:
    return len(text) == 64 and set(text) <= set("0123456789abcdef")
