"""What a call may do with the stream that it is on, done with the library's connection."""

import contextlib
from collections.abc import Callable
from typing import Protocol

import ngh2

from inference_server.rpc.h2.call import Call
from inference_server.rpc.h2.headers import RESPONSE, trailers, trailers_only
from inference_server.rpc.status import Code


class Carrier(Protocol):
    """The connection, as its streams know it."""

    def flush_soon(self) -> None:
        """Send what there is to send, before the event loop waits again."""
        ...

    def answering(self) -> None:
        """Take note that there is an answer to send."""
        ...

    def ended(self, stream: "CallStream") -> None:
        """Forget a stream that has had its answer."""
        ...

    def when_read(self, then: Callable[[], None]) -> None:
        """Call `then` once, when more of the answers may have been sent."""
        ...

    def in_turn(self, then: Callable[[], None]) -> None:
        """Call `then` once, after what came before it on this connection, and after others had their turn."""
        ...


class CallStream:
    """One stream. Where it is gone already, what is done with it is nothing: an event says so next."""

    __slots__ = ("_begun", "_carrier", "_h2", "call", "caller_ended", "number")

    def __init__(self, carrier: Carrier, h2: ngh2.Connection, number: int, *, caller_ended: bool) -> None:
        self._carrier = carrier
        self._h2 = h2
        self._begun = False
        self.number = number
        self.caller_ended = caller_ended
        self.call: Call | None = None

    def __repr__(self) -> str:
        return f"<CallStream {self.number} of {self.call!r}>"

    def send(self, framed: bytes) -> None:
        """Send a framed message, after the headers if it is the first."""
        try:
            if not self._begun:
                self._begun = True
                self._h2.send_response(self.number, RESPONSE)
            self._h2.send_data(self.number, framed)
        except ngh2.NGH2Error:
            return
        self._carrier.answering()

    def end(self, code: Code, text: str) -> None:
        """Send the status, and forget the call."""
        with contextlib.suppress(ngh2.NGH2Error):
            if self._begun:
                self._h2.send_trailers(self.number, trailers(code, text))
            else:
                self._h2.send_response(self.number, trailers_only(code, text), end_stream=True)
        self._carrier.ended(self)

    def refuse(self, http_status: bytes) -> None:
        """Answer what is no gRPC in the words of HTTP."""
        with contextlib.suppress(ngh2.NGH2Error):
            self._h2.send_response(self.number, ((b":status", http_status),), end_stream=True)
        self._carrier.ended(self)

    def consumed(self, count: int) -> None:
        """Let the caller send so many bytes more."""
        if count:
            try:
                self._h2.acknowledge_received_data(count, self.number)
            except ngh2.NGH2Error:
                return
            self._carrier.flush_soon()

    @property
    def unread_bytes(self) -> int:
        """How many bytes of answers wait because the caller does not read."""
        try:
            return self._h2.queued_body_size(self.number)
        except ngh2.NGH2Error:
            return 0

    def when_read(self, then: Callable[[], None]) -> None:
        """Call `then` once, when `unread_bytes` may have become less."""
        self._carrier.when_read(then)

    def in_turn(self, then: Callable[[], None]) -> None:
        """Call `then` once, after what came before it on this connection, and after others had their turn."""
        self._carrier.in_turn(then)
