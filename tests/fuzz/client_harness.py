"""The client's own transport, driven by an arbitrary server, and what must hold of it whatever comes.

Its calls go over a real socket; where a caller would sleep, the server's script goes on instead, and once
that is over the deadline has come. A call ends, with its answer or with an error of the client's own; an
answer is one that the server sent on the stream of that question; nothing is left of a connection that was
closed.
"""

import contextlib
import re
import socket
import struct
import time
from typing import Any, Self

import grpc
import ngh2
import numpy as np
import wire_frames as h2
from fuzz.choices import Choices
from google.protobuf.message import DecodeError
from tickserve.v1 import predictor_pb2 as wire

from strategy_client.predictor.h2.channel import Channel, UnaryCall
from strategy_client.predictor.h2.exchange import CallError
from strategy_client.predictor.h2.reader_wait import ReaderWait
from strategy_client.predictor.h2.session import SocketSession
from strategy_client.predictor.h2.socket_connection import SocketConnection
from strategy_client.predictor.h2.wire import LostConnectionError
from strategy_client.predictor.port import Question

MAX_STEPS = 40
FAR_S = 10_000.0
PATH = b"/tickserve.v1.Predictor/Predict"
RESPONSE = ((b":status", b"200"), (b"content-type", b"application/grpc"))
ANSWER = re.compile(r"(\d+)/(.*)")


class _Wait(ReaderWait):
    """Goes on in the server's script where a thread would wait for the socket."""

    def __init__(self, connected: socket.socket, server: "_Server") -> None:
        super().__init__(connected)
        self._server = server

    def sleep(self, deadline_ns: int, *, sends: bool) -> bool:
        del deadline_ns, sends
        self._alarm.silence()
        return self._server.step()


class _Place:
    """Connects to a server that lives in this thread."""

    authority = b"localhost"
    target = "unix:/fuzz"

    def __init__(self, server: "_Server") -> None:
        self._server = server

    def connect(self, _: int) -> SocketConnection:
        """Return a connection to it."""
        ours, theirs = socket.socketpair()
        self._server.accept(theirs)
        connection = SocketConnection(ours)
        connection._wait.close()
        connection._wait = _Wait(ours, self._server)
        self._server.connections.append(connection)
        return connection


class _Pending:
    """A question on a stream: settled at most once, and by an answer to it."""

    deadline_ns = time.monotonic_ns() + int(FAR_S * 1e9)
    questions = (Question("m", np.ones((1, 1), np.float32)),)

    def __init__(self, request_id: str) -> None:
        self.request_id = request_id
        self.came = False

    def settle(self, response: Any, cause: str = "") -> None:
        assert not self.came, f"settled twice: {self.request_id}"
        assert response is not None or cause
        assert response is None or response.id == self.request_id, (response, self.request_id)
        self.came = True


class _Verdicts:
    """Counts answers to nobody."""

    def __init__(self) -> None:
        self.lates = 0

    def late(self) -> None:
        self.lates += 1


class _Server:
    """Sends what the choices say, on sockets that it does not read but for the check at the end."""

    def __init__(self, choices: Choices) -> None:
        self._choices = choices
        self._sockets: list[socket.socket] = []
        self._read: list[bytearray] = []
        self._sent = 0
        self._settings: list[int] = []
        self.connections: list[SocketConnection] = []
        self._asked: list[str] = []
        self.honest = True

    def accept(self, accepted: socket.socket) -> None:
        """Take a connection, and greet or not."""
        accepted.setblocking(False)  # noqa: FBT003 - the system's
        self._sockets.append(accepted)
        self._read.append(bytearray())
        self._settings.append(0)
        if self._choices.byte() % 8 != 1:
            self._send(h2.settings())
            self._settings[-1] += 1

    def asked(self, request_id: str) -> None:
        """Take note of an id that answers may name."""
        self._asked.append(request_id)

    def step(self) -> bool:
        """Do the next thing; False when the script is over."""
        if not self._choices or self._sent >= MAX_STEPS:
            return False
        self._sent += 1
        self._take()
        for piece in self._choices.cut(self._next()):
            self._send(piece)
        if self._choices.byte() % 16 == 1:
            self._sockets[-1].close()
        return True

    def close(self) -> None:
        """Close all, and check that what the client wrote is HTTP/2."""
        for connected, taken, settings in zip(self._sockets, self._read, self._settings, strict=True):
            with contextlib.suppress(OSError):
                while piece := connected.recv(1 << 20):
                    taken.extend(piece)
            connected.close()
            _check_written(bytes(taken), settings)

    def _take(self) -> None:
        with contextlib.suppress(OSError):
            self._read[-1] += self._sockets[-1].recv(1 << 20)

    def _send(self, raw: bytes) -> None:
        with contextlib.suppress(OSError):
            self._sockets[-1].send(raw)

    def _next(self) -> bytes:  # noqa: C901, PLR0911 - a line for each thing that a server may say
        choices = self._choices
        number = choices.one((1, 3, 1, 3, 5, 7, 2, 9))
        kind = choices.below(16)
        if kind < 3:
            return h2.headers(number, RESPONSE)
        if kind < 7:
            return self._answer(number)
        if kind == 7:
            whole = h2.headers(number, RESPONSE) + self._answer(number)
            return whole + h2.headers(number, [(b"grpc-status", b"0")], end_stream=True)
        if kind == 8:
            status = choices.one((b"0", b"0", b"14", b"99", b"", b"x"))
            fields = [(b"grpc-status", status), (b"grpc-message", choices.some(10))]
            return h2.headers(number, fields, end_stream=choices.byte() % 8 != 1)
        if kind == 9:
            return h2.reset(number, choices.below(15))
        if kind == 10:
            return h2.goaway(choices.one((0, 1, 3, 2**31 - 1)), choices.below(15), choices.some(8))
        if kind == 11:
            self._settings[-1] += 1
            values = (0, 1, 100, 16_384, 70_000, 2**31 - 1)
            return h2.settings([(choices.one((1, 2, 3, 4, 5, 6, 8)), choices.one(values))])
        if kind == 12:
            return (
                h2.window_update(choices.one((0, number)), choices.one((1, 70_000, 2**31 - 1, 0))) + h2.ping()
            )
        if kind == 13:
            fields = [
                *RESPONSE,
                (choices.one((b":status", b"content-type", b"grpc-encoding", b"x")), choices.some(9)),
            ]
            return h2.headers(number, fields, end_stream=choices.flag())
        self.honest = False
        if kind == 14:
            return h2.frame(choices.below(14), choices.byte(), choices.one((0, number)), choices.some(40))
        return choices.some(64)

    def _answer(self, number: int) -> bytes:
        choices = self._choices
        named = choices.one((*self._asked, "nobody"))
        response = wire.PredictResponse(id=f"{number}/{named}" if choices.flag() else named)
        framed = h2.message(response.SerializeToString())
        content = choices.one(
            (framed, framed, framed, framed * 2, framed[:-1], h2.message(b"\xff"), framed[-1:])
        )
        if choices.byte() % 16 == 1:
            content = struct.pack(">BI", choices.below(3), choices.below(1 << 32))
        return h2.data(number, content, end_stream=choices.byte() % 8 == 1)


def _check_written(written: bytes, settings: int) -> None:
    """Read what a client wrote with an independent server; it was cut off anywhere."""
    server = ngh2.Connection(ngh2.Role.SERVER, ngh2.Configuration(auto_window_update=True))
    server.initiate_connection(
        {ngh2.Setting.INITIAL_WINDOW_SIZE: 2**31 - 1, ngh2.Setting.MAX_FRAME_SIZE: 2**24 - 1}
    )
    for _ in range(settings):
        server.update_settings({ngh2.Setting.INITIAL_WINDOW_SIZE: 2**31 - 1})
    server.data_to_send()
    server.receive_data(written)
    numbers = set()
    for event in server.events():
        if isinstance(event, ngh2.RequestReceived):
            assert dict(event.headers)[b":path"] == PATH
            numbers.add(event.stream_id)
        elif isinstance(event, ngh2.DataReceived):
            assert event.stream_id in numbers
        elif isinstance(event, ngh2.StreamClosed):
            assert event.local_error is None, event.local_error


class ClientHarness:
    """Plays cases one after the other; each makes its own connections, and leaves none."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is held."""

    def __call__(self, raw: bytes) -> None:
        """Play a case; raises where something does not hold."""
        choices = Choices(raw)
        server = _Server(choices)
        channel = Channel(_Place(server), lambda: ())  # type: ignore[arg-type]  # all that it asks of a place
        try:
            self._session(choices, channel, server)
            for _ in range(choices.below(3)):
                self._unary(choices, channel, server)
        finally:
            channel.close()
            server.close()
        for connection in server.connections:
            assert connection.cause or connection.leaving, connection
            if connection.cause:
                assert connection._socket.fileno() == -1, "a socket is left open"
                assert not connection._wire._exchanges, "calls are left"
            else:
                connection.close("left with its calls")
                assert connection._socket.fileno() == -1

    @staticmethod
    def _unary(choices: Choices, channel: Channel, server: _Server) -> None:
        call = UnaryCall(channel, PATH, b"x" * choices.one((0, 10, 100_000)), FAR_S, wait_for_ready=False)
        try:
            answer = call.result()
        except CallError as error:
            assert error.code() is not grpc.StatusCode.OK  # noqa: PT017 - any error of the client's own will do
            ended = {grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE}
            assert call.came or error.code() in ended  # noqa: PT017
            return
        assert call._under_way is not None
        number = call._under_way[1].stream_id
        with contextlib.suppress(DecodeError):
            named = ANSWER.fullmatch(wire.PredictResponse.FromString(answer).id)
            assert named is None or int(named[1]) == number, (named, number)

    @staticmethod
    def _session(choices: Choices, channel: Channel, server: _Server) -> None:
        if not choices.flag():
            return
        verdicts = _Verdicts()
        ends: list[str] = []
        try:
            session = SocketSession(
                channel.connection(),
                channel.headers(PATH, None),
                verdicts,
                lambda _, cause: ends.append(cause),
            )
        except LostConnectionError:
            return
        session.start()
        pending = []
        for number in range(choices.below(4)):
            request_id = f"q{number}"
            server.asked(request_id)
            one = _Pending(request_id)
            if not session.send(wire.PredictRequest(id=request_id).SerializeToString(), one):  # type: ignore[arg-type]
                pending.append(one)
                if choices.flag() and not session.wait(one):  # type: ignore[arg-type]
                    assert not one.came
                    session.forget(request_id)
                    pending.remove(one)
            server.step()
            session.look()
        if choices.flag():
            session.retire()
        session.close()
        assert all(one.came for one in pending), "a question is left without an answer or a cause"
        assert len(ends) == 1, ends
        assert not session._unanswered
