"""JSON lines on disk: signals, and one compact line of outcomes a tick.

Two runs over the same ticks and models write the same bytes, apart from the fields named in `VARYING`.
"""

import fcntl
import json
import math
import operator
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from strategy_client.configuration import HeldError, is_interrupt, name_error
from strategy_client.edge import write_time
from strategy_client.events import MarketTick, Outcome, Reason, ShadowComparison, Signal

BUFFER_BYTES: Final = 1_048_576
# How deep a user's metadata is written.
MAX_DEPTH: Final = 32
# Fields of a signal's metadata that differ between two runs.
VARYING: Final = ("latency_us", "request_id")
# What an answer came from, in the fields of an outcome's metadata.
ANSWERED_BY: Final = ("model", "version", "digest", "contract_hash", "confidence_threshold")
_read_source: Final = operator.itemgetter(*ANSWERED_BY)


class JsonLinesFile:
    """A file of one JSON object a line, written anew; the keys keep the order in which they are given.

    Raises OSError where it cannot be written, HeldError where another process is writing it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # Not emptied before it is known to be ours.
        self._file = path.open("a", encoding="utf-8", buffering=BUFFER_BYTES)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._file.truncate(0)
        except OSError as error:
            self._file.close()
            if isinstance(error, BlockingIOError):
                raise HeldError(f"{path}: another process is writing it") from None
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def write(self, record: Mapping[str, Any]) -> None:
        """Write one line; it reaches the disk when the buffer is full or the file is closed."""
        self.write_line(dumps(record))

    def write_line(self, line: str) -> None:
        """Write a line that is JSON already."""
        self._file.write(line + "\n")

    def flush(self) -> int:
        """Hand what is buffered to the system; return how many bytes the file has."""
        self._file.flush()
        return os.fstat(self._file.fileno()).st_size

    def close(self) -> None:
        """Write what is buffered."""
        self._file.close()


def signal_record(index: int, signal: Signal) -> dict[str, Any]:
    """Return a signal in Alpha Panda's fields, behind the index of its tick."""
    return {
        "tick": index,
        "strategy_id": signal.strategy_id,
        "instrument_token": signal.instrument_token,
        "signal_type": signal.signal_type,
        "quantity": signal.quantity,
        "price": str(signal.price),
        "timestamp": signal.timestamp.isoformat(),
        "confidence": signal.confidence,
        "metadata": dict(signal.metadata),
    }


class OutcomeLines:
    """Makes the line of each tick: its price, each strategy's side or reason, and what a model answered.

    `probabilities` holds a strategy's largest probability, with the nine digits that tell one float32 from
    every other. Which model answered, and the threshold, stand in `answered_by` of the first line of which
    that is true; they hold for the strategy until another line says otherwise. Written by hand: json would
    take longer than all else that is done for a line.
    """

    __slots__ = ("_answered_by", "_keys", "_outcomes", "_time", "_timestamp")

    def __init__(self) -> None:
        self._keys: dict[str, str] = {}
        self._outcomes: dict[tuple[str, str | Reason], str] = {}
        # The ticks of one moment share it, where they come from a file.
        self._timestamp: datetime | None = None
        self._time = "null"
        self._answered_by: dict[str, tuple[Any, ...]] = {}

    def line(self, index: int, tick: MarketTick, outcomes: Sequence[Outcome]) -> str:
        """Return the line of a tick, without its end. Lines are asked for in the order of the ticks."""
        came, probabilities, answered_by = [], [], []
        for outcome in outcomes:
            strategy = outcome.strategy_id
            what = outcome.signal_type if isinstance(outcome, Signal) else outcome.reason
            text = self._outcomes.get((strategy, what))
            if text is None:
                text = self._outcomes[strategy, what] = self._outcome(strategy, what)
            came.append(text)
            metadata = outcome.metadata
            if not metadata or not _names_model(metadata):
                continue
            probability = metadata.get("probability")
            if isinstance(probability, float) and math.isfinite(probability):
                probabilities.append(f"{self._key(strategy)}{probability:.9g}")
            source = _source_of(metadata)
            if source != self._answered_by.get(strategy):
                self._answered_by[strategy] = source
                answered_by.append(
                    f"{self._key(strategy)}{dumps(dict(zip(ANSWERED_BY, source, strict=True)))}"
                )
        more = f',"probabilities":{{{",".join(probabilities)}}}' if probabilities else ""
        if answered_by:
            more += f',"answered_by":{{{",".join(answered_by)}}}'
        if tick.timestamp is not self._timestamp:
            self._time, self._timestamp = _time(tick.timestamp), tick.timestamp
        return (
            f'{{"tick":{index},"instrument_token":{_token(tick.instrument_token)},'
            f'"timestamp":{self._time},"price":{_price(tick.last_price)},'
            f'"outcomes":{{{",".join(came)}}}{more}}}'
        )

    def _outcome(self, strategy_id: str, what: str | Reason) -> str:
        return f"{self._key(strategy_id)}{json.dumps(what.value if isinstance(what, Reason) else what)}"

    def _key(self, strategy_id: str) -> str:
        key = self._keys.get(strategy_id)
        if key is None:
            key = self._keys[strategy_id] = f"{json.dumps(strategy_id)}:"
        return key


class ShadowRecords:
    """Makes the record of each comparison; which model a shadow is stands where that changes."""

    __slots__ = ("_answered_by",)

    def __init__(self) -> None:
        self._answered_by: dict[str, tuple[Any, ...]] = {}

    def record(self, comparison: ShadowComparison) -> dict[str, Any]:
        """Return the record of a comparison. They are asked for in the order of the ticks."""
        strategy = comparison.live.strategy_id
        record = {
            "tick": comparison.index,
            "strategy_id": strategy,
            "live": _brief(comparison.live),
            "shadow": _brief(comparison.shadow),
        }
        metadata = comparison.shadow.metadata
        source = _source_of(metadata)
        if _names_model(metadata) and source != self._answered_by.get(strategy):
            self._answered_by[strategy] = source
            record["answered_by"] = dict(zip(ANSWERED_BY, source, strict=True))
        return record


def _names_model(metadata: Mapping[str, Any]) -> bool:
    # A processor of a user's own may call anything so.
    return isinstance(metadata.get("digest"), str) and type(metadata.get("version")) is int


def _source_of(metadata: Mapping[str, Any]) -> tuple[Any, ...]:
    try:
        source: tuple[Any, ...] = _read_source(metadata)
    except KeyError:
        source = tuple(map(metadata.get, ANSWERED_BY))
    return source


def _brief(outcome: Outcome) -> dict[str, Any]:
    brief = {"outcome": outcome.signal_type if isinstance(outcome, Signal) else outcome.reason.value}
    probability = outcome.metadata.get("probability")
    return brief if probability is None else {**brief, "probability": probability}


def dumps(record: Mapping[str, Any]) -> str:
    """Return a record as JSON without blanks, whatever a user's processor has put into it."""
    try:
        return json.dumps(record, separators=(",", ":"), default=_plain, allow_nan=False)
    except BaseException as error:
        # What is not finite, a key that is no text, what holds itself, a user's class that raises.
        if is_interrupt(error):
            raise
        return json.dumps(_writable(record), separators=(",", ":"), allow_nan=False)


# What the edge refuses is recorded too, as far as it goes: the line of a tick is always JSON.


def _token(token: int) -> str:
    return str(token) if type(token) is int else json.dumps(_writable(token), allow_nan=False)


def _time(timestamp: datetime) -> str:
    text = write_time(timestamp)
    return "null" if text is None else f'"{text}"'


def _price(price: Decimal) -> str:
    return f'"{price}"' if type(price) is Decimal else json.dumps(str(_or_why(lambda: str(price))))


def _plain(value: object) -> object:
    if isinstance(value, Decimal):
        return str(value)
    # What a user's processor puts into metadata: numpy's numbers and arrays, dates, anything.
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)


def _writable(value: object, depth: int = MAX_DEPTH) -> Any:
    return _or_why(lambda: _converted(value, depth))


def _converted(value: object, depth: int) -> Any:  # noqa: PLR0911 one for each kind
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        # Python writes none of some thousand digits, and json would end with that.
        return int(str(int(value)))
    if not depth:
        return "..."
    if isinstance(value, dict):
        return {_key(key): _writable(each, depth - 1) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_writable(each, depth - 1) for each in value]
    return _writable(_plain(value), depth - 1)


def _key(key: object) -> str | float | None:
    if key is None or isinstance(key, str | bool) or (isinstance(key, float) and math.isfinite(key)):
        return key
    return str(_or_why(lambda: str(key)))


def _or_why(convert: Callable[[], Any]) -> Any:
    """Return what is made of a user's value; where that raises, a text that says why."""
    try:
        return convert()
    except BaseException as error:
        if is_interrupt(error):
            raise
        return f"(not written: {name_error(error)})"
