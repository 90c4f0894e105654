"""What one caller sends or leaves unread costs himself: credit, memory, turns, and the end of the server."""

import asyncio
import signal
import struct
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import ngh2
import pytest
from fuzz.memory_transport import MemoryTransport
from fuzz.virtual_loop import VirtualLoop
from google.protobuf.wrappers_pb2 import StringValue
from h2_served import Served, question
from onnx_files import score_model
from sidecars import eventually, process_sidecar, put
from wire_caller import DATA, PATIENCE_S, PREDICT, STREAM, WireCaller, frame, framed, headers_of
from wire_frames import PREFACE, call_fields, data, headers, message, settings, window_update

from inference_server.rpc.h2 import connection, limits
from inference_server.rpc.h2.held import HELD_MESSAGES
from inference_server.rpc.h2.limits import STREAM_WINDOW
from inference_server.rpc.h2.rows import Row, Shared
from inference_server.rpc.incoming import RequestIds, parser
from inference_server.rpc.listener import ListenerOptions
from inference_server.rpc.method import Group, Method

Serve = Callable[..., AbstractContextManager[Served]]
RESOURCE_EXHAUSTED = 8
# A message that says it is longer than any may be.
TOO_LONG = struct.pack(">BI", 0, 1 << 31)


def test_refused_messages_give_their_credit_back(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much came with messages that are too long, the connection never runs out of its window."""
    monkeypatch.setattr(limits, "CONNECTION_WINDOW", 1 << 20)
    with served.caller() as caller:
        caller.greeted()
        for _ in range(150):
            stream = caller.open()
            caller.send(stream, TOO_LONG + bytes(50_000))
            assert caller.answer(stream).code == RESOURCE_EXHAUSTED
        assert caller.answer(caller.call(question())).code == 0


@pytest.mark.parametrize("path", [PREDICT, STREAM])
def test_whole_messages_that_wait_are_bounded_too(serve: Serve, path: str) -> None:
    """A caller who never ends his side, or reads no answers, cannot pile up whole messages."""
    bound = 4 << 20
    unread = framed(question(rows=30_000)) if path == STREAM else b""
    with serve(listener=ListenerOptions(max_message_bytes=bound)) as served, served.caller({4: 1}) as caller:
        caller.greeted()
        streams = [caller.open(path) for _ in range(HELD_MESSAGES + 1)]
        for stream in streams:
            caller.send(stream, unread)
        if unread:
            caller.until(lambda: set(streams) <= caller.data.keys(), "each has an answer to read")
        *_, last = streams
        for stream in streams:
            caller.send(stream, framed(bytes(bound)))
            caller.until(lambda: last in caller.closed or not caller.http.queued_body_size(), "it is sent")
        caller.http.update_settings({4: 1 << 20})
        caller.flush()
        assert caller.answer(last).code == RESOURCE_EXHAUSTED


def test_streams_that_wait_leave_room_for_other_calls(served: Served) -> None:
    """Many streams that are full because nobody reads their answers do not use up the connection's window."""
    with served.caller({4: 1000}) as caller:
        caller.greeted()
        streams = [caller.open(STREAM) for _ in range(20)]
        for stream in streams:
            caller.http.send_data(stream, framed(question()) * (2 * STREAM_WINDOW // len(framed(question()))))
        caller.flush()
        caller.until(
            lambda: all(not caller.http.stream_remote_window_size(stream) for stream in streams),
            "every stream is full",
        )
        assert caller.answer(caller.call(question())).code == 0


def test_a_stream_that_waits_is_remembered_once(served: Served) -> None:
    """However many pieces come for it meanwhile: each would be gone through with whatever is sent."""
    with served.caller({4: 1000}) as caller:
        caller.greeted()
        stream = caller.open(STREAM)
        caller.send(stream, framed(question()) * 5000)
        [waits] = eventually(
            lambda: [each for each in served.connections if each._when_read], "the stream waits"
        )
        caller.raw(frame(DATA, 0, stream, b"\0") * 1000)
        caller.socket.sendall(frame(6, 0, 0, bytes(8)))
        caller.until(lambda: caller.pongs, "all of it has been taken")
        eventually(lambda: len(waits._when_read) == 1, "it waits again, and once")


def test_a_flood_on_one_stream_leaves_others_their_turn(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Messages that came at once are answered in many turns: between them, others have theirs."""
    monkeypatch.setattr(connection, "TURN_S", 0.0)
    many = 500
    passes = 0

    async def count_passes() -> None:
        nonlocal passes
        while not served.in_flight:  # noqa: ASYNC110 - the turns of the loop are what is counted
            await asyncio.sleep(0)
        while served.in_flight:
            passes += 1
            await asyncio.sleep(0)

    with served.caller() as caller:
        caller.greeted()
        counting = asyncio.run_coroutine_threadsafe(count_passes(), served.sidecar._loop)
        stream = caller.http.send_request(headers_of(STREAM))
        caller.http.send_data(stream, framed(question()) * many, end_stream=True)
        caller.flush()
        assert len(caller.answer(stream).messages) == many
        counting.result(PATIENCE_S)
    assert passes > many // 2


def test_a_large_answer_leaves_others_their_turn() -> None:
    """However fast it is read, so much of it is written in a turn of the event loop and no more."""
    size = 8 * connection.TURN_BYTES
    loop = VirtualLoop()

    async def large(*_: Any) -> StringValue:
        return StringValue(value="x" * size)

    method = Method("/s.S/M", StringValue, StringValue, Group.OPEN, unary=large)
    row = Row(method, parser(StringValue), 2 * size)
    shared = Shared({method.path: row}, loop, RequestIds(), ListenerOptions(), set())
    try:
        with loop.current():
            transport = MemoryTransport(loop, connection.Connection(shared))
            transport.deliver(PREFACE + settings([(4, 2**31 - 1)]) + window_update(0, 2**30))
            transport.deliver(headers(1, call_fields(b"/s.S/M")) + data(1, message(b""), end_stream=True))
            turns = 0
            while len(transport.written) < size:
                before = len(transport.written)
                loop.turn()
                assert 0 < len(transport.written) - before <= connection.TURN_BYTES
                turns += 1
            assert turns >= 6
            transport.vanish()
            loop.turn()
            loop.turn()
            assert not loop.failures
    finally:
        loop.close()


@pytest.mark.parametrize("path", [PREDICT, STREAM])
def test_answers_that_are_read_late_are_whole_when_the_server_stops(tmp_path: Path, path: str) -> None:
    """A call that has ended, and whose answer waits for its caller, is waited for like one in flight.

    The caller reads only after the server began to stop.
    """
    put(tmp_path / "models" / "one.onnx", score_model("one"))
    with process_sidecar(tmp_path / "models") as sidecar, WireCaller(sidecar.target) as caller:
        caller.greeted()
        stream = caller.call(question(rows=60_000), path)
        caller.until(lambda: stream in caller.data, "the answer begins")
        sidecar.process.send_signal(signal.SIGTERM)
        eventually(lambda: "stopping" in sidecar.log.read_text(), "it is about to stop")
        answer = caller.answer(stream)
        assert (answer.code, len(answer.messages)) == (0, 1)
        caller.until_gone()
        assert sidecar.process.wait(PATIENCE_S) == 0


def test_what_is_no_http_2_is_told_so(served: Served) -> None:
    """It is a PROTOCOL_ERROR; to be calm is asked of those who send too much."""
    with served.caller(greet=False) as caller:
        caller.raw(b"GET / HTTP/1.1\r\n\r\n")
        caller.until_gone()
        [(_, code, told)] = caller.goaways
        assert code == ngh2.ErrorCode.PROTOCOL_ERROR, told
