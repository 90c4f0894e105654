"""How connections end: by the server's wish, by the caller's, in silence, and before they began."""

import contextlib
import signal
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import ngh2
import pytest
from h2_served import Served, question, scores
from sidecars import eventually, process_sidecar, thread_sidecar
from wire_caller import (
    GOAWAY,
    PATIENCE_S,
    PING,
    PREDICT,
    PREFACE,
    SETTINGS,
    STREAM,
    WireCaller,
    frame,
    framed,
)

from inference_server.rpc.listener import ListenerOptions

Serve = Callable[..., AbstractContextManager[Served]]
WATCH = "/grpc.health.v1.Health/Watch"
WINDOW = ngh2.Setting.INITIAL_WINDOW_SIZE
UNAVAILABLE = 14
# About a second of the model's turns.
SLOW = 200_000.0


def test_a_server_that_is_told_to_stop_answers_what_it_began(
    wire_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GOAWAY to each caller; calls in flight are answered, streams end well, new calls are not processed."""
    monkeypatch.setenv("TICKSERVE_LIMITS__DRAIN_TIMEOUT_S", str(PATIENCE_S))  # the machine may be busy
    with process_sidecar(wire_models) as sidecar:
        with (
            WireCaller(sidecar.target) as idle,
            WireCaller(sidecar.target) as busy,
            WireCaller(sidecar.target, {WINDOW: 100}, auto_window_update=False) as slow,
        ):
            idle.greeted()
            large = slow.call(question(rows=20_000))
            slow.until(lambda: slow.data.get(large), "the answer begins")
            running = busy.call(question("loops", value=SLOW))
            stream = busy.open(STREAM)
            busy.send(stream, framed(question(id="1")))
            busy.until(lambda: busy.messages(stream), "its first answer")
            busy.send(stream, framed(question("loops", value=SLOW)))
            watch = busy.call(b"", WATCH)
            busy.until(lambda: busy.messages(watch), "the first status")
            half = busy.open(PREDICT)
            busy.send(half, framed(question())[:-1])
            sidecar.process.send_signal(signal.SIGTERM)
            idle.until_gone()
            assert [code for _, code, _ in idle.goaways] == [0] * len(idle.goaways)
            assert idle.goaways
            busy.until(lambda: busy.goaways, "the notice")
            assert busy.goaways[0][0] == (1 << 31) - 1
            assert busy.answer(running).code == 0
            ended = busy.answer(stream)
            assert (ended.code, len(ended.messages)) == (0, 2)
            assert [message[-1] for message in busy.answer(watch).messages] == [1, 2]
            busy.send(half, framed(question())[-1:], end=True)
            assert busy.answer(half).code == 0
            busy.until_gone()
            assert busy.goaways[-1][:2] == (half, 0)
            for window in (0, large):
                slow.http.set_local_window_size(1 << 30, stream_id=window)
            slow.flush()
            assert scores(slow.answer(large).messages[0]) == [6.0] * 20_000
            slow.until_gone()
            assert sidecar.process.wait(PATIENCE_S) == 0
        assert not Path(sidecar.target.removeprefix("unix:")).exists()


def test_a_call_after_the_notice_is_refused(serve: Serve) -> None:
    """Who asks while others are waited for is told UNAVAILABLE, and may ask elsewhere; nothing was done."""
    with serve() as served, served.caller() as caller:
        caller.greeted()
        stream = caller.open(PREDICT)
        caller.send(stream, framed(question())[:-1])
        [connection] = served.connections
        eventually(lambda: connection._streams, "the call is there")
        served.sidecar.call_soon(connection.drain)
        eventually(lambda: connection._draining, "it drains")
        late = caller.call(question())
        caller.send(stream, framed(question())[-1:], end=True)
        assert caller.answer(stream).code == 0
        assert caller.answer(late).code == UNAVAILABLE
        caller.until_gone()
        assert caller.goaways == [((1 << 31) - 1, 0, b""), (late, 0, b"")]
        assert served.ended("Predict", "OK") == 1


def test_what_does_not_end_in_time_is_cut_off(wire_models: Path) -> None:
    """A server that stops waits only as long as it is told for a caller who never reads his answer."""
    options = ListenerOptions(drain_timeout_s=0.2)
    with contextlib.ExitStack() as stack:
        with thread_sidecar(wire_models, listener=options) as sidecar:
            caller = stack.enter_context(WireCaller(sidecar.tcp, {WINDOW: 0}, auto_window_update=False))
            stream = caller.call(question(rows=1000))
            caller.until(lambda: stream in caller.headers, "the answer begins")
        caller.until_gone()
        assert stream not in caller.closed


def test_a_caller_who_goes_away_in_order_gets_his_answers(served: Served) -> None:
    """After his GOAWAY the calls under way are answered, and then the connection is closed."""
    with served.caller() as caller:
        caller.greeted()
        stream = caller.call(question("loops", value=SLOW))
        asking = caller.open(STREAM)
        caller.raw(frame(GOAWAY, 0, 0, bytes(8)))
        caller.send(asking, framed(question()), end=True)
        assert caller.answer(stream).code == 0
        assert caller.answer(asking).code == 0
        caller.until_gone()


def test_a_silent_caller_is_asked_for_a_sign_of_life(serve: Serve) -> None:
    """Who answers stays, with a call under way or without; who does not is cut off, and his calls end."""
    options = ListenerOptions(keepalive_s=0.2, keepalive_timeout_s=2.0)
    with serve(listener=options) as served, served.caller() as alive, served.caller() as dead:
        stream = alive.open(STREAM)
        dead.greeted()
        dead.send(dead.open(STREAM), framed(question("loops", value=2.0**62)))
        while not dead.gone:  # whose pings come, and are not answered
            dead.http.data_to_send()
            piece = dead.socket.recv(1 << 16)
            dead.gone = not piece
            alive.until(lambda before=alive.pings: alive.pings > before, "asked again")
        assert alive.pings >= 2
        eventually(lambda: served.in_flight == 1, "his call is cancelled")
        alive.send(stream, framed(question()), end=True)
        assert alive.answer(stream).code == 0


def test_a_caller_who_asks_for_a_sign_of_life_gets_it(served: Served) -> None:
    """By the same eight bytes, also where a call is under way."""
    with served.caller() as caller:
        caller.greeted()
        caller.open(STREAM)
        caller.http.ping(b"eightofs")
        caller.flush()
        caller.until(lambda: caller.pongs, "the answer")


@pytest.mark.parametrize("opening", [b"", PREFACE[:10], PREFACE, PREFACE + frame(SETTINGS, 0, 0)[:5]])
def test_who_begins_and_falls_silent_is_cut_off(serve: Serve, opening: bytes) -> None:
    """Nothing, half a preface, a preface alone or half a frame: each is ended when its time is over."""
    options = ListenerOptions(keepalive_s=0.2, keepalive_timeout_s=0.3)
    with serve(listener=options) as served, WireCaller(served.sidecar.tcp, greet=False) as caller:
        caller.raw(opening)
        while caller.socket.recv(1 << 16):
            pass


@pytest.mark.parametrize(
    "opening",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /tickserve.v1.Predictor/Predict HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\n"
        b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\nContent-Length: 0\r\n\r\n",
        bytes.fromhex("16030100c2010000be0303") + bytes(200),
        PREFACE[:-2] + b"XX",
        PREFACE + frame(PING, 0, 0, bytes(8)),
        bytes(100),
    ],
    ids=["HTTP/1.1", "upgrade", "TLS", "preface", "no settings", "zeros"],
)
def test_what_is_no_http2_is_ended_at_once(served: Served, opening: bytes) -> None:
    """The connection ends with a PROTOCOL_ERROR that says so, nobody waits for more, and others go on."""
    with served.caller() as other, WireCaller(served.sidecar.tcp, greet=False) as caller:
        beside = other.open(STREAM)
        caller.raw(opening)
        came = b""
        try:
            while piece := caller.socket.recv(1 << 16):
                came += piece
        except ConnectionResetError:
            pass
        assert errors(came) == [ngh2.ErrorCode.PROTOCOL_ERROR]
        other.send(beside, framed(question()), end=True)
        assert other.answer(beside).code == 0


def errors(came: bytes) -> list[int]:
    """The error codes of the GOAWAY frames in what came."""
    codes = []
    while came:
        length = int.from_bytes(came[:3], "big")
        if came[3] == GOAWAY:
            codes.append(int.from_bytes(came[13:17], "big"))
        came = came[9 + length :]
    return codes


def test_connections_that_come_and_go_leave_nothing(served: Served) -> None:
    """Hundreds at once, each cut at another point of its opening."""
    opening = PREFACE + frame(SETTINGS, 0, 0) + frame(PING, 0, 0, bytes(8))
    callers = [WireCaller(served.sidecar.tcp, greet=False) for _ in range(200)]
    for number, caller in enumerate(callers):
        caller.raw(opening[: number % (len(opening) + 1)])
    for caller in callers[::2]:
        linger = (1).to_bytes(4, "little") + bytes(4)
        caller.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)  # so that it is a reset
    for caller in callers:
        caller.socket.close()
