"""What is left of a connection whose caller has gone."""

import asyncio
import gc
import socket
import weakref
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import wire_frames
from eventually import eventually
from google.protobuf.wrappers_pb2 import StringValue

from inference_server.core.clock import SystemClock
from inference_server.rpc.h2.connection import Connection
from inference_server.rpc.h2.rows import Row, Shared
from inference_server.rpc.incoming import RequestIds, parser
from inference_server.rpc.listener import ListenerOptions
from inference_server.rpc.method import Group, Method

QUESTION = wire_frames.message(StringValue(value="?").SerializeToString())
DEADLINE = (b"grpc-timeout", b"1H")


async def answered(*_: Any) -> StringValue:
    """Answer at once."""
    return StringValue(value="!")


async def never_answered(*_: Any) -> StringValue:
    """Wait until it is cancelled."""
    await asyncio.Event().wait()
    raise AssertionError


async def never_ending(*_: Any) -> AsyncIterator[StringValue]:
    """Answer once, and wait until it is cancelled."""
    yield StringValue(value="!")
    await asyncio.Event().wait()


FUNCTIONS = {
    "answered unary": {"unary": answered},
    "waiting unary": {"unary": never_answered},
    "waiting server stream": {"server_stream": never_ending},
    "answered each": {"each": lambda _: nullcontext(answered)},
    "waiting each": {"each": lambda _: nullcontext(never_answered)},
}


@contextmanager
def no_collector() -> Iterator[None]:
    """Leave what holds itself where it is."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def left_of(said: bytes, functions: dict[str, Any]) -> "weakref.ref[Connection]":
    """Return what is left of a connection once it is lost, of which a caller said this."""
    method = Method("/s.S/M", StringValue, StringValue, Group.OPEN, **functions)
    options = ListenerOptions()
    row = Row(method, parser(StringValue), options.max_message_bytes)
    shared = Shared({method.path: row}, SystemClock(), RequestIds(), options, set())
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    with ours:
        ours.setblocking(False)  # noqa: FBT003 - the system's
        _, connection = await loop.connect_accepted_socket(lambda: Connection(shared), theirs)
        await loop.sock_sendall(ours, wire_frames.PREFACE + wire_frames.settings() + said)
        # An answer to it says that what came before it has been read.
        await loop.sock_sendall(ours, wire_frames.ping(b"all read"))
        heard = b""
        while b"all read" not in heard:
            heard += await loop.sock_recv(ours, 1 << 16)
    await connection.gone
    return weakref.ref(connection)


@pytest.mark.parametrize("ended", [True, False], ids=["asked", "asking"])
@pytest.mark.parametrize("functions", FUNCTIONS.values(), ids=FUNCTIONS)
def test_a_connection_that_is_lost_is_freed_without_the_collector(
    functions: dict[str, Any], ended: bool
) -> None:
    """With its calls in whatever state: it holds 20 KiB of the library's, and answers that nobody read."""
    said = wire_frames.headers(1, wire_frames.call_fields(b"/s.S/M", DEADLINE))
    said += wire_frames.data(1, QUESTION, end_stream=ended)

    async def main() -> None:
        left = await left_of(said, functions)
        await eventually(lambda: left() is None)

    with no_collector():
        asyncio.run(main())
