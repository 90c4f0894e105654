"""Streams in Redis. Needs the extra `tickserve[redis]`."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from strategy_client.buses.place import Place
from strategy_client.buses.port import BusError, Delivery, IncomingMessage, OutgoingMessage

STREAM: Final = "market.ticks"
# Where an entry holds its message: ours, and what others call it.
FIELDS: Final = (b"value", b"data")
MAX_BATCH: Final = 500
MAX_LENGTH: Final = 100_000
CONNECT_S: Final = 2.0
REPLY_S: Final = 5.0
BEGINNING: Final = "0-0"


class RedisInbox:
    """One stream, read without a group: nothing is acknowledged, the place in the stream is kept here."""

    def __init__(self, place: Place, *, newest: bool) -> None:
        self._place = place
        self._stream = place.text("stream", STREAM)
        self._last = None if newest else BEGINNING
        self._client: redis.Redis | None = None

    def receive(self, timeout_s: float) -> Sequence[IncomingMessage]:
        """Return the entries behind the last one."""
        try:
            if self._client is None:
                self._client = _connect(self._place)
            if self._last is None:
                # Looked up once, so that what comes while the connection is lost is not left out.
                self._last = _newest(self._client, self._stream)
            block_ms = max(1, int(timeout_s * 1_000))
            streams: Any = self._client.xread({self._stream: self._last}, MAX_BATCH, block_ms)
        except (redis.RedisError, OSError) as error:
            self.close()
            raise BusError(f"{self._stream}: {error}") from error
        received_ns = time.monotonic_ns()
        entries = streams[0][1] if streams else ()
        if entries:
            self._last = entries[-1][0].decode()
        return [
            IncomingMessage(self._stream, entry.decode(), _value(fields), received_ns)
            for entry, fields in entries
        ]

    def close(self) -> None:
        """Close the connection."""
        client, self._client = self._client, None
        if client is not None:
            client.close()


class RedisOutbox:
    """One stream, cut off at about `max_length` entries; a batch is one transaction."""

    def __init__(self, place: Place, broker: str) -> None:
        self._place = place
        self._stream = place.text("stream", f"{broker}.signals.raw")
        self._max_length = place.whole("max_length", MAX_LENGTH)
        self._client: redis.Redis | None = None

    def send(self, batch: Sequence[OutgoingMessage], time_left_s: Callable[[], float]) -> Delivery:  # noqa: ARG002 see REPLY_S
        """Deliver a batch, all of it or nothing."""
        try:
            if self._client is None:
                self._client = _connect(self._place)
            with self._client.pipeline(transaction=True) as pipeline:
                for message in batch:
                    fields: Any = {"key": message.key, "value": message.value, **message.headers}
                    pipeline.xadd(self._stream, fields, maxlen=self._max_length)
                pipeline.execute()
        except (redis.RedisError, OSError) as error:
            self.close()
            return Delivery(error=f"{self._stream}: {error}")
        return Delivery(range(len(batch)))

    def close(self) -> None:
        """Close the connection."""
        client, self._client = self._client, None
        if client is not None:
            client.close()


def _connect(place: Place) -> redis.Redis:
    ((host, port),) = place.hosts
    return redis.Redis(
        host,
        port,
        int(place.path),
        username=place.user or None,
        password=place.password,
        socket_connect_timeout=CONNECT_S,
        socket_timeout=REPLY_S,
        retry=Retry(NoBackoff(), 0),
        client_name="tickserve",
    )


def _newest(client: redis.Redis, stream: str) -> str:
    if not client.exists(stream):
        return BEGINNING
    info: Any = client.xinfo_stream(stream)
    return str(info["last-generated-id"].decode())


def _value(fields: Mapping[bytes, bytes]) -> bytes:
    # Three cases: a field that is known, a single one whatever its name, or nothing that could be meant.
    for name in FIELDS:
        if name in fields:
            return fields[name]
    return next(iter(fields.values())) if len(fields) == 1 else b""
