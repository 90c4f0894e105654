"""Streams on one connection: how many, how they end early, and what is left of them."""

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager

import ngh2
import pytest
from h2_served import Served, question, scores
from sidecars import eventually
from tickserve.v1 import predictor_pb2 as wire
from wire_caller import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PREDICT,
    PRIORITY,
    RST_STREAM,
    STREAM,
    frame,
    framed,
    header_block,
    headers_of,
)

from inference_server.rpc.listener import ListenerOptions

Serve = Callable[..., AbstractContextManager[Served]]
ENDLESS = 2.0**62
CANCEL = ngh2.ErrorCode.CANCEL
WATCH = "/grpc.health.v1.Health/Watch"


def test_streams_beyond_the_bound_are_refused_and_the_others_go_on(serve: Serve) -> None:
    """A caller who has not heard of the bound is told REFUSED_STREAM: nothing was done of that call."""
    with (
        serve(listener=ListenerOptions(max_streams_per_connection=3)) as served,
        served.caller() as caller,
    ):
        streams = [caller.open(STREAM) for _ in range(5)]
        caller.until(lambda: len(caller.resets) == 2, "two of five are refused")
        assert caller.resets == dict.fromkeys(streams[3:], ngh2.ErrorCode.REFUSED_STREAM)
        for stream in streams[:3]:
            caller.send(stream, framed(question()), end=True)
            assert caller.answer(stream).code == 0
        assert caller.answer(caller.call(question())).code == 0
        assert served.ended("PredictStream", "OK") == 3


def test_who_breaks_the_bound_knowingly_is_ended(serve: Serve) -> None:
    """One stream more than he has acknowledged ends his connection, and no other."""
    with (
        serve(listener=ListenerOptions(max_streams_per_connection=3)) as served,
        served.caller() as other,
        served.caller() as caller,
    ):
        beside = other.open(STREAM)
        caller.greeted()
        for _ in range(3):
            caller.open(STREAM)
        caller.raw(frame(HEADERS, END_HEADERS, 1001, header_block(headers_of(STREAM))))
        caller.until_gone()
        assert [code for _, code, _ in caller.goaways] == [ngh2.ErrorCode.PROTOCOL_ERROR]
        other.send(beside, framed(question()), end=True)
        assert other.answer(beside).code == 0
        eventually(lambda: served.ended("PredictStream", "CANCELLED") == 3, "his calls are cancelled")


@pytest.mark.parametrize("path", [PREDICT, STREAM])
def test_a_reset_cancels_the_function(served: Served, path: str) -> None:
    """The model's run is given up, the call is counted CANCELLED, and the connection is as before."""
    name = path.rpartition("/")[2]
    before = served.ended(name, "CANCELLED")
    with served.caller() as caller:
        stream = caller.open(path)
        caller.send(stream, framed(question("loops", value=ENDLESS)), end=path == PREDICT)
        eventually(lambda: served.sidecar.sidecar.data_plane.calls_in_flight == 1, "it runs")
        caller.http.reset_stream(stream, CANCEL)
        caller.flush()
        eventually(lambda: served.sidecar.sidecar.data_plane.calls_in_flight == 0, "it runs no more")
        eventually(lambda: served.ended(name, "CANCELLED") == before + 1, "it is counted")
        assert caller.answer(caller.call(question())).code == 0


def test_a_reset_of_a_watch_ends_it(served: Served) -> None:
    """A stream of answers without end leaves nothing when its caller has enough."""
    with served.caller() as caller:
        stream = caller.call(b"", WATCH)
        caller.until(lambda: caller.messages(stream), "the first status")
        assert served.in_flight == 1
        caller.http.reset_stream(stream, CANCEL)
        caller.flush()
        eventually(lambda: served.in_flight == 0, "it ended")
        assert caller.answer(caller.call(question())).code == 0


def test_a_caller_who_hangs_up_cancels_all_his_calls(served: Served) -> None:
    """Unary, streamed and watched, begun and half sent: each ends as CANCELLED where it was begun."""
    before = served.ended("Predict", "CANCELLED"), served.ended("PredictStream", "CANCELLED")
    with served.caller() as caller:
        caller.call(question("loops", value=ENDLESS))
        caller.send(caller.open(STREAM), framed(question("loops", value=ENDLESS)))
        caller.call(b"", WATCH)
        caller.send(caller.open(), framed(question())[:-1])
        eventually(lambda: served.in_flight == 3, "they run")
    eventually(lambda: served.in_flight == 0, "they have ended")
    after = served.ended("Predict", "CANCELLED"), served.ended("PredictStream", "CANCELLED")
    assert after == (before[0] + 1, before[1] + 1)


@pytest.mark.parametrize("path", [PREDICT, STREAM])
def test_a_deadline_passes_while_the_body_still_comes(served: Served, path: str) -> None:
    """The call ends by itself, the caller is told to send no more, and what he sends still is ignored."""
    with served.caller() as caller:
        stream = caller.open(path, [(b"grpc-timeout", b"50m")])
        caller.send(stream, framed(question())[:-1])
        answer = caller.answer(stream)
        assert (answer.code, answer.reset) == (4, ngh2.ErrorCode.NO_ERROR)
        caller.raw(frame(DATA, END_STREAM, stream, b"x"))
        assert caller.answer(caller.call(question())).code == 0


@pytest.mark.parametrize("path", [PREDICT, STREAM])
def test_a_deadline_passes_while_a_model_runs(served: Served, path: str) -> None:
    """The caller is told DEADLINE_EXCEEDED, the model's run is given up, and that is what is counted."""
    name = path.rpartition("/")[2]
    before = served.ended(name, "DEADLINE_EXCEEDED")
    with served.caller() as caller:
        stream = caller.open(path, [(b"grpc-timeout", b"100000u")])
        caller.send(stream, framed(question("loops", value=ENDLESS)), end=True)
        assert caller.answer(stream).code == 4
        eventually(lambda: served.sidecar.sidecar.data_plane.calls_in_flight == 0, "it runs no more")
        eventually(lambda: served.ended(name, "DEADLINE_EXCEEDED") == before + 1, "it is counted")


@pytest.mark.parametrize("timeout", [b"0n", b"1n", b"0S"])
def test_a_deadline_that_has_passed_already(served: Served, timeout: bytes) -> None:
    """Nothing is run for it."""
    with served.caller() as caller:
        for path in (PREDICT, STREAM):
            assert caller.answer(caller.call(question(), path, [(b"grpc-timeout", timeout)])).code == 4


@pytest.mark.parametrize("timeout", [b"99999999H", b"1H", b"99999999S", b"60000m"])
def test_a_deadline_far_away(served: Served, timeout: bytes) -> None:
    """The call is answered, be it thousands of years, and no timer is left of it."""
    with served.caller() as caller:
        for path in (PREDICT, STREAM):
            assert caller.answer(caller.call(question(), path, [(b"grpc-timeout", timeout)])).code == 0
    loop = served.sidecar._loop
    assert not [
        timer for timer in loop._scheduled if timer.when() > loop.time() + 1800 and not timer.cancelled()
    ]


def test_a_half_closed_stream_gets_the_rest_of_its_answers(served: Served) -> None:
    """Who says that he asks no more is answered what he asked, then told how it ended."""
    with served.caller() as caller:
        stream = caller.open(STREAM)
        caller.send(stream, framed(question("loops", value=100_000.0)) + framed(question()), end=True)
        answer = caller.answer(stream)
        assert (answer.code, len(answer.messages), answer.reset) == (0, 2, None)


def test_an_empty_stream_is_answered_by_its_end(served: Served) -> None:
    """Who opens a stream and asks nothing is told that it ended well, however he ends it."""
    with served.caller() as caller:
        assert caller.answer(caller.open(STREAM, end=True)).code == 0
        stream = caller.open(STREAM)
        caller.send(stream, b"", end=True)
        assert caller.answer(stream).code == 0


@pytest.mark.parametrize("path", [PREDICT, STREAM])
def test_trailers_of_the_caller_end_his_side(served: Served, path: str) -> None:
    """They are no part of gRPC's requests, and no harm."""
    with served.caller() as caller:
        stream = caller.open(path)
        caller.raw(frame(DATA, 0, stream, framed(question())))
        trailers = header_block([(b"note", b"done")])
        caller.raw(frame(HEADERS, END_HEADERS | END_STREAM, stream, trailers))
        caller.until(lambda: stream in caller.trailers, "the status")
        assert caller.trailers[stream][b"grpc-status"] == b"0"
        assert scores(caller.messages(stream)[0]) == [6.0]
        assert stream not in caller.resets


def test_data_on_a_stream_that_has_ended_harms_nothing(served: Served) -> None:
    """What still comes after a refusal is thrown away, and given back to the window of the connection."""
    with served.caller() as caller:
        caller.greeted()  # until then the windows are the small ones that HTTP/2 begins with
        for _ in range(40):
            stream = caller.open("/no/Such")
            caller.raw(*(frame(DATA, 0, stream, bytes(16_000)) for _ in range(60)))
            assert caller.answer(stream).code == 12
        assert caller.answer(caller.call(question())).code == 0


def test_priorities_and_frames_of_unknown_kinds_are_passed_over(served: Served) -> None:
    """Between any two frames of a call they change nothing."""
    with served.caller() as caller:
        stream = caller.open(STREAM)
        for piece in (framed(question(id="1")), framed(question(id="2"))):
            caller.raw(
                frame(PRIORITY, 0, stream, bytes((0, 0, 0, 0, 16))),
                frame(0xBE, 0xFF, stream, b"what is this"),
                frame(0xEF, 0, 0, b""),
            )
            caller.send(stream, piece)
        caller.send(stream, b"", end=True)
        answer = caller.answer(stream)
        ids = [wire.PredictResponse.FromString(each).id for each in answer.messages]
        assert sorted(ids) == ["1", "2"]  # whichever is done first


@pytest.mark.parametrize(
    "frames",
    [
        frame(DATA, 0, 0, b"x"),
        frame(DATA, 0, 1001, b"x"),
        frame(HEADERS, END_HEADERS, 2, header_block(headers_of(PREDICT))),
        frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff\xff\xff"),
        frame(RST_STREAM, 0, 0, bytes(4)),
        frame(RST_STREAM, 0, 1, bytes(3)),
        frame(4, 0, 0, bytes(5)),
        frame(4, 0, 1, b""),
        frame(6, 0, 0, bytes(7)),
        frame(8, 0, 0, bytes(4)),
        frame(9, END_HEADERS, 1, b""),
        frame(5, END_HEADERS, 1, bytes(4)),
        b"\xff\xff\xff\0\0\0\0\0\1",
    ],
    ids=[
        *("data on 0", "data on idle", "even stream", "no hpack", "reset of 0", "short reset"),
        *("odd settings", "settings on 1", "short ping", "window of 0", "continuation of none", "push"),
        "long",
    ],
)
def test_an_error_of_a_connection_harms_no_other(served: Served, frames: bytes) -> None:
    """What HTTP/2 forbids ends the connection that it came on, with its calls, and none beside it."""
    with served.caller() as other, served.caller() as caller:
        beside = other.open(STREAM)
        caller.greeted()
        caller.call(question("loops", value=ENDLESS))
        eventually(lambda: served.in_flight == 2, "both run")
        caller.raw(frames)
        caller.until_gone()
        assert [code for _, code, _ in caller.goaways if code]
        eventually(lambda: served.in_flight == 1, "his call is cancelled")
        other.send(beside, framed(question()), end=True)
        assert other.answer(beside).code == 0


def test_a_caller_who_ends_his_side_of_the_socket_has_left(served: Served) -> None:
    """His calls are cancelled: over HTTP/2 nobody half-closes a connection that he still wants."""
    with served.caller() as caller:
        caller.call(question("loops", value=ENDLESS))
        eventually(lambda: served.in_flight == 1, "it runs")
        with contextlib.suppress(OSError):
            caller.socket.shutdown(1)
        caller.until_gone()
        eventually(lambda: served.in_flight == 0, "it is cancelled")
