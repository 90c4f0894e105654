"""One HTTP/2 connection's calls, without its socket: bytes in, bytes out."""

import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, get_args

import grpc
import ngh2

from strategy_client.predictor.h2.exchange import Exchange
from strategy_client.predictor.h2.headers import CANCEL, Ending, Header

# Windows of a stream and of the connection: how much an answer may be ahead of its reader.
WINDOW_BYTES: Final = 4 * 1024 * 1024
PIECE_BYTES: Final = 256 * 1024
SETTINGS: Final = {
    ngh2.Setting.ENABLE_PUSH: 0,
    ngh2.Setting.INITIAL_WINDOW_SIZE: WINDOW_BYTES,
}
NO_NEW_CALLS: Final = "the sidecar takes no new calls on this connection"
NO_HTTP2: Final = "the peer does not speak HTTP/2 as it should"

_OfACall = (
    ngh2.DataReceived | ngh2.ResponseReceived | ngh2.TrailersReceived | ngh2.StreamReset | ngh2.StreamClosed
)
_OF_A_CALL: Final = get_args(_OfACall)


class LostConnectionError(Exception):
    """There is no connection any more that a call could begin on; the text says why."""


class Wire:
    """The state of a connection. Not thread-safe: its owner holds a lock, and moves the bytes.

    `greeted` says that the peer's settings came, `leaving` that it takes no new calls and finishes those
    under way. With a `cause` it is over, and every call has ended.
    """

    def __init__(self) -> None:
        self._http = ngh2.Connection(ngh2.Role.CLIENT)
        self._http.initiate_connection(SETTINGS)
        self._http.set_local_window_size(WINDOW_BYTES)
        self._exchanges: dict[int, Exchange] = {}
        # Not handed to the library yet, so that it can be thought better of.
        self._waiting: deque[tuple[Exchange, Callable[[], bool], bytes]] = deque()
        self.cause = ""
        self.greeted = False
        self.leaving = False

    def __repr__(self) -> str:
        return f"<Wire {self.cause or 'open'}, {len(self._exchanges)} calls>"

    @property
    def waiting(self) -> int:
        """How many messages wait to be sent."""
        return len(self._waiting)

    def open(self, exchange: Exchange, headers: Sequence[Header], body: bytes | None = None) -> None:
        """Begin a call, and end its side of it where there is a body; LostConnectionError where it cannot."""
        if self.cause or self.leaving:
            raise LostConnectionError(self.cause or NO_NEW_CALLS)
        try:
            exchange.stream_id = self._http.send_request(headers)
        except ngh2.NGH2Error as error:
            raise LostConnectionError(str(error)) from None
        self._exchanges[exchange.stream_id] = exchange
        if body is not None:
            self._hand_over(exchange, body, end_stream=True)

    def send(self, exchange: Exchange, body: bytes, wanted: Callable[[], bool], *, clogged: bool) -> None:
        """Send on an open call: now, or when the peer takes more, if it is still `wanted` then.

        `clogged` says that bytes which were taken from here are not gone yet.
        """
        if exchange.ended:
            return
        if clogged or self._waiting or self._queued(exchange):
            self._waiting.append((exchange, wanted, body))
        else:
            self._hand_over(exchange, body)

    def half_close(self, exchange: Exchange) -> None:
        """Say that nothing more is asked on this call, unless something waits to be."""
        if not exchange.ended and not self._waiting:
            with contextlib.suppress(ngh2.NGH2Error):
                self._http.end_stream(exchange.stream_id)

    def end(self, exchange: Exchange, ending: Ending) -> None:
        """End a call from this side."""
        exchange.end(ending)
        self._forget(exchange)

    def receive(self, data: bytes | memoryview) -> None:
        """Take what the peer sent."""
        try:
            self._http.receive_data(data)
            for event in self._http.events():
                self._step(event)
        except ngh2.NGH2Error as error:
            self.lose(f"{NO_HTTP2}: {error}")

    def output(self) -> bytes:
        """Return the next bytes for the peer; empty when there are none now."""
        while not self.cause:
            if piece := self._http.data_to_send(PIECE_BYTES):
                return piece
            if not self._feed():
                break
        return b""

    def settle(self) -> None:
        """Take note that all has been read and sent that could be: what is over ends."""
        if self.cause:
            return
        # Two cases: the peer broke the protocol, which it has been told; or its last call is over.
        if not self._http.want_read and not self._http.want_write:
            self.lose(NO_NEW_CALLS if self.leaving else NO_HTTP2)
        elif self.leaving and not self._exchanges:
            self.lose(NO_NEW_CALLS)

    def farewell(self) -> bytes:
        """Return what tells the peer that it is over."""
        with contextlib.suppress(ngh2.NGH2Error):
            self._http.terminate_connection()
            return self._http.data_to_send(PIECE_BYTES)
        return b""

    def lose(self, cause: str, code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE) -> None:
        """End every call: there is no connection any more."""
        if not self.cause:
            self.cause = cause
            ended, self._exchanges = list(self._exchanges.values()), {}
            self._waiting.clear()
            for exchange in ended:
                exchange.end(Ending(code, cause))

    def _step(self, event: ngh2.Event) -> None:
        # The commonest first.
        if isinstance(event, _OF_A_CALL):
            if exchange := self._exchanges.get(event.stream_id):
                self._advance(exchange, event)
        elif isinstance(event, ngh2.SettingsReceived):
            self.greeted = True
        elif isinstance(event, ngh2.GoAwayReceived):
            self.leaving = True
        elif isinstance(event, ngh2.ConnectionClosed):
            told = event.debug_data.decode("utf-8", "replace")
            self.lose(f"the connection was ended with HTTP/2 error {event.error_code} {told}".rstrip())

    def _advance(self, exchange: Exchange, event: _OfACall) -> None:
        if isinstance(event, ngh2.DataReceived):
            exchange.received(event.data, event.end_stream)
        elif isinstance(event, ngh2.ResponseReceived):
            exchange.responded(event.headers, event.end_stream)
        elif isinstance(event, ngh2.TrailersReceived):
            exchange.trailed(event.headers)
        else:
            del self._exchanges[event.stream_id]
            exchange.reset(event.error_code)
        if exchange.ended:
            self._forget(exchange)

    def _forget(self, exchange: Exchange) -> None:
        # Whatever the peer may still say or want to hear on such a stream is of no use. The library takes a
        # reset for one that is over already, and says nothing of it.
        if self._exchanges.pop(exchange.stream_id, None) is not None:
            with contextlib.suppress(ngh2.NGH2Error):
                self._http.reset_stream(exchange.stream_id, CANCEL)

    def _feed(self) -> bool:
        while self._waiting:
            exchange, wanted, body = self._waiting[0]
            if not exchange.ended and self._queued(exchange):
                return False
            self._waiting.popleft()
            if not exchange.ended and wanted():
                self._hand_over(exchange, body)
                return True
        return False

    def _queued(self, exchange: Exchange) -> bool:
        return self._http.queued_body_size(exchange.stream_id) > 0

    def _hand_over(self, exchange: Exchange, body: bytes, *, end_stream: bool = False) -> None:
        try:
            self._http.send_data(exchange.stream_id, body, end_stream=end_stream)
        except ngh2.NGH2Error as error:
            self.end(exchange, Ending(grpc.StatusCode.UNAVAILABLE, str(error)))
