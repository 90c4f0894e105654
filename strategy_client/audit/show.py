"""What a log says of a time, a strategy or a reason, for a person who asks why there was no signal."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from strategy_client.audit.decoder import Decoder, Recorded, RecordedTick
from strategy_client.audit.reader import LogReader


@dataclass(frozen=True, slots=True)
class Wish:
    """Which outcomes to show; None is all. Times are the ticks', `begin` included and `end` not."""

    strategy_id: str | None = None
    begin: datetime | None = None
    end: datetime | None = None
    said: str | None = None

    def takes_time(self, time: datetime) -> bool:
        """Whether a tick of this time is asked for; one without a zone is only where no time is asked for."""
        if self.begin is None and self.end is None:
            return True
        if time.tzinfo is None:
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
            if "tick" in entry.record:
                if not wish.takes_time(datetime.fromisoformat(entry.record["time"])):
                    before.clear()
                    continue
                tick = decoder.read_tick(entry.record)
                yield from before
                before.clear()
                yield from (Shown(tick, outcome) for outcome in tick.outcomes if wish.takes(outcome))
            else:
                before.extend(_events(entry.record, decoder))
        except (KeyError, TypeError, ValueError) as error:
            before.append(Event(0, f"audit-{entry.segment:06}.jsonl:{entry.line} cannot be read: {error}"))
    yield from before


def first_time(folder: Path) -> datetime | None:
    """Return the time of the first tick of a log; None for one without ticks. AuditError, OSError."""
    for entry in LogReader(folder):
        if "tick" in entry.record:
            return datetime.fromisoformat(str(entry.record.get("time")))
    return None


def _events(record: Mapping[str, Any], decoder: Decoder) -> Iterator[Event]:
    if "segment" in record:
        decoder.forget()
        yield Event(_ns(record.get("at")), f"run {record.get('run')}, segment {record['segment']}")
    elif "model" in record:
        model = decoder.learn(record)
        yield Event(0, f"the first answer by {model.name} version {model.version}, sha256 {model.digest}")
    elif "gap" in record:
        which = (
            f"ticks {record.get('first')} to {record.get('last')} were" if record["gap"] else "no tick was"
        )
        yield Event(_ns(record.get("at")), f"gap: {which} dropped")
    elif "lineup" in record:
        yield Event(_ns(record["lineup"]), "other strategies, or other parameters, from here on")
    elif "bound" in record:
        for strategy_id, binding in dict(record["bindings"]).items():
            bound = (
                f"bound under contract {binding['contract_hash'][:12]}" if "contract_hash" in binding else ""
            )
            unbound = f"not bound: {binding.get('reason')} {binding.get('detail')}"
            yield Event(_ns(record["bound"]), f"{strategy_id} {bound or unbound}")
    elif "end" in record:
        yield Event(_ns(record["end"]), f"the segment ends: {record.get('why')}")


def _ns(value: object) -> int:
    return value if isinstance(value, int) else 0
