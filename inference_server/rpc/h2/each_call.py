"""A stream whose messages are answered each by itself."""

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from google.protobuf.message import Message

from inference_server.rpc.h2.call import MAX_UNREAD_BYTES, Call, Opening
from inference_server.rpc.h2.framing import Packed
from inference_server.rpc.method import EachMessage
from inference_server.rpc.status import StatusError


class EachCall(Call):
    """Answers up to the method's `at_once` messages at a time, and sends the answers as they are done.

    A caller is not read from while as many of his messages as may be are unanswered, or while he does not
    read the answers. Raises what entering the function raises.
    """

    def __init__(self, function: EachMessage, opening: Opening) -> None:
        super().__init__(opening)
        self._waiting: deque[bytes | Packed] = deque()
        self._waiting_bytes = 0
        self._packed_bytes = 0
        self._unconsumed = 0
        self._in_flight = 0
        self._last = False
        self._broken: StatusError | None = None
        self._opened = function(opening.context)
        self._answer: Callable[[Any], Awaitable[Message]] = self._opened.__enter__()

    @property
    def held_bytes(self) -> int:
        """How many bytes it holds of messages, and lets the caller send more."""
        held_bytes = self._reader.held_bytes + self._waiting_bytes + self._packed_bytes
        return max(0, held_bytes - self._unconsumed)

    def resume(self) -> None:
        """Go on with what had to wait for the caller to read, or for an answer."""
        self.receive(b"", last=False)

    def drain(self) -> None:
        """Read no more messages, because the server stops, and end after the answers to what was read."""
        self._forget_waiting()
        self._reader.clear()
        self.receive(b"", last=True)

    def _receive(self, data: bytes, last: bool) -> None:
        self._unconsumed += len(data)
        try:
            self._read(data, last)
            request = self._next()
        except StatusError as error:
            self._break(error)
            request = None
        if request is not None:
            self._begin(request)
        if self._waiting:
            if not self._is_blocked():
                self._stream.in_turn(self.resume)
            return
        self._free()
        if self._last and not self._in_flight:
            if self._broken:
                raise self._broken
            self._reader.check_whole()
            self.succeed()

    def _read(self, data: bytes, last: bool) -> None:
        if data and not self._last:
            messages = self._reader.feed(data)
            self._waiting.extend(messages)
            self._waiting_bytes += sum(map(len, messages))
            last |= self._reader.broken is not None  # told by `check_whole`, after the answers to these
        self._last |= last

    def _next(self) -> Any:
        """Return the next request; None where there is none or it has to wait."""
        if not self._waiting or self._is_blocked():
            return None
        raw = self._waiting.popleft()
        self._waiting_bytes -= len(raw)
        return raw if isinstance(raw, Packed) else self._parse(raw)

    def _break(self, error: StatusError) -> None:
        """Read and begin nothing more; the error is told after the answers that are on their way."""
        self._broken = self._broken or error
        self._last = True
        self._forget_waiting()

    def _forget_waiting(self) -> None:
        self._waiting.clear()
        self._waiting_bytes = 0

    def _is_blocked(self) -> bool:
        if self._in_flight >= self._method.at_once:
            return True
        if self._stream.unread_bytes <= MAX_UNREAD_BYTES:
            return False
        self._stream.when_read(self.resume)
        return True

    def _begin(self, request: Any) -> None:
        self._in_flight += 1
        packed = isinstance(request, Packed)
        coroutine: Any = self._answer_packed(request) if packed else self._answer(request)
        self._run(coroutine, self._respond)

    async def _answer_packed(self, packed: Packed) -> Message | None:
        self._packed_bytes += len(packed)
        try:
            request = self._parse(await self._expander.expand(packed, self._max_bytes))
        except StatusError as error:
            self._break(error)
            return None
        finally:
            self._packed_bytes -= len(packed)
        return await self._answer(request)

    def _free(self) -> None:
        self._stream.consumed(self._unconsumed)
        self._unconsumed = 0

    def _respond(self, response: Message | None) -> None:
        self._in_flight -= 1
        if response is not None:
            self._send(response)

    def _close(self) -> None:
        super()._close()
        self._broken = None
        self._forget_waiting()
        self._free()

    def _leave(self, error: BaseException | None) -> BaseException | None:
        try:
            self._opened.__exit__(type(error) if error else None, error, None)
        except BaseException as left:  # noqa: BLE001 - it is what the call ends with
            return left
        return error
