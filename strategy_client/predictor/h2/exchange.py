"""One call on a connection: what its stream says, as messages and an ending."""

from collections.abc import Callable, Sequence

import grpc

from strategy_client.predictor.channel import MAX_MESSAGE_BYTES
from strategy_client.predictor.h2.framing import FramingError, Reassembly
from strategy_client.predictor.h2.headers import (
    REFUSED_STREAM,
    Ending,
    Header,
    ending_of,
    ending_of_reset,
    refused_by,
)


class CallError(grpc.RpcError):
    """A call that failed, as grpcio's own errors say it."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(f"{ending.code.name}: {ending.details}")
        self._ending = ending

    def code(self) -> grpc.StatusCode:
        """Return the status."""
        return self._ending.code

    def details(self) -> str:
        """Return the text that came with it."""
        return self._ending.details


class MalformedMessageError(ValueError):
    """What `on_message` raises for bytes that are none of its messages."""


class Exchange:
    """The state of one stream; a synchronous step for each thing that the peer says.

    `on_message` has each message, `on_end` the ending, once; both on whatever thread read it, under the
    connection's lock. `ended` says that nothing more comes; where the stream still stands then, whoever
    drives this one resets it.
    """

    __slots__ = ("_on_end", "_on_message", "_reassembly", "began", "ended", "stream_id", "unprocessed")

    def __init__(self, on_message: Callable[[bytes], None], on_end: Callable[[Ending], None]) -> None:
        self._on_message = on_message
        self._on_end = on_end
        self._reassembly = Reassembly(MAX_MESSAGE_BYTES)
        self.stream_id = 0
        self.began = False
        self.ended = False
        self.unprocessed = False

    def __repr__(self) -> str:
        return f"<Exchange stream {self.stream_id} began={self.began} ended={self.ended}>"

    def responded(self, headers: Sequence[Header], end_stream: bool) -> None:
        """Take the response's header fields, which may be all that comes."""
        self.began = True
        refused = refused_by(headers)
        if refused is not None:
            self.end(refused)
        elif end_stream:
            self.end(ending_of(headers))

    def received(self, data: bytes, end_stream: bool) -> None:
        """Take DATA."""
        if self.ended:
            return
        try:
            for message in self._reassembly.feed(data):
                self._on_message(message)
        except FramingError as error:
            self.end(Ending(error.code, str(error)))
        except MalformedMessageError as error:
            self.end(Ending(grpc.StatusCode.INTERNAL, str(error)))
        if end_stream:
            self.end(ending_of(()))

    def trailed(self, trailers: Sequence[Header]) -> None:
        """Take the trailers."""
        ending = ending_of(trailers)
        if ending.code is grpc.StatusCode.OK and self._reassembly.partial:
            ending = Ending(grpc.StatusCode.INTERNAL, "the call ended within a message")
        self.end(ending)

    def reset(self, error_code: int) -> None:
        """Take the end of the stream that is no ending of gRPC's."""
        self.unprocessed = error_code == REFUSED_STREAM and not self.ended
        self.end(ending_of_reset(error_code))

    def end(self, ending: Ending) -> None:
        """End it; nothing but the first ending counts."""
        if not self.ended:
            self.ended = True
            self._on_end(ending)
