"""What a log says of a time, a strategy or a reason, for a person who asks why there was no signal."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from strategy_client.audit.decoder import UNREADABLE, Decoder, Recorded, RecordedTick
from strategy_client.audit.reader import LogReader

# The year 2262, beyond which no clock of a log can have been.
LATEST_NS: Final = 1 << 63


@dataclass(frozen=True, slots=True)
class Wish:
    """Which outcomes to show; None is all. Times are the ticks', `begin` included and `end` not."""

    strategy_id: str | None = None
    begin: datetime | None = None
    end: datetime | None = None
    said: str | None = None

    def takes_time(self, time: datetime | None) -> bool:
        """Whether a tick of this time is asked for; one without zone or time is where none is asked for."""
        if self.begin is None and self.end is None:
            return True
        if time is None or time.tzinfo is None:
            return False
        return (self.begin is None or time >= self.begin) and (self.end is None or time < self.end)

    def takes(self, outcome: Recorded) -> bool:
        """Whether an outcome is asked for."""
        return (self.strategy_id in (None, outcome.strategy_id)) and (self.said in (None, outcome.said))


@dataclass(frozen=True, slots=True)
class Shown:
    """One outcome of one tick."""

    tick: RecordedTick
    outcome: Recorded


@dataclass(frozen=True, slots=True)
class Event:
    """Something else that happened in between: a start, a change, a gap, an end."""

    at_ns: int
    text: str


def find(folder: Path, wish: Wish) -> Iterator[Shown | Event]:
    """Return what is asked for, in order, and what happened on the way. AuditError, OSError.

    What happened between two ticks is told with them. The chain is not looked at: see `verification`.
    """
    decoder = Decoder()
    before: list[Event] = []
    for entry in LogReader(folder):
        try:
            if entry.kind == "tick":
                time = entry.record["time"]
                if not wish.takes_time(None if time is None else datetime.fromisoformat(time)):
                    before.clear()
                    continue
                tick = decoder.read_tick(entry.record)
                yield from before
                before.clear()
                yield from (Shown(tick, outcome) for outcome in tick.outcomes if wish.takes(outcome))
            else:
                before.extend(_events(entry.kind, entry.record, decoder))
        except UNREADABLE as error:
            before.append(Event(0, f"audit-{entry.segment:06}.jsonl:{entry.line} cannot be read: {error}"))
    yield from before


def first_time(folder: Path) -> datetime | None:
    """Return the time of the first tick of a log that has one; None where none has. AuditError, OSError."""
    for entry in LogReader(folder):
        if entry.kind == "tick":
            with suppress(ValueError):
                return datetime.fromisoformat(str(entry.record.get("time")))
    return None


def _events(kind: str, record: Mapping[str, Any], decoder: Decoder) -> Iterator[Event]:
    if kind == "segment":
        decoder.forget()
        yield Event(_ns(record.get("at")), f"run {record.get('run')}, segment {record['segment']}")
    elif kind == "model":
        model = decoder.learn(record)
        yield Event(0, f"the first answer by {model.name} version {model.version}, sha256 {model.digest}")
    elif kind == "gap":
        which = (
            f"ticks {record.get('first')} to {record.get('last')} were" if record["gap"] else "no tick was"
        )
        yield Event(_ns(record.get("at")), f"gap: {which} dropped")
    elif kind == "lineup":
        yield Event(_ns(record["lineup"]), "other strategies, or other parameters, from here on")
    elif kind == "bound":
        for strategy_id, binding in dict(record["bindings"]).items():
            bound = (
                f"bound under contract {binding['contract_hash'][:12]}" if "contract_hash" in binding else ""
            )
            unbound = f"not bound: {binding.get('reason')} {binding.get('detail')}"
            yield Event(_ns(record["bound"]), f"{strategy_id} {bound or unbound}")
    elif kind == "end":
        yield Event(_ns(record["end"]), f"the segment ends: {record.get('why')}")


def _ns(value: object) -> int:
    return value if isinstance(value, int) and 0 <= value < LATEST_NS else 0
