"""What holds for every RPC, whatever the transport: access, expiry before the start, errors, counting.

A function's ServingError becomes its status. Anything else is a bug: the caller gets a fixed text with the
request id, the log gets the traceback under the same id.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from google.protobuf.message import Message

from inference_server.core.clock import Clock
from inference_server.core.errors import (
    OverloadedError,
    Reason,
    ServingError,
    UnauthenticatedError,
)
from inference_server.rpc.access import Access
from inference_server.rpc.method import CallContext, EachMessage, Group, Method, ServerStream, Unary
from inference_server.rpc.status import Code, StatusError, status_of
from inference_server.serving.statistics import NO_MODEL, Statistics

if TYPE_CHECKING:  # at run time only where traces are configured
    from inference_server.rpc.spans import Tracing

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class GuardOptions:
    """Bounds on RPCs: of those that stay open, `max_streams` at a time, whatever their connections.

    What anybody may ask, health first of all, does not count.
    """

    max_streams: int = 1024

    def __post_init__(self) -> None:
        if self.max_streams < 1:
            raise ValueError(f"expected a bound of at least 1 stream, came {self}")


class Guard:
    """Guards the functions of methods, and counts how each RPC ends."""

    def __init__(
        self,
        clock: Clock,
        statistics: Statistics,
        tracing: "Tracing | None" = None,
        access: Access | None = None,
        options: GuardOptions | None = None,
    ) -> None:
        self._clock: Final = clock
        self._statistics: Final = statistics
        self._tracing: Final = tracing
        self._access: Final = access or Access({})
        self._options: Final = options or GuardOptions()
        self._streams = 0

    def guard(self, method: Method) -> Method:
        """Return the method with its function guarded: only StatusError and cancellation come out of it."""
        method = replace(method, admit=self._admit(method), refuse=self._refuse(method))
        if method.unary is not None:
            return replace(method, unary=self._unary(method, method.unary))
        if method.server_stream is not None:
            return replace(method, server_stream=self._stream(method, method.server_stream))
        if method.each is not None:
            return replace(method, each=self._each(method, method.each))
        raise ValueError(f"{method.path}: no function")

    def _admit(self, method: Method) -> Callable[[CallContext], None]:
        def admit(call: CallContext) -> None:
            try:
                self._access.check(method.group, call)
            except UnauthenticatedError:
                with self._one_call(method, call):
                    self._statistics.failed(NO_MODEL, 0, Code.UNAUTHENTICATED.name, Reason.UNAUTHENTICATED, 0)
                    raise

        return admit

    def _refuse(self, method: Method) -> Callable[[CallContext, StatusError], None]:
        def refuse(call: CallContext, error: StatusError) -> None:
            try:
                with contextlib.suppress(StatusError), self._one_call(method, call):
                    raise error
            finally:
                del error  # as in `_one_call`; and its traceback holds the message, too

        return refuse

    def _unary(self, method: Method, function: Unary) -> Unary:
        async def guarded(request: Any, call: CallContext) -> Message:
            with self._one_call(method, call) as traced:
                if not method.counts_expired:
                    call.check_deadline(self._clock.monotonic_ns())
                return await function(request, traced)

        return guarded

    def _stream(self, method: Method, function: ServerStream) -> ServerStream:
        async def guarded(request: Any, call: CallContext) -> AsyncIterator[Message]:
            with self._one_call(method, call) as traced, self._one_stream(method):
                call.check_deadline(self._clock.monotonic_ns())
                check_again = self._access_again(method, call)
                async for response in function(request, traced):
                    check_again()
                    yield response

        return guarded

    def _each(self, method: Method, function: EachMessage) -> EachMessage:
        @contextlib.contextmanager
        def guarded(call: CallContext) -> Iterator[Callable[[Any], Awaitable[Message]]]:
            with self._one_call(method, call) as traced, self._one_stream(method):
                call.check_deadline(self._clock.monotonic_ns())
                check_again = self._access_again(method, call)
                with function(traced) as answer:

                    async def answer_one(request: Any) -> Message:
                        response = await answer(request)
                        check_again()
                        return response

                    yield answer_one

        return guarded

    def _access_again(self, method: Method, call: CallContext) -> Callable[[], None]:
        """Return what to call before each response of a stream that is admitted now.

        A token that is taken back ends the streams that it opened, with their next response.
        """
        admitted = self._access.state()

        def check() -> None:
            nonlocal admitted
            if (state := self._access.state()) != admitted:
                self._access.check(method.group, call)
                admitted = state

        return check

    @contextlib.contextmanager
    def _one_stream(self, method: Method) -> Iterator[None]:
        """Be one of the streams that may be open."""
        if method.group is Group.OPEN:
            yield
            return
        bound = self._options.max_streams
        if self._streams >= bound:
            raise OverloadedError(f"{bound} streams are open, which is the server's bound")
        self._streams += 1
        try:
            yield
        finally:
            self._streams -= 1

    @contextlib.contextmanager
    def _one_call(self, method: Method, call: CallContext) -> Iterator[CallContext]:
        """Count and trace the RPC that this block is; it ends with a StatusError or by cancellation only."""
        began_ns = self._clock.monotonic_ns()
        self._statistics.rpc_began(method.path)
        trace = None if self._tracing is None else self._tracing.rpc(method, call)
        code = Code.OK
        try:
            yield call if trace is None else replace(call, trace=trace)
        except Exception as error:  # noqa: BLE001 - the edge of every RPC; `status_for` logs bugs
            status = status_for(error, method.path, call.request_id)
            code = status.code
            try:
                raise status from None
            finally:
                del status  # its traceback holds this frame: only the collector would part them
        except (asyncio.CancelledError, GeneratorExit):
            late = call.deadline_ns is not None and self._clock.monotonic_ns() >= call.deadline_ns
            code = Code.DEADLINE_EXCEEDED if late else Code.CANCELLED
            raise
        finally:
            self._statistics.rpc_ended(method.path, code.name, self._clock.monotonic_ns() - began_ns)
            if trace is not None:
                trace.end(code)


def status_for(error: Exception, path: str, request_id: str) -> StatusError:
    """Return the status for whatever a function raised; log the traceback where it is a bug."""
    if isinstance(error, StatusError):
        return error
    if isinstance(error, ServingError):
        return status_of(error)
    log.error("%s request=%s failed", path, request_id, exc_info=error)
    return StatusError(Code.INTERNAL, f"internal error, request id {request_id}")
