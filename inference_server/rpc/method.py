"""The method table: every RPC as data, so that a transport only has to bind rows.

A function here knows decoded messages and a `CallContext`, and nothing of the transport that carries them.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from google.protobuf.message import Message


@dataclass(frozen=True, slots=True)
class CallContext:
    """What a function may know of its call.

    `deadline_ns` is a reading of the clock's `monotonic_ns`, None without a limit. `request_id` is unique in
    this process and stands in the log beside whatever went wrong.
    """

    deadline_ns: int | None
    request_id: str


Unary = Callable[[Any, CallContext], Awaitable[Message]]
ServerStream = Callable[[Any, CallContext], AsyncIterator[Message]]
BidirectionalStream = Callable[[AsyncIterator[Any], CallContext], AsyncIterator[Message]]


@dataclass(frozen=True, slots=True)
class Method:
    """One RPC. Exactly one of the three functions is set.

    A function ends badly by raising ServingError; anything else that it raises is a bug. It is cancelled when
    the caller goes away or the deadline passes, at any await.
    """

    path: str
    request: type[Message]
    response: type[Message]
    unary: Unary | None = None
    server_stream: ServerStream | None = None
    bidirectional: BidirectionalStream | None = None

    @property
    def service(self) -> str:
        """The full service name in the path."""
        return self.path[1:].rpartition("/")[0]


class Service(Protocol):
    """Some rows of the method table."""

    def methods(self) -> list[Method]:
        """Return the rows."""
        ...
