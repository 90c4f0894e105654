"""Binds the method table to a grpcio server."""

from __future__ import annotations  # grpc-stubs has generics that grpcio has not

import itertools
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final, NoReturn

import grpc
from google.protobuf.message import Message

from inference_server.core.clock import Clock
from inference_server.rpc.method import BidirectionalStream, CallContext, Method, ServerStream, Unary
from inference_server.rpc.status import StatusError

STATUS_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}


def bind(server: grpc.aio.Server, methods: Sequence[Method], clock: Clock) -> None:
    """Register every row of the table; their functions must be guarded."""
    contexts = _ContextMaker(clock)
    by_service: dict[str, dict[str, grpc.RpcMethodHandler[Any, Any]]] = {}
    for method in methods:
        name = method.path.rpartition("/")[2]
        by_service.setdefault(method.service, {})[name] = _handler(method, contexts)
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler(service, handlers) for service, handlers in by_service.items()]
    )


class _ContextMaker:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._prefix = secrets.token_hex(4)
        self._numbers = itertools.count(1)

    def __call__(self, context: grpc.aio.ServicerContext[Any, Any]) -> CallContext:
        remaining_s = context.time_remaining()
        deadline_ns = None
        if remaining_s is not None:
            deadline_ns = self._clock.monotonic_ns() + int(remaining_s * 1e9)
        return CallContext(deadline_ns, f"{self._prefix}-{next(self._numbers)}")


def _handler(method: Method, contexts: _ContextMaker) -> grpc.RpcMethodHandler[Any, Any]:
    codec: dict[str, Callable[[Any], Any]] = {
        "request_deserializer": method.request.FromString,
        "response_serializer": method.response.SerializeToString,
    }
    if method.unary is not None:
        return grpc.unary_unary_rpc_method_handler(_unary(method.unary, contexts), **codec)
    if method.server_stream is not None:
        return grpc.unary_stream_rpc_method_handler(_stream(method.server_stream, contexts), **codec)
    if method.bidirectional is not None:
        return grpc.stream_stream_rpc_method_handler(_stream(method.bidirectional, contexts), **codec)
    raise ValueError(f"{method.path}: no function")


def _unary(function: Unary, contexts: _ContextMaker) -> Callable[[Any, Any], Any]:
    async def handle(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Message:
        try:
            return await function(request, contexts(context))
        except StatusError as error:
            await _abort(context, error)

    return handle


def _stream(
    function: ServerStream | BidirectionalStream, contexts: _ContextMaker
) -> Callable[[Any, Any], Any]:
    async def handle(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Message]:
        try:
            async for response in function(request, contexts(context)):
                yield response
        except StatusError as error:
            await _abort(context, error)

    return handle


async def _abort(context: grpc.aio.ServicerContext[Any, Any], error: StatusError) -> NoReturn:
    await context.abort(STATUS_CODES[int(error.code)], error.text)
    raise AssertionError("abort returned")  # it always raises; this tells the type checker
