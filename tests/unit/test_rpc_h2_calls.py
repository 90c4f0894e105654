"""How a call of the transport of this machine's callers ends, whatever its function does."""

import asyncio
import struct
import threading
import zlib
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
from eventually import BOUND_S, eventually
from google.protobuf.wrappers_pb2 import StringValue

from inference_server.rpc.h2 import expansion
from inference_server.rpc.h2.call import Call
from inference_server.rpc.h2.expansion import Expander, ExpansionThread
from inference_server.rpc.h2.framing import PREFIX_BYTES, Packed, frame
from inference_server.rpc.h2.rows import Row
from inference_server.rpc.incoming import parser
from inference_server.rpc.method import CallContext, Group, Method
from inference_server.rpc.status import Code, StatusError

MAX_BYTES = 1 << 10
QUESTION = StringValue(value="?").SerializeToString()
FRAMED = struct.pack(">BI", 0, len(QUESTION)) + QUESTION


class FakeStream:
    """A stream whose caller reads everything at once."""

    unread_bytes = 0

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.ends: list[tuple[Code, str]] = []
        self.credit = 0

    def send(self, framed: bytes) -> None:
        """Remember it."""
        self.sent.append(framed)

    def end(self, code: Code, text: str) -> None:
        """Remember it."""
        self.ends.append((code, text))

    def consumed(self, count: int) -> None:
        """Count it."""
        self.credit += count

    def when_read(self, then: Callable[[], None]) -> None:
        """Nothing waits."""
        asyncio.get_running_loop().call_soon(then)

    def in_turn(self, then: Callable[[], None]) -> None:
        """It is its turn next."""
        asyncio.get_running_loop().call_soon(then)


def open_call(
    stream: FakeStream, kind: str, function: Any, encoding: bytes = b"identity", **more: Any
) -> Call:
    """Open a call of a method of this kind."""
    method = Method("/s.S/M", StringValue, StringValue, Group.OPEN, **{kind: function}, **more)
    row = Row(method, parser(StringValue), MAX_BYTES)
    return row.open(stream, CallContext(None, "1"), encoding, Expander(ExpansionThread()))


def asked(data: bytes, kind: str, function: Any, **more: Any) -> FakeStream:
    """Send this on a call of such a method, wait until it has ended, once, and return its stream."""

    async def ask() -> FakeStream:
        stream = FakeStream()
        open_call(stream, kind, function, **more).receive(data, last=True)
        await eventually(lambda: stream.ends)
        assert len(stream.ends) == 1
        return stream

    return asyncio.run(ask())


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("kind", ["unary", "each"])
def test_a_call_whose_work_is_cancelled_by_the_server_ends(kind: str, waits: bool) -> None:
    """As where it waits for something that is given up: the caller is told, and not left to wait."""

    async def cancelled(*_: Any) -> Any:
        if waits:
            await asyncio.sleep(0)
        raise asyncio.CancelledError

    function = cancelled if kind == "unary" else lambda _: nullcontext(cancelled)
    stream = asked(FRAMED, kind, function)
    assert stream.ends[0][0] is Code.CANCELLED


@pytest.mark.parametrize("waits", [False, True])
def test_what_an_answer_raises_ends_the_stream(waits: bool) -> None:
    """At once, with its status, whether or not it had to wait before."""

    async def fails(_: Any) -> Any:
        if waits:
            await asyncio.sleep(0)
        raise StatusError(Code.UNAUTHENTICATED, "taken back")

    stream = asked(FRAMED * 3, "each", lambda _: nullcontext(fails), at_once=4)
    assert stream.ends == [(Code.UNAUTHENTICATED, "taken back")]


async def echoed(request: Any, *_: Any) -> StringValue:
    """Say what was said."""
    return StringValue(value=request.value)


def said(value: str) -> bytes:
    """Such a message as it is sent."""
    return frame(StringValue(value=value).SerializeToString(), MAX_BYTES)


@pytest.mark.parametrize("at_once", [1, 4])
def test_messages_before_one_that_is_too_long_are_answered(at_once: int) -> None:
    """In order, though they came in one piece with it and had to wait; those after it are not begun."""
    before = [str(number) for number in range(10)]
    data = b"".join(map(said, before)) + struct.pack(">BI", 0, MAX_BYTES + 1) + said("after")
    stream = asked(data, "each", lambda _: nullcontext(echoed), at_once=at_once)
    assert stream.sent == [said(value) for value in before]
    assert [code for code, _ in stream.ends] == [Code.RESOURCE_EXHAUSTED]
    assert stream.credit == len(data)


@pytest.mark.parametrize("kind", ["unary", "each"])
def test_what_takes_long_to_expand_is_expanded_beside_the_event_loop(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """What is short is expanded at once; a call that waits holds its own message, and up no other."""
    monkeypatch.setattr(expansion, "SHORT_BYTES", 100)
    function = echoed if kind == "unary" else lambda _: nullcontext(echoed)
    other = threading.Event()
    expanded = Packed.expanded
    question = packed("x" * 1000)

    def watched(packed: Packed, max_bytes: int) -> bytes:
        assert threading.current_thread() is not threading.main_thread()
        assert other.wait(BOUND_S)
        return expanded(packed, max_bytes)

    monkeypatch.setattr(Packed, "expanded", watched)

    async def ask() -> tuple[FakeStream, FakeStream]:
        long, short = FakeStream(), FakeStream()
        waits = open_call(long, kind, function, encoding=b"deflate")
        waits.receive(question, last=True)
        assert not long.ends
        assert waits.held_bytes == len(question) - PREFIX_BYTES
        open_call(short, kind, function, encoding=b"deflate").receive(packed("x" * 10), last=True)
        assert short.ends
        other.set()
        await eventually(lambda: long.ends)
        assert waits.held_bytes == 0
        return long, short

    long, short = asyncio.run(ask())
    assert (long.sent, short.sent) == ([said("x" * 1000)], [said("x" * 10)])


def packed(value: str) -> bytes:
    """Such a message as it is sent by who compresses it."""
    raw = zlib.compress(StringValue(value=value).SerializeToString())
    return struct.pack(">BI", 1, len(raw)) + raw


@pytest.mark.parametrize("kind", ["unary", "each"])
def test_what_cannot_be_expanded_beside_the_event_loop_ends_its_call(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """As it does where it is short: too long, or not what it says to be."""
    monkeypatch.setattr(expansion, "SHORT_BYTES", 100)
    function = echoed if kind == "unary" else lambda _: nullcontext(echoed)
    long = packed("x" * 5000)
    for data, code in (
        (long, Code.RESOURCE_EXHAUSTED),
        (packed("x" * 1000)[:-9] + b"wrong sum", Code.INTERNAL),
    ):
        refused: list[Code] = []
        stream = asked(
            data,
            kind,
            function,
            encoding=b"deflate",
            refuse=lambda _, error, to=refused: to.append(error.code),
        )
        assert [ended for ended, _ in stream.ends] == [code]
        assert refused == ([code] if kind == "unary" else [])


@pytest.mark.parametrize(
    "data", [b"", FRAMED[:-1], FRAMED * 2, struct.pack(">BI", 0, MAX_BYTES + 1)], ids=len
)
def test_a_call_whose_one_message_cannot_be_read_is_counted_as_refused(data: bytes) -> None:
    """Once, with the status that its caller gets, and what came is given back."""
    refused: list[Code] = []

    async def never(*_: Any) -> Any:
        raise AssertionError

    stream = asked(data, "unary", never, refuse=lambda _, error: refused.append(error.code))
    assert refused == [code for code, _ in stream.ends]
    assert stream.credit == len(data)
