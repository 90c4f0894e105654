"""The bounds of the transport, each of them heeded by a real sidecar that goes on serving (D12, D16)."""

import contextlib
import queue
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from onnx_files import score_model
from sidecars import PATIENCE_S, ThreadSidecar, describe, put, stub, thread_sidecar
from tickserve.v1 import predictor_pb2 as wire

from inference_server.rpc.listener import ListenerOptions

ROW = np.array([1, 2, 3], dtype="<f4").tobytes()
QUESTION = wire.PredictRequest(parts=[wire.PredictPart(model="one", rows=1, features=ROW)])
UNBOUNDED = {"max_metadata_size": 64 << 20, "absolute_max_metadata_size": 64 << 20}
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))  # and empty settings
PING, GOAWAY = 6, 7


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of one model."""
    folder = tmp_path_factory.mktemp("models")
    put(folder / "one.onnx", score_model("one"))
    return folder


@contextlib.contextmanager
def channel_to(sidecar: ThreadSidecar, **options: int) -> Iterator[grpc.Channel]:
    """A channel of its own, with these of gRPC's options."""
    said = [(f"grpc.{name}", value) for name, value in options.items()]
    with grpc.insecure_channel(sidecar.tcp, [("grpc.use_local_subchannel_pool", 1), *said]) as channel:
        yield channel


class Stream:
    """An open stream that is asked now and then."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._questions: queue.SimpleQueue[wire.PredictRequest | None] = queue.SimpleQueue()
        self._answers = stub(channel, "PredictStream", wire.PredictResponse, kind="stream_stream")(
            iter(self._questions.get, None)
        )

    def ask(self) -> wire.PredictResponse:
        """Ask, and wait for the answer."""
        self._questions.put(QUESTION)
        answer: wire.PredictResponse = next(self._answers)
        return answer

    def end(self) -> None:
        """Ask no more."""
        self._questions.put(None)
        self._answers.cancel()


@pytest.mark.parametrize("bound", [8 << 10, 64 << 10])
def test_metadata_beyond_the_bound_is_refused(models: Path, bound: int, served_transport: str) -> None:
    """Up to the bound it is answered, beyond it refused; others go on (D16).

    By grpcio the call is refused, be the metadata ever so absurd; by h2 what is several times the bound, or
    64 KiB in one field, ends the connection that it came on.
    """
    refusals = {grpc.StatusCode.RESOURCE_EXHAUSTED}
    options = ListenerOptions(max_metadata_bytes=bound)
    with thread_sidecar(models, listener=options) as sidecar, channel_to(sidecar) as steady:
        ask = stub(steady, "Predict", wire.PredictResponse)
        assert ask(QUESTION, metadata=[("note", "x" * (bound - 1500))], timeout=PATIENCE_S).parts
        for metadata in (
            [("note", "secret" * (bound // 6))],
            [("secret" * (bound // 6), "x")],
            [("note", "secret" * (8 << 20))],
            [(f"secret-{number}", "x" * 100) for number in range(bound // 100)],
            [("note-bin", b"\xff" * (1 << 20))],
        ):
            with (
                channel_to(sidecar, **UNBOUNDED) as channel,
                pytest.raises(grpc.RpcError) as caught,
            ):
                stub(channel, "Predict", wire.PredictResponse)(
                    QUESTION, metadata=metadata, timeout=PATIENCE_S
                )
            assert caught.value.code() in refusals, metadata[0][0]
            if served_transport == "h2":
                refusals.add(grpc.StatusCode.UNAVAILABLE)
            assert ask(QUESTION, timeout=PATIENCE_S).parts


def test_a_message_beyond_the_bound_is_refused(models: Path) -> None:
    """The bound is the one that is configured (D12)."""
    with (
        thread_sidecar(models, listener=ListenerOptions(max_message_bytes=1 << 20)) as sidecar,
        channel_to(sidecar) as channel,
    ):
        ask = stub(channel, "Predict", wire.PredictResponse)
        many = [wire.PredictPart(model="one", rows=80_000, features=ROW * 80_000)]
        assert ask(wire.PredictRequest(parts=many), timeout=PATIENCE_S).parts[0].status.code == 0
        with pytest.raises(grpc.RpcError) as caught:
            ask(wire.PredictRequest(parts=many * 2), timeout=PATIENCE_S)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_streams_beyond_the_bound_wait(models: Path) -> None:
    """The third of two begins when another has ended; another connection is not held up."""
    with (
        thread_sidecar(models, listener=ListenerOptions(max_streams_per_connection=2)) as sidecar,
        channel_to(sidecar) as channel,
        channel_to(sidecar) as other,
    ):
        first, second = Stream(channel), Stream(channel)
        assert first.ask().parts
        assert second.ask().parts
        with pytest.raises(grpc.RpcError) as caught:
            stub(channel, "Predict", wire.PredictResponse)(QUESTION, timeout=0.3)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert describe(other).ready
        second.end()
        assert stub(channel, "Predict", wire.PredictResponse)(QUESTION, timeout=PATIENCE_S).parts
        first.end()


class RawCaller:
    """A caller that speaks HTTP/2 frame by frame, and answers nothing."""

    def __init__(self, sidecar: ThreadSidecar) -> None:
        host, _, port = sidecar.tcp.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), PATIENCE_S)
        self._stream = self._socket.makefile("rb")
        self._socket.sendall(PREFACE)

    def ping(self) -> None:
        """Ask for a sign of life."""
        self._socket.sendall(bytes((0, 0, 8, PING, 0, 0, 0, 0, 0)) + bytes(8))

    def frames(self) -> Iterator[tuple[int, bytes]]:
        """The type and content of each frame that comes, until the connection is closed."""
        while len(head := self._stream.read(9)) == 9:
            yield head[3], self._stream.read(int.from_bytes(head[:3], "big"))

    def close(self) -> None:
        """Hang up."""
        self._stream.close()
        self._socket.close()


def test_a_caller_that_is_gone_is_noticed(models: Path) -> None:
    """Who gives no sign of life when asked is cut off; a stream that is silent but alive is not."""
    # The one that lives has the time to answer, on a machine that is busy.
    options = ListenerOptions(keepalive_s=0.5, keepalive_timeout_s=3.0)
    with (
        thread_sidecar(models, listener=options) as sidecar,
        channel_to(sidecar) as channel,
        contextlib.closing(RawCaller(sidecar)) as dead,
    ):
        alive = Stream(channel)
        assert alive.ask().parts
        assert [content[8:] for kind, content in dead.frames() if kind == GOAWAY] == [b"ping_timeout"]
        assert alive.ask().parts
        alive.end()


def test_who_connects_and_says_nothing_is_cut_off(models: Path) -> None:
    """When the time to begin is over, long before he is asked for a sign of life."""
    # Who does begin has the time for it, on a machine that is busy.
    with thread_sidecar(models, listener=ListenerOptions(handshake_timeout_s=3.0)) as sidecar:
        host, _, port = sidecar.tcp.rpartition(":")
        silent = socket.create_connection((host, int(port)), PATIENCE_S)
        with silent, contextlib.suppress(ConnectionResetError):
            while silent.recv(1 << 16):
                pass
        with channel_to(sidecar) as channel:
            assert describe(channel).ready


@pytest.mark.parametrize(("interval_s", "sent_away"), [(60.0, True), (0.001, False)])
def test_who_pings_too_often_is_sent_away(models: Path, interval_s: float, sent_away: bool) -> None:
    """How often is too often is as configured; who keeps to it is answered each time."""
    with (
        thread_sidecar(models, listener=ListenerOptions(min_ping_interval_s=interval_s)) as sidecar,
        contextlib.closing(RawCaller(sidecar)) as caller,
    ):
        frames = caller.frames()
        ended = b""
        for _ in range(6):
            caller.ping()
            kind, content = next(frame for frame in frames if frame[0] in {PING, GOAWAY})
            if kind == GOAWAY:
                ended = content[8:]
                break
            threading.Event().wait(0.01)  # the pause between two pings
    assert ended == (b"too_many_pings" if sent_away else b"")
