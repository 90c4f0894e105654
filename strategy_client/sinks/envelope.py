"""Alpha Panda's event around a signal, as its own runner writes it."""

import enum
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from strategy_client.buses.port import OutgoingMessage
from strategy_client.events import Cause, Signal
from strategy_client.sinks.event_id import new_event_id

SIGNAL_EVENT: Final = "trading_signal"
SOURCE: Final = "strategy_runner"
VERSION: Final = 1
# What Kafka and NATS take when nobody has told them otherwise is 1 MB, with headers and framing.
MAX_MESSAGE_BYTES: Final = 900_000
MAX_DEPTH: Final = 32
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Envelope:
    """A signal on its way to one broker. Its id is given once, so that what is sent twice can be told.

    `wall_ns` is when the signal was made, in nanoseconds since the epoch.
    """

    signal: Signal
    broker: str
    cause: Cause | None
    event_id: str
    correlation_id: str
    trace_id: str
    wall_ns: int

    @property
    def key(self) -> str:
        """What keeps the signals of one strategy on one instrument in order."""
        return f"{self.signal.strategy_id}:{self.signal.instrument_token}"

    def fields(self) -> dict[str, Any]:
        """Return the event as plain values, in the order in which Alpha Panda writes them."""
        caused_by = self.cause.event_id if self.cause is not None else None
        return {
            "id": self.event_id,
            "correlation_id": self.correlation_id,
            "causation_id": caused_by,
            "trace_id": self.trace_id,
            "parent_trace_id": caused_by,
            "broker": self.broker,
            "type": SIGNAL_EVENT,
            "ts": _time(EPOCH + timedelta(microseconds=self.wall_ns // 1_000)),
            "key": self.key,
            "source": SOURCE,
            "version": VERSION,
            "data": _signal(self.signal),
        }

    def message(self) -> OutgoingMessage:
        """Return the message for a bus; ValueError where it is too large for any."""
        value = json.dumps(self.fields(), separators=(",", ":"), allow_nan=False).encode()
        if len(value) > MAX_MESSAGE_BYTES:
            raise ValueError(f"expected at most {MAX_MESSAGE_BYTES:,} bytes, came {len(value):,}")
        headers = {"trace_id": self.trace_id, "correlation_id": self.correlation_id}
        return OutgoingMessage(self.event_id, self.key, value, headers)


def envelop(signal: Signal, broker: str, cause: Cause | None, wall_ns: int) -> Envelope:
    """Put a signal into an event; ids that its cause does not give are new."""
    return Envelope(
        signal=signal,
        broker=broker,
        cause=cause,
        event_id=new_event_id(wall_ns),
        correlation_id=cause.correlation_id if cause is not None else new_event_id(wall_ns),
        trace_id=cause.trace_id if cause is not None else new_event_id(wall_ns),
        wall_ns=wall_ns,
    )


def _signal(signal: Signal) -> dict[str, Any]:
    return {
        "strategy_id": signal.strategy_id,
        "instrument_token": signal.instrument_token,
        "signal_type": signal.signal_type,
        "quantity": signal.quantity,
        "price": str(signal.price),
        "timestamp": _time(signal.timestamp),
        "confidence": signal.confidence,
        "metadata": _plain(signal.metadata),
    }


def _time(time: datetime) -> str:
    text = time.isoformat()
    return f"{text[:-6]}Z" if text.endswith("+00:00") else text


def _plain(value: object, depth: int = MAX_DEPTH) -> Any:  # noqa: PLR0911 one for each kind
    """Return what a user's processor put into metadata as JSON holds it: no NaN, no infinity."""
    if isinstance(value, enum.Enum):
        value = value.value
    if value is None or isinstance(value, bool | str | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime):
        return _time(value)
    if depth and isinstance(value, Mapping):
        return {str(key): _plain(each, depth - 1) for key, each in value.items()}
    if depth and isinstance(value, list | tuple | set | frozenset):
        return [_plain(each, depth - 1) for each in value]
    if depth and not isinstance(value, Decimal) and callable(getattr(value, "tolist", None)):
        # numpy's numbers and arrays.
        return _plain(value.tolist(), depth - 1)  # type: ignore[attr-defined]
    return str(value)
