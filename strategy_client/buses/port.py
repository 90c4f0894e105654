"""What every bus can do for a source and for a sink, whatever it is."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


class BusError(Exception):
    """A bus cannot be used now; the text says which and why, without a password. To try again may help."""


@dataclass(frozen=True, slots=True)
class OutgoingMessage:
    """`key` keeps messages in order, `headers` are beside `value` where a bus has such; `id` is unique."""

    id: str
    key: str
    value: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class IncomingMessage:
    """`stream` and `position` are where it stands on its bus; `received_ns` is of `time.monotonic_ns`.

    `numbered` says that the position is the bus's own, and the same when the message is given again; that of
    a line is counted by who reads it.
    """

    stream: str
    position: str | int
    value: bytes
    received_ns: int
    numbered: bool = True


@dataclass(frozen=True, slots=True)
class Delivery:
    """What came of a batch, by the positions in it.

    `arrived` is confirmed by the bus; `refused` will never be taken, and says why. The others may be sent
    again: `error` says why they did not arrive, as far as is known.
    """

    arrived: Sequence[int] = ()
    refused: Mapping[int, str] = field(default_factory=dict)
    error: str = ""


class Outbox(Protocol):
    """One place that takes messages. Used by one thread; connects by itself, again after an error."""

    def send(self, batch: Sequence[OutgoingMessage], time_left_s: Callable[[], float]) -> Delivery:
        """Deliver a batch in its order; what is sent again keeps its order.

        `time_left_s` may become 0 or less at any time: what has not arrived by about then is left.
        """
        ...

    def close(self) -> None:
        """Free the connection. Called by the thread that sends."""
        ...


class Inbox(Protocol):
    """One place that gives messages. Used by one thread; connects by itself, again after an error.

    It knows the last message that it gave, and goes on behind it when it has connected again.
    """

    def receive(self, timeout_s: float) -> Sequence[IncomingMessage] | None:
        """Return what has come, waiting for the first one up to `timeout_s`; None where there is an end.

        Raises BusError.
        """
        ...

    def close(self) -> None:
        """Free the connection. Called by the thread that receives."""
        ...
