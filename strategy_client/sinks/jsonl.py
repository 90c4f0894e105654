"""JSON lines on disk: signals, and one compact line of outcomes a tick.

Two runs over the same ticks and models write the same bytes, apart from the fields named in `VARYING`.
"""

import fcntl
import json
import math
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from strategy_client.events import MarketTick, Outcome, Signal

BUFFER_BYTES: Final = 1_048_576
# Fields of a signal's metadata that differ between two runs.
VARYING: Final = ("latency_us", "request_id")


class JsonLinesFile:
    """A file of one JSON object a line, written anew; the keys keep the order in which they are given.

    Raises OSError where it cannot be written, or another process is writing it.
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
                raise OSError(f"{path}: another process is writing it") from None
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

    def write(self, record: dict[str, Any]) -> None:
        """Write one line; it reaches the disk when the buffer is full or the file is closed."""
        try:
            line = json.dumps(record, separators=(",", ":"), default=_plain, allow_nan=False)
        except ValueError:
            line = json.dumps(_without_nan(record), separators=(",", ":"), default=_plain, allow_nan=False)
        self._file.write(line + "\n")

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


def outcomes_record(index: int, tick: MarketTick, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return the outcomes of one tick: each strategy's side, or why it gave none."""
    return {
        "tick": index,
        "instrument_token": tick.instrument_token,
        "timestamp": tick.timestamp.isoformat(),
        "outcomes": {
            outcome.strategy_id: outcome.signal_type if isinstance(outcome, Signal) else outcome.reason.value
            for outcome in outcomes
        },
    }


def _plain(value: object) -> object:
    if isinstance(value, Decimal):
        return str(value)
    # What a user's processor puts into metadata: numpy's numbers and arrays, dates, anything.
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)


def _without_nan(value: object) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
