"""The method table as this transport serves it."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from inference_server.core.clock import Clock
from inference_server.rpc.h2.call import Call, Opening, ServerStreamCall, Stream, UnaryCall
from inference_server.rpc.h2.each_call import EachCall
from inference_server.rpc.h2.expansion import Expander, ExpansionThread
from inference_server.rpc.h2.framing import MessageReader
from inference_server.rpc.incoming import Parser, RequestIds
from inference_server.rpc.method import CallContext, Method

if TYPE_CHECKING:
    from inference_server.rpc.listener import ListenerOptions


class Open(Protocol):
    """A connection, as the server that has to end it knows it."""

    gone: asyncio.Future[None]

    def drain_streams(self) -> None:
        """Let streams end after the answers to what was read of them."""
        ...

    def drain(self) -> None:
        """Begin no more calls, and close once the last has ended."""
        ...

    def abort(self) -> None:
        """Cut it off."""
        ...


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the method table, with what parses its messages and the bound on each."""

    method: Method
    parse: Parser
    max_bytes: int

    def open(self, stream: Stream, context: CallContext, encoding: bytes, expander: Expander) -> Call:
        """Open a call of it; raises StatusError where the method does not admit it."""
        method = self.method
        method.admit(context)
        reader = MessageReader(self.max_bytes, encoding)
        opening = Opening(stream, method, context, reader, self.parse, self.max_bytes, expander)
        if method.unary is not None:
            return UnaryCall(method.unary, opening)
        if method.server_stream is not None:
            return ServerStreamCall(method.server_stream, opening)
        if method.each is not None:
            return EachCall(method.each, opening)
        raise ValueError(f"{method.path}: no function")


@dataclass(frozen=True, slots=True)
class Shared:
    """What all connections have in common. `connections` are those that are open."""

    rows: Mapping[str, Row]
    clock: Clock
    ids: RequestIds
    options: "ListenerOptions"
    connections: set[Open]
    expansion: ExpansionThread = field(default_factory=ExpansionThread)
