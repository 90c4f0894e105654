"""Binds the method table to a grpcio server."""

from __future__ import annotations  # grpc-stubs has generics that grpcio has not

import logging
from collections.abc import AsyncIterator, Callable
from typing import Any, Final, NoReturn

import grpc
from google.protobuf.message import Message

from inference_server.core.clock import Clock
from inference_server.rpc.concurrent import answer_concurrently
from inference_server.rpc.incoming import Parser, RequestIds, parser, read_only_message
from inference_server.rpc.method import CallContext, EachMessage, Method, MethodTable, ServerStream, Unary
from inference_server.rpc.status import StatusError
from inference_server.serving.drain import Drain

# A status text travels in the trailers, a character as up to 12 bytes; beyond 8 KiB they break the call.
MAX_TEXT: Final = 680
STATUS_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}


def bind(server: grpc.aio.Server, table: MethodTable) -> None:
    """Register every row of the table."""
    logging.getLogger("grpc._cython.cygrpc").addFilter(_is_news)
    contexts = _ContextMaker(table.clock)
    by_service: dict[str, dict[str, grpc.RpcMethodHandler[Any, Any]]] = {}
    for method in table.methods:
        name = method.path.rpartition("/")[2]
        by_service.setdefault(method.service, {})[name] = _handler(method, contexts, table.drain)
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler(service, handlers) for service, handlers in by_service.items()]
    )


def _is_news(record: logging.LogRecord) -> bool:
    """Keep out what grpcio logs, traceback and all, when an answer meets a caller who has just left."""
    return not record.getMessage().startswith("ExecuteBatchError raised in core")


class _ContextMaker:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ids = RequestIds()

    def __call__(self, context: grpc.aio.ServicerContext[Any, Any]) -> CallContext:
        remaining_s = context.time_remaining()
        deadline_ns = None
        if remaining_s is not None:
            deadline_ns = self._clock.monotonic_ns() + int(remaining_s * 1e9)
        return CallContext(deadline_ns, self._ids(), tuple(context.invocation_metadata() or ()))


def _handler(method: Method, contexts: _ContextMaker, drain: Drain) -> grpc.RpcMethodHandler[Any, Any]:
    codec: dict[str, Callable[[Any], Any] | None] = {
        "request_deserializer": None,  # what grpcio cannot parse becomes UNKNOWN, and a traceback in the log
        "response_serializer": method.response.SerializeToString,
    }
    parse = parser(method.request)
    if method.unary is not None:
        return grpc.unary_unary_rpc_method_handler(_unary(method, method.unary, parse, contexts), **codec)
    if method.server_stream is not None:
        return grpc.unary_stream_rpc_method_handler(
            _server_stream(method, method.server_stream, parse, contexts), **codec
        )
    if method.each is not None:
        return grpc.stream_stream_rpc_method_handler(
            _each(method, method.each, parse, contexts, drain), **codec
        )
    raise ValueError(f"{method.path}: no function")


def _unary(
    method: Method, function: Unary, parse: Parser, contexts: _ContextMaker
) -> Callable[[Any, Any], Any]:
    async def handle(raw: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Message:
        try:
            call = contexts(context)
            method.admit(call)
            return await function(read_only_message(method, call, parse, raw), call)
        except StatusError as error:
            await _abort(context, error)

    return handle


def _server_stream(
    method: Method, function: ServerStream, parse: Parser, contexts: _ContextMaker
) -> Callable[[Any, Any], Any]:
    async def handle(raw: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Message]:
        try:
            call = contexts(context)
            method.admit(call)
            async for response in function(read_only_message(method, call, parse, raw), call):
                yield response
        except StatusError as error:
            await _abort(context, error)

    return handle


def _each(
    method: Method, function: EachMessage, parse: Parser, contexts: _ContextMaker, drain: Drain
) -> Callable[[Any, Any], Any]:
    async def parsed(raws: AsyncIterator[bytes]) -> AsyncIterator[Message]:
        async for raw in raws:
            yield parse(raw)

    async def handle(raws: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Message]:
        try:
            call = contexts(context)
            method.admit(call)
            with function(call) as answer:
                async for response in answer_concurrently(parsed(raws), answer, method.at_once, drain):
                    yield response
        except StatusError as error:
            await _abort(context, error)

    return handle


async def _abort(context: grpc.aio.ServicerContext[Any, Any], error: StatusError) -> NoReturn:
    await context.abort(STATUS_CODES[int(error.code)], error.text[:MAX_TEXT])
    raise AssertionError("abort returned")  # it always raises; this tells the type checker
