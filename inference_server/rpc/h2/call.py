"""One call on its stream, from its headers to its trailers or its cancellation."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any, Final, NamedTuple, Protocol

from google.protobuf.message import Message

from inference_server.rpc.guard import status_for
from inference_server.rpc.h2.eager import Done, begin
from inference_server.rpc.h2.expansion import Expander
from inference_server.rpc.h2.framing import MessageReader, Packed, frame
from inference_server.rpc.incoming import Parser, read_only_message
from inference_server.rpc.method import CallContext, Method, ServerStream, Unary
from inference_server.rpc.status import Code, StatusError

# So much of the answers on one stream may wait for a caller who does not read; then he is not read from.
MAX_UNREAD_BYTES: Final = 1 << 16


class Stream(Protocol):
    """What a call may do with the stream that it is on. After `end`, nothing."""

    def send(self, framed: bytes) -> None:
        """Send a framed message, after the headers if it is the first."""
        ...

    def end(self, code: Code, text: str) -> None:
        """Send the status, and forget the call."""
        ...

    def consumed(self, count: int) -> None:
        """Let the caller send so many bytes more."""
        ...

    @property
    def unread_bytes(self) -> int:
        """How many bytes of answers wait because the caller does not read."""
        ...

    def when_read(self, then: Callable[[], None]) -> None:
        """Call `then` once, when `unread_bytes` may have become less."""
        ...

    def in_turn(self, then: Callable[[], None]) -> None:
        """Call `then` once, after what came before it on this connection, and after others had their turn."""
        ...


class Opening(NamedTuple):
    """What there is of a call once its headers are read. `max_bytes` is the bound on an answer."""

    stream: Stream
    method: Method
    context: CallContext
    reader: MessageReader
    parse: Parser
    max_bytes: int
    expander: Expander


class Call:
    """What the calls of every kind of method have in common.

    A call ends once: it succeeds, fails, expires at its deadline, or is cancelled as its caller has left.
    What still goes on of it then is cancelled.
    """

    def __init__(self, opening: Opening) -> None:
        self.context: Final = opening.context
        self.ended = False
        self.timer: asyncio.TimerHandle | None = None
        self._stream = opening.stream
        self._method = opening.method
        self._reader = opening.reader
        self._parse = opening.parse
        self._max_bytes = opening.max_bytes
        self._expander = opening.expander
        self._tasks: set[asyncio.Task[Any]] = set()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._method.path} request={self.context.request_id}>"

    @property
    def held_bytes(self) -> int:
        """How many bytes it holds of messages, and lets the caller send more."""
        return self._reader.held_bytes

    def receive(self, data: bytes, *, last: bool) -> None:
        """Take what came on the stream; `last`: the caller sends no more."""
        if not self.ended:
            try:
                self._receive(data, last)
            except Exception as error:  # noqa: BLE001 - `status_for` logs what is a bug
                self.fail(error)

    def succeed(self) -> None:
        """End well."""
        if not self.ended:
            self._leave(None)
            self._end(Code.OK, "")

    def fail(self, error: Exception) -> None:
        """End with what was raised."""
        if not self.ended:
            left = self._leave(error)
            status = status_for(
                left if isinstance(left, Exception) else error, self._method.path, self.context.request_id
            )
            self._end(status.code, status.text)

    def expire(self) -> None:
        """End because the deadline has passed."""
        if not self.ended:
            self._leave(asyncio.CancelledError())
            self._end(Code.DEADLINE_EXCEEDED, "the deadline passed before the answer")

    def cancel(self) -> None:
        """End without a word: the caller has left."""
        if not self.ended:
            self._leave(asyncio.CancelledError())
            self._close()

    def resume(self) -> None:
        """Go on with what had to wait for the caller to read, or for an answer."""

    def drain(self) -> None:
        """Read no more messages, because the server stops, and end after the answers to what was read."""

    def _receive(self, data: bytes, last: bool) -> None:
        raise NotImplementedError

    def _leave(self, error: BaseException | None) -> BaseException | None:
        """Leave what the call entered, and return what came of the error on the way out."""
        return error

    def _end(self, code: Code, text: str) -> None:
        self._close()
        self._stream.end(code, text)

    def _close(self) -> None:
        self.ended = True
        self._reader.clear()
        if self.timer is not None:
            self.timer.cancel()
        if self._tasks:
            loop = asyncio.get_running_loop()
            for task in self._tasks:
                # Not at once: a task that has not taken its first step would never hear of it.
                loop.call_soon(task.cancel)

    def _send(self, response: Message) -> None:
        self._stream.send(frame(response.SerializeToString(), self._max_bytes))

    def _run(self, coroutine: Coroutine[Any, Any, Any], then: Callable[[Any], None]) -> None:
        """Run a coroutine, here and now if it need not wait, and go on with its result."""
        try:
            begun = begin(coroutine)
        except asyncio.CancelledError:
            raise _cancelled() from None
        if isinstance(begun, Done):
            then(begun.result)
            return

        def done(task: asyncio.Task[Any]) -> None:
            self._tasks.discard(task)
            if self.ended:
                _ = task.cancelled() or task.exception()  # nobody is to be told of it
                return
            try:
                then(task.result())
            except asyncio.CancelledError:
                self.fail(_cancelled())
            except Exception as error:  # noqa: BLE001 - `status_for` logs what is a bug
                self.fail(error)
            self.resume()

        self._tasks.add(begun)
        begun.add_done_callback(done)


def _cancelled() -> StatusError:
    """Return how a call ends that was not cancelled for its caller: what it waited for was."""
    return StatusError(Code.CANCELLED, "the server cancelled the call")


class OneMessageCall(Call):
    """A call whose caller sends one message: it is whole when the caller's side of the stream ends."""

    def __init__(self, opening: Opening) -> None:
        super().__init__(opening)
        self._message: bytes | Packed | None = None

    @property
    def held_bytes(self) -> int:
        """How many bytes it holds of messages, and lets the caller send more."""
        return self._reader.held_bytes + len(self._message or b"")

    def _receive(self, data: bytes, last: bool) -> None:
        self._stream.consumed(len(data))
        try:
            message = self._read(data, last)
        except StatusError as error:
            self._method.refuse(self.context, error)
            raise
        if isinstance(message, Packed):
            self._run(self._expand(message), self._ask)
        elif message is not None:
            self._ask(message)

    def _ask(self, message: bytes) -> None:
        self._message = None
        self._answer(read_only_message(self._method, self.context, self._parse, message))

    async def _expand(self, packed: Packed) -> bytes:
        try:
            return await self._expander.expand(packed, self._max_bytes)
        except StatusError as error:
            self._method.refuse(self.context, error)
            raise

    def _read(self, data: bytes, last: bool) -> bytes | Packed | None:
        """Return the message once it is whole and nothing can follow it."""
        for message in self._reader.feed(data):
            if self._message is not None:
                raise StatusError(Code.INVALID_ARGUMENT, "expected one message, came more")
            self._message = message
        if self._reader.broken is not None:
            raise self._reader.broken
        if last and self._message is None:
            raise StatusError(Code.INVALID_ARGUMENT, "expected one message, came none or a part of one")
        return self._message if last else None

    def _close(self) -> None:
        super()._close()
        self._message = None

    def _answer(self, request: Any) -> None:
        raise NotImplementedError


class UnaryCall(OneMessageCall):
    """One message, one answer."""

    def __init__(self, function: Unary, opening: Opening) -> None:
        super().__init__(opening)
        self._function = function

    def _answer(self, request: Any) -> None:
        coroutine: Any = self._function(request, self.context)
        self._run(coroutine, self._respond)

    def _respond(self, response: Message) -> None:
        self._send(response)
        self.succeed()


class ServerStreamCall(OneMessageCall):
    """One message, any number of answers."""

    def __init__(self, function: ServerStream, opening: Opening) -> None:
        super().__init__(opening)
        self._function = function

    def _answer(self, request: Any) -> None:
        self._run(self._send_all(request), lambda _: self.succeed())

    async def _send_all(self, request: Any) -> None:
        responses: Any = self._function(request, self.context)
        async with contextlib.aclosing(responses):
            async for response in responses:
                self._send(response)
                while self._stream.unread_bytes > MAX_UNREAD_BYTES:
                    read = asyncio.Event()
                    self._stream.when_read(read.set)
                    await read.wait()
