"""The local transport against servers that do what they may, and what they may not."""

import contextlib
import struct
import threading
import time
from collections.abc import Callable, Iterator

import grpc
import ngh2
import numpy as np
import psutil
import pytest
from odd_server import HEADERS, OK, OddConnection, OddServer
from sidecars import eventually
from tickserve.v1 import predictor_pb2 as pb

from strategy_client.events import Reason
from strategy_client.predictor.backoff import BackoffOptions
from strategy_client.predictor.breaker import BreakerOptions
from strategy_client.predictor.channel import MAX_MESSAGE_BYTES
from strategy_client.predictor.client import InferenceClient
from strategy_client.predictor.connection import ConnectionOptions
from strategy_client.predictor.h2.stub import SocketStub
from strategy_client.predictor.port import Answer, Question, Refusal

CODE = grpc.StatusCode
PATIENT_S = 20.0
PATIENT_NS = int(PATIENT_S * 1e9)
QUICK = ConnectionOptions(BreakerOptions(10**6, 10**6), BackoffOptions(first_ms=1, longest_ms=5))
ANSWER = pb.PredictResponse(id="an answer", parts=[pb.PartResult(model="m", version=7)])
ANSWERED = ANSWER.SerializeToString()
FRAMED = struct.pack(">BI", 0, len(ANSWERED)) + ANSWERED
QUESTION = Question("m", np.ones((1, 1), np.float32))

Step = Callable[[OddConnection, int], None]


def ask(step: Step, settings: dict[int, int] | None = None, timeout_s: float = PATIENT_S) -> object:
    """Ask a server that greets, waits for a call and does a step; return the answer, or code and details."""

    def script(connection: OddConnection) -> None:
        connection.greet(settings)
        stream_id, _, _ = connection.request()
        step(connection, stream_id)
        connection.flush()
        connection.linger()

    with OddServer(script) as server:
        stub = SocketStub(server.target, tuple)
        try:
            return stub.predict(b"a question", [QUESTION], timeout_s)
        except grpc.RpcError as error:
            return error.code(), error.details()
        finally:
            stub.close()


def pieces(connection: OddConnection, stream_id: int) -> None:
    """Answer byte by byte, each in a DATA of its own."""
    connection.http.send_response(stream_id, HEADERS)
    connection.flush()
    for byte in FRAMED:
        connection.http.send_data(stream_id, bytes([byte]))
        connection.flush()
    connection.http.send_trailers(stream_id, OK)


def news(connection: OddConnection, stream_id: int) -> None:
    """Answer between a PING, other settings, a window's growth, an early response and a long header."""
    connection.http.ping(b"12345678")
    connection.http.send_informational_response(stream_id, [(b":status", b"103")])
    connection.http.update_settings({ngh2.Setting.INITIAL_WINDOW_SIZE: 1_000})
    connection.http.send_response(stream_id, [*HEADERS, (b"x", b"y" * 30_000)])  # in CONTINUATION
    connection.flush()
    while not connection.pongs:
        connection.read()
    connection.http.send_data(stream_id, FRAMED)
    connection.http.send_trailers(stream_id, OK)


@pytest.mark.parametrize(
    "step", [pieces, news, lambda c, s: c.answer(s, ANSWERED)], ids=["bytes", "news", "one"]
)
def test_an_answer_comes_however_it_is_sent(step: Step) -> None:
    """Header and data cut anywhere, and whatever HTTP/2 says between them, make the same answer."""
    assert ask(step) == ANSWER


def respond(
    fields: list[tuple[bytes, bytes]], data: bytes = b"", trailers: list[tuple[bytes, bytes]] | None = None
) -> Step:
    """Return a step that sends this; with neither data nor trailers in one block of header fields."""

    def step(connection: OddConnection, stream_id: int) -> None:
        http = connection.http
        http.send_response(stream_id, fields, end_stream=not data and trailers is None)
        if data:
            http.send_data(stream_id, data, end_stream=trailers is None)
        if trailers is not None:
            http.send_trailers(stream_id, trailers)

    return step


def status(number: bytes, text: bytes) -> list[tuple[bytes, bytes]]:
    """Return the fields of an ending."""
    return [(b"grpc-status", number), (b"grpc-message", text)]


HTML = [(b":status", b"200"), (b"content-type", b"text/html")]


@pytest.mark.parametrize(
    ("step", "code", "told"),
    [
        (respond([*HEADERS, *status(b"5", b"no %22m%22")]), CODE.NOT_FOUND, 'no "m"'),
        (respond([*HEADERS, (b"grpc-status", b"0")]), CODE.INTERNAL, "0 messages came"),
        (respond(HEADERS, FRAMED * 2, OK), CODE.INTERNAL, "2 messages came"),
        (respond(HEADERS, FRAMED[:-1], OK), CODE.INTERNAL, "within a message"),
        (respond(HEADERS, FRAMED), CODE.UNKNOWN, "without a grpc-status"),
        (respond(HEADERS), CODE.UNKNOWN, "without a grpc-status"),
        (respond(HEADERS, FRAMED, [(b"grpc-status", b"14")]), CODE.UNAVAILABLE, ""),
        (respond(HEADERS, b"\x01" + FRAMED[1:], OK), CODE.INTERNAL, "compressed"),
        (respond(HEADERS, b"\0\0\0\0\x01\xff", OK), CODE.INTERNAL, "not of this method"),
        (
            respond(HEADERS, struct.pack(">BI", 0, MAX_MESSAGE_BYTES + 1)),
            CODE.RESOURCE_EXHAUSTED,
            f"at most {MAX_MESSAGE_BYTES}",
        ),
        (respond(HTML, b"<p>", []), CODE.UNKNOWN, "text/html"),
        (respond([(b":status", b"404")], b"<p>", []), CODE.UNIMPLEMENTED, "404"),
        (respond([(b":status", b"503")]), CODE.UNAVAILABLE, "503"),
        (respond([(b":status", b"500")]), CODE.UNKNOWN, "500"),
    ],
)  # fmt: skip
def test_each_wrong_answer_has_its_code(step: Step, code: grpc.StatusCode, told: str) -> None:
    """What is no answer to this call ends it, with a code and in words."""
    came = ask(step)
    assert isinstance(came, tuple), came
    assert came[0] is code
    assert told in came[1]


@pytest.mark.parametrize(
    ("error", "code"),
    [(number, CODE.INTERNAL) for number in (0, 1, 2, 3, 4, 5, 6, 9, 10, 13)]
    + [
        (7, CODE.UNAVAILABLE),
        (8, CODE.CANCELLED),
        (11, CODE.RESOURCE_EXHAUSTED),
        (12, CODE.PERMISSION_DENIED),
    ],
)
def test_a_reset_has_its_code(error: int, code: grpc.StatusCode) -> None:
    """RST_STREAM ends a call at once, long before its deadline."""

    def refuse(connection: OddConnection, stream_id: int) -> None:
        connection.http.reset_stream(stream_id, error)
        if error == 7:
            # What was refused is asked once more.
            connection.flush()
            connection.http.reset_stream(connection.request()[0], error)

    came = ask(refuse)
    assert isinstance(came, tuple), came
    assert came[0] is code


def test_what_the_server_did_not_look_at_is_asked_once_more() -> None:
    """A refused stream is asked again by itself: it is certain that nothing came of it."""

    def refuse_first(connection: OddConnection, stream_id: int) -> None:
        connection.http.reset_stream(stream_id, 7)
        connection.flush()
        connection.answer(connection.request()[0], ANSWERED)

    assert ask(refuse_first) == ANSWER


def test_a_call_out_of_time_is_reset() -> None:
    """A deadline that passes is DEADLINE_EXCEEDED here and RST_STREAM CANCEL there, after grpc-timeout."""
    seen: list[object] = []

    def script(connection: OddConnection) -> None:
        connection.greet()
        _, _, fields = connection.request()
        seen.append(fields[b"grpc-timeout"])
        while not connection.resets:
            connection.read()
        seen.extend(connection.resets)
        connection.linger()

    with OddServer(script) as server:
        stub = SocketStub(server.target, tuple)
        began_s = time.monotonic()
        with pytest.raises(grpc.RpcError) as raised:
            stub.predict(b"", [QUESTION], 0.05)
        assert 0.05 <= time.monotonic() - began_s < PATIENT_S / 2
        assert raised.value.code() is CODE.DEADLINE_EXCEEDED  # type: ignore[attr-defined] grpc's own have it
        eventually(lambda: len(seen) == 2, "the server hears of it")
        stub.close()
    assert seen[1] == (1, 8)
    assert isinstance(seen[0], bytes)
    assert seen[0].endswith(b"n")


def test_a_call_says_its_timeout_in_whole_milliseconds() -> None:
    """So that it is the same text in each call, and never less than is left."""
    seen: list[bytes] = []

    def script(connection: OddConnection) -> None:
        connection.greet()
        for _ in range(3):
            stream_id, _, fields = connection.request()
            seen.append(fields[b"grpc-timeout"])
            connection.answer(stream_id, ANSWERED)
        connection.linger()

    with OddServer(script) as server:
        stub = SocketStub(server.target, tuple)
        for _ in range(3):
            assert stub.predict(b"a question", [QUESTION], PATIENT_S) == ANSWER
        stub.close()
    assert [text[-4:] for text in seen] == [b"000u"] * 3


def go_away_in_error(connection: OddConnection) -> None:
    """Say that the client broke the protocol, and close."""
    connection.greet()
    connection.request()
    connection.http.terminate_connection(1)
    connection.flush()
    connection.socket.shutdown(2)


@pytest.mark.parametrize(
    "talk",
    [
        lambda connection: connection.socket.sendall(bytes(range(256)) * 64),
        lambda connection: connection.socket.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        lambda connection: None,
        lambda connection: (connection.greet(), connection.socket.shutdown(1), connection.linger()),
        go_away_in_error,
    ],
    ids=["noise", "another protocol", "closes", "half-closed", "goes away with an error"],
)  # fmt: skip
def test_a_connection_that_breaks_is_unavailable(talk: Callable[[OddConnection], object]) -> None:
    """What breaks the connection ends the call UNAVAILABLE, at once, and is told in words."""
    with OddServer(lambda connection: (talk(connection), connection.linger())[-1]) as server:
        stub = SocketStub(server.target, tuple)
        with pytest.raises(grpc.RpcError) as raised:
            stub.predict(b"", [QUESTION], PATIENT_S)
        stub.close()
    assert raised.value.code() is CODE.UNAVAILABLE  # type: ignore[attr-defined] grpc's own have it
    assert raised.value.details()  # type: ignore[attr-defined] likewise


@pytest.mark.parametrize("window", [1, 1_000, 65_535])
def test_a_large_question_goes_through_a_small_window(window: int) -> None:
    """What the peer's window does not take is sent as it grows."""
    body = bytes(300_000 if window > 1 else 100)
    heard: list[bytes] = []

    def answer(connection: OddConnection, stream_id: int) -> None:
        heard.append(connection.message(stream_id))
        connection.answer(stream_id, ANSWERED)

    def script(connection: OddConnection) -> None:
        connection.greet({ngh2.Setting.INITIAL_WINDOW_SIZE: window})
        answer(connection, connection.request()[0])
        connection.linger()

    with OddServer(script) as server:
        stub = SocketStub(server.target, tuple)
        assert stub.predict(body, [QUESTION], PATIENT_S) == ANSWER
        stub.close()
    assert heard == [body]


def answer_stream(connection: OddConnection, stream_id: int, request_id: str, *, first: bool) -> None:
    """Answer one question of a stream with nothing in it."""
    message = pb.PredictResponse(id=request_id, parts=[pb.PartResult(model="m")]).SerializeToString()
    if first:
        connection.http.send_response(stream_id, HEADERS)
    connection.http.send_data(stream_id, struct.pack(">BI", 0, len(message)) + message)
    connection.flush()


def reason(answer: Answer) -> Reason | None:
    """Return why there is no answer."""
    return answer.reason if isinstance(answer, Refusal) else None


@pytest.fixture
def threads_and_files() -> Iterator[None]:
    """Hold a test to leaving no thread and no descriptor."""
    before = psutil.Process().num_fds()
    yield
    eventually(lambda: psutil.Process().num_fds() <= before, "every descriptor is closed")


@pytest.mark.usefixtures("threads_and_files")
def test_going_away_loses_no_tick() -> None:
    """GOAWAY in the middle: the stream under way answers until another stands, and no question fails."""
    told = threading.Event()
    left: list[int] = []

    def script(connection: OddConnection) -> None:
        connection.greet()
        stream_id = connection.describe()
        first = True
        with contextlib.suppress(EOFError):
            while True:
                request = pb.PredictRequest.FromString(connection.message(stream_id))
                answer_stream(connection, stream_id, request.id, first=first)
                if first and connection.number == 1:
                    connection.http.send_goaway(0, last_stream_id=stream_id)
                    connection.flush()
                    told.set()
                first = False
        left.append(connection.number)

    with OddServer(script) as server, InferenceClient(server.target, QUICK, transport="h2") as client:
        assert client.wait_connected(PATIENT_S)
        came = [client.submit([QUESTION], time.monotonic_ns() + PATIENT_NS).result() for _ in range(2)]
        assert told.is_set()
        eventually(lambda: left, "the stream is left by the client, not by the server")
        eventually(lambda: client.counts.streams == 2, "another stream stands")
        came += [client.submit([QUESTION], time.monotonic_ns() + PATIENT_NS).result() for _ in range(20)]
        assert [reason(answer) for (answer,) in came] == [None] * 22
        assert (client.counts.failed, client.connected, server.accepted) == (0, True, 2)


def test_a_stream_refused_as_a_whole_is_a_connection_that_is_not() -> None:
    """A server that answers the stream with a status alone is seen to, without a question, and told of."""

    def script(connection: OddConnection) -> None:
        connection.greet()
        while True:
            stream_id = connection.describe()
            connection.http.send_response(
                stream_id,
                [*HEADERS, (b"grpc-status", b"12"), (b"grpc-message", b"no streams")],
                end_stream=True,
            )
            connection.flush()

    with OddServer(script) as server, InferenceClient(server.target, QUICK, transport="h2") as client:
        eventually(lambda: "UNIMPLEMENTED no streams" in client.cause, "it is told")


def test_a_peer_that_reads_nothing_holds_no_submit_up() -> None:
    """Questions to a peer that never reads are sent, kept, and refused at the bound; none of them waits."""
    done = threading.Event()

    def script(connection: OddConnection) -> None:
        connection.greet()
        connection.describe()
        done.wait(PATIENT_S)

    large = Question("m", np.zeros((1, 20_000), np.float32))
    with OddServer(script) as server, InferenceClient(server.target, QUICK, transport="h2") as client:
        assert client.wait_connected(PATIENT_S)
        began_s = time.monotonic()
        deadline_ns = time.monotonic_ns() + PATIENT_NS
        pending = [client.submit([large], deadline_ns) for _ in range(1_100)]
        assert time.monotonic() - began_s < PATIENT_S / 2
        (refused,) = pending[-1].result()
        assert isinstance(refused, Refusal)
        assert "wait to be sent already" in refused.detail
        client.close()
        assert {reason(each.result()[0]) for each in pending} == {Reason.UNAVAILABLE}
        done.set()


def test_the_reader_sends_what_another_thread_could_not() -> None:
    """A question that the socket does not take at once goes on its way while another thread waits there."""
    held: list[str] = []
    heard = threading.Event()

    def script(connection: OddConnection) -> None:
        connection.http.initiate_connection({ngh2.Setting.INITIAL_WINDOW_SIZE: 2**26})
        connection.http.set_local_window_size(2**26)
        connection.flush()
        stream_id = connection.describe()
        held.append(pb.PredictRequest.FromString(connection.message(stream_id)).id)
        heard.set()
        large_id = pb.PredictRequest.FromString(connection.message(stream_id)).id
        answer_stream(connection, stream_id, large_id, first=True)
        answer_stream(connection, stream_id, held[0], first=False)
        connection.linger()

    large = Question("m", np.zeros((1, 2_000_000), np.float32))
    with OddServer(script) as server, InferenceClient(server.target, QUICK, transport="h2") as client:
        assert client.wait_connected(PATIENT_S)
        first = client.submit([QUESTION], time.monotonic_ns() + PATIENT_NS)
        came: list[Answer] = []
        reader = threading.Thread(target=lambda: came.extend(first.result()))
        reader.start()
        assert heard.wait(PATIENT_S)
        came.extend(client.submit([large], time.monotonic_ns() + PATIENT_NS).result())
        reader.join(PATIENT_S)
    assert [reason(answer) for answer in came] == [None, None]


def test_a_question_nobody_waits_for_any_more_is_not_sent() -> None:
    """E1: what waits behind a full window and is out of time then never leaves."""
    heard: list[str] = []
    go = threading.Event()

    def script(connection: OddConnection) -> None:
        connection.greet({ngh2.Setting.INITIAL_WINDOW_SIZE: 100})
        stream_id = connection.describe()
        assert go.wait(PATIENT_S)
        while True:
            request = pb.PredictRequest.FromString(connection.message(stream_id))
            heard.append(request.id)
            answer_stream(connection, stream_id, request.id, first=len(heard) == 1)

    large = Question("m", np.zeros((1, 2_000), np.float32))
    with OddServer(script) as server, InferenceClient(server.target, QUICK, transport="h2") as client:
        assert client.wait_connected(PATIENT_S)
        first = client.submit([large], time.monotonic_ns() + PATIENT_NS)
        second = client.submit([large], time.monotonic_ns() + 10**7)
        third = client.submit([large], time.monotonic_ns() + PATIENT_NS)
        assert reason(second.result()[0]) is Reason.DEADLINE_EXCEEDED
        go.set()
        assert [reason(each.result()[0]) for each in (first, third)] == [None, None]
    assert heard == [first.request_id, third.request_id]


def test_an_idle_connection_answers_a_ping() -> None:
    """Nobody asks, and the peer still hears that the client lives."""

    def script(connection: OddConnection) -> None:
        connection.greet()
        connection.answer(connection.describe(), b"", trailers=False)
        connection.http.ping(b"are you?")
        connection.flush()
        while not connection.pongs:
            connection.read()
        ponged.set()
        connection.linger()

    ponged = threading.Event()
    with OddServer(script) as server, InferenceClient(server.target, QUICK, transport="h2") as client:
        assert client.wait_connected(PATIENT_S)
        assert ponged.wait(PATIENT_S)
