"""Calls to a target: over the connection that there is, or another one."""

import threading
import time
from collections.abc import Callable, Iterable
from typing import Final

import grpc

from strategy_client.predictor.backoff import NS_PER_MS, Backoff, BackoffOptions
from strategy_client.predictor.channel import MAX_MESSAGE_BYTES, RECONNECT_FIRST_MS, RECONNECT_LONGEST_MS
from strategy_client.predictor.h2.exchange import CallError, Exchange
from strategy_client.predictor.h2.framing import frame
from strategy_client.predictor.h2.headers import CANCEL, Ending, ending_of_reset, request_headers
from strategy_client.predictor.h2.place import Place
from strategy_client.predictor.h2.socket_connection import SocketConnection
from strategy_client.predictor.h2.turns import NS_PER_S
from strategy_client.predictor.h2.wire import LostConnectionError

Metadata = Callable[[], Iterable[tuple[str, str | bytes]]]
RECONNECT: Final = BackoffOptions(RECONNECT_FIRST_MS, RECONNECT_LONGEST_MS, 1.6)
CONNECT_TIMEOUT_S: Final = 1.0
# As far as a deadline is looked ahead to: ten days.
LONGEST_TIMEOUT_S: Final = 864_000.0


class ClosedChannelError(ValueError):
    """A call on a channel that was closed; grpcio says it by a ValueError, too."""


class Channel:
    """Connects when a call needs it. Any thread may call anything; `metadata` is asked for with each call."""

    def __init__(self, place: Place, metadata: Metadata) -> None:
        self._place = place
        self._metadata = metadata
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._connecting = threading.Lock()
        self._connection: SocketConnection | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"<Channel {self._place.target} over {self._connection!r}>"

    def headers(self, path: bytes, timeout_ns: int | None) -> list[tuple[bytes, bytes]]:
        """Return the fields that begin a call; a token is read from its file for that."""
        return request_headers(path, self._place.authority, timeout_ns, self._metadata())

    def connection(self, deadline_ns: int | None = None) -> SocketConnection:
        """Return one that takes calls; LostConnectionError where there is none to be had by the deadline."""
        if (connection := self._usable()) is not None:
            return connection
        if deadline_ns is None:
            deadline_ns = time.monotonic_ns() + int(CONNECT_TIMEOUT_S * NS_PER_S)
        left_s = max(deadline_ns - time.monotonic_ns(), 0) / NS_PER_S
        if not self._connecting.acquire(timeout=left_s):
            raise LostConnectionError(f"failed to connect to {self._place.target} in time")
        try:
            if (connection := self._usable()) is not None:
                return connection
            connection = self._place.connect(deadline_ns)
        finally:
            self._connecting.release()
        with self._lock:
            # One that is leaving closes itself when its last call is over.
            self._connection = connection
            closed = self._closed
        if closed:
            connection.close("the client is closed")
        return connection

    def reopen(self) -> None:
        """Let go of the connection with all its calls; the next call makes another."""
        with self._lock:
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.close("connecting anew")

    def close(self) -> None:
        """Fail all calls, for good. May be called twice."""
        with self._lock:
            self._closed = True
        self.wake()
        self.reopen()

    def pause(self, pause_s: float, over: Callable[[], bool]) -> bool:
        """Wait so long at most; say whether it is `over` before, or the channel closed."""
        with self._lock:
            return self._changed.wait_for(lambda: self._closed or over(), pause_s)

    def wake(self) -> None:
        """Let those who pause look whether it is over."""
        with self._lock:
            self._changed.notify_all()

    def _usable(self) -> SocketConnection | None:
        if self._closed:
            raise ClosedChannelError("the channel is closed")
        connection = self._connection
        return None if connection is None or connection.cause or connection.leaving else connection


class UnaryCall:
    """One question and its answer. The thread that wants the `result` does all the work; any may `cancel`."""

    def __init__(
        self, channel: Channel, path: bytes, message: bytes, timeout_s: float, *, wait_for_ready: bool
    ) -> None:
        self._channel = channel
        self._path = path
        self._message = message
        self._deadline_ns = time.monotonic_ns() + int(min(timeout_s, LONGEST_TIMEOUT_S) * NS_PER_S)
        self._waits = wait_for_ready
        self._cancelled = False
        self._under_way: tuple[SocketConnection, Exchange] | None = None
        self._answers: list[bytes] = []
        self._ending: Ending | None = None

    def __repr__(self) -> str:
        return f"<UnaryCall {self._path!r} {self._ending}>"

    @property
    def came(self) -> bool:
        """Whether it has ended."""
        return self._ending is not None

    def cancel(self) -> None:
        """End it; `result` raises grpc.FutureCancelledError."""
        self._cancelled = True
        self._channel.wake()
        if self._under_way is not None:
            connection, exchange = self._under_way
            connection.end(exchange, ending_of_reset(CANCEL))

    def result(self) -> bytes:
        """Return the answer. Raises CallError, ClosedChannelError, or grpc.FutureCancelledError."""
        if len(self._message) > MAX_MESSAGE_BYTES:
            told = (
                f"a message of {len(self._message)} bytes is not sent; expected at most {MAX_MESSAGE_BYTES}"
            )
            raise CallError(Ending(grpc.StatusCode.RESOURCE_EXHAUSTED, told))
        ending = self._ask()
        if self._cancelled:
            raise grpc.FutureCancelledError
        if ending.code is not grpc.StatusCode.OK:
            raise CallError(ending)
        if len(self._answers) != 1:
            told = f"{len(self._answers)} messages came, expected one"
            raise CallError(Ending(grpc.StatusCode.INTERNAL, told))
        return self._answers[0]

    def _ask(self) -> Ending:
        pauses: Backoff | None = None
        again = True
        while True:
            try:
                connection = self._channel.connection(self._deadline_ns)
                exchange = self._begin(connection)
            except LostConnectionError as error:
                ending = Ending(grpc.StatusCode.UNAVAILABLE, str(error))
                reached = False
            else:
                if not connection.wait(self, self._deadline_ns):
                    connection.end(exchange, _OUT_OF_TIME)
                ending = self._ending or _OUT_OF_TIME
                # A peer that never spoke HTTP/2 was not reached.
                reached = connection.greeted or ending.code is not grpc.StatusCode.UNAVAILABLE
                # What the peer says that it has not looked at may be asked once more.
                if exchange.unprocessed and again:
                    again = False
                    continue
            if reached or not self._waits or self._cancelled:
                return ending
            pauses = pauses or Backoff(RECONNECT)
            left_ns = self._deadline_ns - time.monotonic_ns()
            pause_s = min(pauses.next_ns(), max(left_ns, 0)) / NS_PER_S
            if self._channel.pause(pause_s, lambda: self._cancelled):
                return ending
            if left_ns <= 0:
                return _OUT_OF_TIME

    def _begin(self, connection: SocketConnection) -> Exchange:
        self._answers.clear()
        self._ending = None
        exchange = Exchange(self._answers.append, self._end)
        # In whole milliseconds: so calls of one timeout have one text, which either side's table then holds.
        left_ms = -((time.monotonic_ns() - self._deadline_ns) // NS_PER_MS)
        headers = self._channel.headers(self._path, left_ms * NS_PER_MS)
        connection.open(exchange, headers, frame(self._message))
        self._under_way = connection, exchange
        if self._cancelled:
            self.cancel()
        return exchange

    def _end(self, ending: Ending) -> None:
        self._ending = ending


_OUT_OF_TIME: Final = Ending(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
