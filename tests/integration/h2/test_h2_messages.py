"""gRPC on a stream: messages however they are cut, framed, padded and compressed."""

import gzip
import random
import struct
import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager

import ngh2
import pytest
from h2_served import Served, question, scores
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tickserve.v1 import predictor_pb2 as wire
from wire_caller import (
    DATA,
    END_STREAM,
    PADDED,
    PREDICT,
    STREAM,
    WireCaller,
    frame,
    framed,
    headers_of,
)

from inference_server.rpc.listener import ListenerOptions

Serve = Callable[..., AbstractContextManager[Served]]
INVALID_ARGUMENT, RESOURCE_EXHAUSTED, INTERNAL = 3, 8, 13


@pytest.mark.parametrize("path", [PREDICT, STREAM])
def test_a_body_in_single_bytes_is_put_together(served: Served, path: str) -> None:
    """Each byte in a DATA frame of its own, some of them padded, some of them empty."""
    with served.caller() as caller:
        stream = caller.open(path)
        frames = []
        for number, byte in enumerate(framed(question())):
            frames.append(frame(DATA, 0, stream, bytes((byte,))))
            if number % 7 == 3:
                frames.append(frame(DATA, 0, stream))
            if number % 5 == 2:
                frames.append(frame(DATA, PADDED, stream, b"\5" + bytes(5)))
        caller.raw(*frames, frame(DATA, END_STREAM, stream))
        caller.until(lambda: stream in caller.trailers, "the status")
        assert caller.trailers[stream][b"grpc-status"] == b"0"
        assert scores(caller.messages(stream)[0]) == [6.0]


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_frames_cut_anywhere_by_the_socket_are_put_together(served: Served, size: int) -> None:
    """A whole connection, preface and all, in pieces of so many bytes."""
    with WireCaller(served.sidecar.tcp, greet=False) as caller:
        caller.http.initiate_connection()
        stream = caller.http.send_request(headers_of(PREDICT))
        caller.http.send_data(stream, framed(question()), end_stream=True)
        said = caller.http.data_to_send()
        for start in range(0, len(said), size):
            caller.raw(said[start : start + size])
        assert caller.answer(stream).code == 0


def test_several_messages_in_one_frame_are_several_questions(served: Served) -> None:
    """All of them are answered, also where the last comes in two pieces, with padding between."""
    questions = b"".join(framed(question(id=str(number))) for number in range(20))
    with served.caller() as caller:
        stream = caller.open(STREAM)
        caller.raw(
            frame(DATA, PADDED, stream, b"\x09" + questions[:-7] + bytes(9)),
            frame(DATA, PADDED | END_STREAM, stream, b"\x00" + questions[-7:]),
        )
        caller.until(lambda: stream in caller.trailers, "the status")
        answers = [wire.PredictResponse.FromString(each).id for each in caller.messages(stream)]
        assert sorted(answers, key=int) == [str(number) for number in range(20)]


@pytest.mark.parametrize(
    ("path", "body", "text"),
    [
        (PREDICT, framed(question()) * 2, "came more"),
        (PREDICT, b"", "came none"),
        (PREDICT, framed(question())[:-1], "part of one"),
        (PREDICT, b"\0\0\0", "part of one"),
        (STREAM, framed(question())[:-1], "cut off"),
        (STREAM, framed(question()) + b"\0", "cut off"),
    ],
)
def test_what_is_not_as_many_whole_messages_as_expected_is_refused(
    served: Served, path: str, body: bytes, text: str
) -> None:
    """Two, none, or a part of one; what came whole before it on a stream is answered."""
    with served.caller() as caller:
        stream = caller.open(path)
        caller.send(stream, body, end=True)
        answer = caller.answer(stream)
        assert (answer.code, text in answer.text) == (INVALID_ARGUMENT, True), answer
        assert len(answer.messages) == (path == STREAM and len(body) > len(framed(question())))


def test_a_second_message_is_refused_when_it_comes(served: Served) -> None:
    """A unary call does not wait for the end of what is wrong already; the caller is told to stop."""
    with served.caller() as caller:
        stream = caller.open(PREDICT)
        caller.send(stream, framed(question()) * 2)
        answer = caller.answer(stream)
        assert (answer.code, answer.reset) == (INVALID_ARGUMENT, ngh2.ErrorCode.NO_ERROR)


@pytest.mark.parametrize("path", [PREDICT, STREAM])
def test_messages_are_compressed_as_the_headers_say(served: Served, path: str) -> None:
    """By gzip or deflate, each message or not; otherwise than said is refused."""
    plain = question()
    compressed = {b"gzip": gzip.compress(plain), b"deflate": zlib.compress(plain)}
    with served.caller() as caller:
        for encoding, raw in compressed.items():
            for body in (framed(raw, 1), framed(plain)):
                stream = caller.open(path, [(b"grpc-encoding", encoding)])
                caller.send(stream, body, end=True)
                answer = caller.answer(stream)
                assert (answer.code, scores(answer.messages[0])) == (0, [6.0])
            cut, twice, longer = framed(raw[:-4], 1), framed(raw * 2, 1), framed(raw + b"\0", 1)
            for bad in (framed(raw, 2), cut, twice, longer, framed(plain, 1), framed(b"", 1)):
                stream = caller.open(path, [(b"grpc-encoding", encoding)])
                caller.send(stream, bad, end=True)
                assert caller.answer(stream).code == INTERNAL
        for more in ([], [(b"grpc-encoding", b"identity")]):
            stream = caller.open(path, more)
            caller.send(stream, framed(compressed[b"gzip"], 1), end=True)
            answer = caller.answer(stream)
            assert (answer.code, "not compressed" in answer.text) == (INTERNAL, True)


@pytest.mark.parametrize("path", [PREDICT, STREAM])
def test_what_becomes_too_long_when_decompressed_is_refused(serve: Serve, path: str) -> None:
    """A thousandth of the bound on the wire, a hundred times the bound in memory: it is never there whole."""
    packer = zlib.compressobj(9)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(100)) + packer.flush()
    with serve(listener=ListenerOptions(max_message_bytes=1 << 20)) as served, served.caller() as caller:
        stream = caller.open(path, [(b"grpc-encoding", b"deflate")])
        caller.send(stream, framed(bomb, 1), end=True)
        assert caller.answer(stream).code == RESOURCE_EXHAUSTED


@pytest.mark.parametrize("path", [PREDICT, STREAM])
def test_a_message_that_says_it_is_too_long_is_refused_at_once(serve: Serve, path: str) -> None:
    """Its prefix is enough; one byte less is waited for."""
    with serve(listener=ListenerOptions(max_message_bytes=1 << 20)) as served, served.caller() as caller:
        stream = caller.open(path)
        caller.send(stream, struct.pack(">BI", 0, (1 << 20) + 1))
        assert caller.answer(stream).code == RESOURCE_EXHAUSTED
        stream = caller.open(path)
        caller.send(stream, struct.pack(">BI", 0, 1 << 20))
        caller.send(stream, bytes(1 << 20), end=True)
        assert caller.answer(stream).code != RESOURCE_EXHAUSTED


@pytest.mark.parametrize("whole", [True, False])
def test_what_is_held_of_one_connection_is_bounded(serve: Serve, whole: bool) -> None:
    """Calls that send a message and not its end, or all but its last byte, share a bound; others go on."""
    size = 1 << 20
    body = framed(bytes(size))
    with serve(listener=ListenerOptions(max_message_bytes=size)) as served, served.caller() as caller:
        caller.greeted()
        streams = [caller.open(PREDICT) for _ in range(12)]
        for stream in streams:
            caller.send(stream, body if whole else body[:-1])
        caller.until(lambda: len(caller.closed) >= 8, "what is above four times a message's bound is refused")
        served.check_answers()
        for stream in streams:
            if stream not in caller.resets:
                caller.send(stream, b"" if whole else body[-1:], end=True)
        codes = [caller.answer(stream).code for stream in streams]
        assert 3 <= codes.count(INVALID_ARGUMENT) <= 4  # they are no questions
        assert codes.count(RESOURCE_EXHAUSTED) == 12 - codes.count(INVALID_ARGUMENT)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 9)), max_size=40), st.booleans())
def test_a_stream_is_the_same_however_it_is_cut_and_padded(
    served: Served, cuts: list[tuple[int, int]], first_only: bool
) -> None:
    """Any sequence of DATA frames with these bytes in them gets the same answers."""
    body = b"".join(framed(question(id=str(number))) for number in range(1 if first_only else 5))
    with served.caller() as caller:
        stream = caller.open(STREAM)
        frames = []
        for size, padding in cuts:
            frames.append(frame(DATA, PADDED, stream, bytes((padding,)) + body[:size] + bytes(padding)))
            body = body[size:]
        caller.raw(*frames, frame(DATA, END_STREAM, stream, body))
        caller.until(lambda: stream in caller.trailers, "the status")
        assert caller.trailers[stream][b"grpc-status"] == b"0"
        assert len(caller.messages(stream)) == (1 if first_only else 5)


def test_random_frames_end_at_most_their_own_connection(served: Served) -> None:
    """Frames of any kind, flags and content on any stream: the server is as before."""
    chance = random.Random(11)  # noqa: S311 - a repeatable stream of bytes
    for _ in range(150):
        with served.caller() as caller:
            caller.greeted()
            caller.raw(
                *(
                    frame(
                        chance.randrange(12),
                        chance.randrange(256),
                        chance.choice((0, 1, 1, 3, 5, 1 << 20)),
                        chance.randbytes(chance.choice((0, 1, 4, 5, 6, 8, 9, 100))),
                    )
                    for _ in range(chance.randrange(1, 8))
                )
            )
    served.check_answers()
