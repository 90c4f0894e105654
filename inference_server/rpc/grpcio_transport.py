"""Binds the method table to a grpcio server."""

from __future__ import annotations  # grpc-stubs has generics that grpcio has not

import itertools
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final, NoReturn

import grpc
from google.protobuf.message import DecodeError, Message

from inference_server.core.clock import Clock
from inference_server.core.errors import InvalidRequestError
from inference_server.rpc.fields import FieldBound
from inference_server.rpc.method import BidirectionalStream, CallContext, Method, ServerStream, Unary
from inference_server.rpc.status import Code, StatusError, status_of

# A status text travels in the trailers, a character as up to 12 bytes; beyond 8 KiB they break the call.
MAX_TEXT: Final = 680
STATUS_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}


def bind(server: grpc.aio.Server, methods: Sequence[Method], clock: Clock) -> None:
    """Register every row of the table; their functions must be guarded."""
    logging.getLogger("grpc._cython.cygrpc").addFilter(_is_news)
    contexts = _ContextMaker(clock)
    by_service: dict[str, dict[str, grpc.RpcMethodHandler[Any, Any]]] = {}
    for method in methods:
        name = method.path.rpartition("/")[2]
        by_service.setdefault(method.service, {})[name] = _handler(method, contexts)
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler(service, handlers) for service, handlers in by_service.items()]
    )


def _is_news(record: logging.LogRecord) -> bool:
    """Keep out what grpcio logs, traceback and all, when an answer meets a caller who has just left."""
    return not record.getMessage().startswith("ExecuteBatchError raised in core")


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
        request_id = f"{self._prefix}-{next(self._numbers)}"
        return CallContext(deadline_ns, request_id, tuple(context.invocation_metadata() or ()))


def _handler(method: Method, contexts: _ContextMaker) -> grpc.RpcMethodHandler[Any, Any]:
    codec: dict[str, Callable[[Any], Any] | None] = {
        "request_deserializer": None,  # what grpcio cannot parse becomes UNKNOWN, and a traceback in the log
        "response_serializer": method.response.SerializeToString,
    }
    one, many = _parsers(method.request)
    if method.unary is not None:
        return grpc.unary_unary_rpc_method_handler(_unary(method, method.unary, one, contexts), **codec)
    if method.server_stream is not None:
        return grpc.unary_stream_rpc_method_handler(
            _stream(method, method.server_stream, one, contexts), **codec
        )
    if method.bidirectional is not None:
        return grpc.stream_stream_rpc_method_handler(
            _stream(method, method.bidirectional, many, contexts), **codec
        )
    raise ValueError(f"{method.path}: no function")


def _parsers(kind: type[Message]) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    bound = FieldBound(kind)

    def one(raw: bytes) -> Message:
        try:
            bound.check(raw)
            return kind.FromString(raw)
        except InvalidRequestError as error:
            raise status_of(error) from None
        except DecodeError:
            text = f"expected a {kind.DESCRIPTOR.full_name}, came {len(raw)} bytes that are none"
            raise StatusError(Code.INVALID_ARGUMENT, text) from None

    async def many(raws: AsyncIterator[bytes]) -> AsyncIterator[Message]:
        async for raw in raws:
            yield one(raw)

    return one, many


def _unary(
    method: Method, function: Unary, parse: Callable[[Any], Any], contexts: _ContextMaker
) -> Callable[[Any, Any], Any]:
    async def handle(raw: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Message:
        try:
            call = contexts(context)
            method.admit(call)
            return await function(_read(method, call, parse, raw), call)
        except StatusError as error:
            await _abort(context, error)

    return handle


def _stream(
    method: Method,
    function: ServerStream | BidirectionalStream,
    parse: Callable[[Any], Any],
    contexts: _ContextMaker,
) -> Callable[[Any, Any], Any]:
    async def handle(raw: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Message]:
        try:
            call = contexts(context)
            method.admit(call)
            async for response in function(_read(method, call, parse, raw), call):
                yield response
        except StatusError as error:
            await _abort(context, error)

    return handle


def _read(method: Method, call: CallContext, parse: Callable[[Any], Any], raw: Any) -> Any:
    try:
        return parse(raw)
    except StatusError as error:
        method.refuse(call, error)
        raise


async def _abort(context: grpc.aio.ServicerContext[Any, Any], error: StatusError) -> NoReturn:
    await context.abort(STATUS_CODES[int(error.code)], error.text[:MAX_TEXT])
    raise AssertionError("abort returned")  # it always raises; this tells the type checker
