"""The method table: every RPC as data, so that a transport only has to bind rows.

A function here knows decoded messages and a `CallContext`, and nothing of the transport that carries them.
"""

import enum
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from google.protobuf.message import Message

from inference_server.core.clock import Clock
from inference_server.core.errors import DeadlineExceededError, Reason
from inference_server.rpc.status import StatusError
from inference_server.serving.drain import Drain

if TYPE_CHECKING:  # at run time only where traces are configured
    from inference_server.rpc.spans import RpcTrace


@dataclass(frozen=True, slots=True)
class CallContext:
    """What a function may know of its call.

    `deadline_ns` is a reading of the clock's `monotonic_ns`, None without a limit. `request_id` is unique in
    this process and stands in the log beside whatever went wrong. `metadata` are the caller's: keys in lower
    case, a value in bytes where its key ends in "-bin". `trace` is where the calls in it are told; None:
    it is not traced.
    """

    deadline_ns: int | None
    request_id: str
    metadata: Sequence[tuple[str, str | bytes]] = ()
    trace: "RpcTrace | None" = None

    def check_deadline(self, now_ns: int) -> None:
        """Raise DeadlineExceededError where the deadline has passed before anything was done."""
        if self.deadline_ns is not None and now_ns >= self.deadline_ns:
            raise DeadlineExceededError("the deadline had passed before the call was started", Reason.EXPIRED)


Unary = Callable[[Any, CallContext], Awaitable[Message]]
ServerStream = Callable[[Any, CallContext], AsyncIterator[Message]]
EachMessage = Callable[[CallContext], AbstractContextManager[Callable[[Any], Awaitable[Message]]]]


class Group(enum.Enum):
    """What an RPC may do, for who may call it."""

    OPEN = "open"
    """Health and what a client must know before it can say who it is."""
    PREDICT = "predict"
    """Predictions, and reading what is served."""
    CONTROL = "control"
    """Changing what is served."""


@dataclass(frozen=True, slots=True)
class Method:
    """One RPC. Exactly one of the three functions is set.

    A function ends badly by raising ServingError; anything else that it raises is a bug. It is cancelled when
    the caller goes away or the deadline passes, at any await. A transport may begin it outside of a task: up
    to its first await it has no current task. `admit` is called first, before anything that the caller sent
    is read or decoded; what it raises ends the call. A call whose one message cannot be read never gets to
    its function: `refuse` is called with the error instead, which it counts. Nor does one that comes after
    its deadline, unless the function `counts_expired` ones: then it refuses them itself.

    `each` is for a stream of which every message is answered by itself: what it gives is entered when the
    stream opens and left when it ends, and holds the function that answers one message. `at_once` are
    answered at a time, and sent as they are done; with 1 that is in the order of the messages. What that
    function raises ends the stream.
    """

    path: str
    request: type[Message]
    response: type[Message]
    group: Group
    unary: Unary | None = None
    server_stream: ServerStream | None = None
    each: EachMessage | None = None
    at_once: int = 1
    admit: Callable[[CallContext], None] = lambda _: None
    refuse: Callable[[CallContext, StatusError], None] = lambda *_: None
    counts_expired: bool = False

    @property
    def service(self) -> str:
        """The full service name in the path."""
        return self.path[1:].rpartition("/")[0]


@dataclass(frozen=True, slots=True)
class MethodTable:
    """Every RPC of the server, guarded, and what a transport needs to serve them.

    Once `drain` has begun, streams of messages that are answered each by itself end after the answers to
    what was read of them.
    """

    methods: Sequence[Method]
    clock: Clock
    drain: Drain


class Service(Protocol):
    """Some rows of the method table."""

    def methods(self) -> list[Method]:
        """Return the rows."""
        ...
