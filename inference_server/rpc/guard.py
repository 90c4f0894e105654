"""What holds for every RPC, whatever the transport: expiry before the start, and errors at the edge.

A function's ServingError becomes its status. Anything else is a bug: the caller gets a fixed text with the
request id, the log gets the traceback under the same id.
"""

import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from google.protobuf.message import Message

from inference_server.core.clock import Clock
from inference_server.core.errors import ServingError
from inference_server.rpc.method import BidirectionalStream, CallContext, Method, ServerStream, Unary
from inference_server.rpc.status import Code, StatusError, status_of

log = logging.getLogger(__name__)


def guard(method: Method, clock: Clock) -> Method:
    """Return the method with its function guarded: from it only StatusError and cancellation come out."""
    if method.unary is not None:
        return replace(method, unary=_guard_unary(method.path, method.unary, clock))
    if method.server_stream is not None:
        return replace(method, server_stream=_guard_stream(method.path, method.server_stream))
    if method.bidirectional is not None:
        return replace(method, bidirectional=_guard_stream(method.path, method.bidirectional))
    raise ValueError(f"{method.path}: no function")


def status_for(error: Exception, path: str, request_id: str) -> StatusError:
    """Return the status for whatever a function raised; log the traceback where it is a bug."""
    if isinstance(error, StatusError):
        return error
    if isinstance(error, ServingError):
        return status_of(error)
    log.error("%s request=%s failed", path, request_id, exc_info=error)
    return StatusError(Code.INTERNAL, f"internal error, request id {request_id}")


def _guard_unary(path: str, function: Unary, clock: Clock) -> Unary:
    async def guarded(request: Any, call: CallContext) -> Message:
        if call.deadline_ns is not None and clock.monotonic_ns() >= call.deadline_ns:
            raise StatusError(Code.DEADLINE_EXCEEDED, "the deadline had passed before the call was started")
        try:
            return await function(request, call)
        except Exception as error:  # noqa: BLE001 - the edge of every RPC; `status_for` logs bugs
            raise status_for(error, path, call.request_id) from None

    return guarded


def _guard_stream(path: str, function: ServerStream | BidirectionalStream) -> ServerStream:
    async def guarded(request: Any, call: CallContext) -> AsyncIterator[Message]:
        try:
            async for response in function(request, call):
                yield response
        except Exception as error:  # noqa: BLE001 - the edge of every RPC; `status_for` logs bugs
            raise status_for(error, path, call.request_id) from None

    return guarded
