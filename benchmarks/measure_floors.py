"""The floors of a question, from an empty method call up to our client, and what a pause before each costs.

A tick comes after silence: caches are cold then and the processor has slept, and all that a call touches is
slower. So each floor is measured twice, call upon call and after 300 us of sleep.

The session has the options of the sidecar and the model of the first question; the echoes and the raw socket
carry as many bytes as the request of two models does.
"""

import contextlib
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from answered import answered
from bench import Effort
from echo import echo_server, stream_call, unary_call
from finding import Finding, compare
from interleaved import Subject, interleave
from sidecar_process import sidecar_process

from inference_server.adapters.onnx_session import OnnxSession
from strategy_client import InferenceClient
from strategy_client.predictor.codec import write_request
from strategy_client.predictor.port import Question

MODELS: Final = Path(__file__).resolve().parent.parent / "models"
NAMES: Final = ("es_momentum", "es_reversion")
FEATURES: Final = 3
TIMEOUT_NS: Final = 5_000_000_000
TIMEOUT_US: Final = 1_000_000
CALLS: Final = 300
PAUSED_CALLS: Final = 100
PAUSE_S: Final = 300e-6
PAUSED: Final = ", after 300 us of sleep"

EMPTY: Final = "empty method call"
ROW: Final = "bare session.run, 1 row"
ROWS: Final = "bare session.run, 50 rows"
SOCKET: Final = "raw Unix socket, there and back"
UNARY_UNIX: Final = "bare unary echo, Unix socket"
UNARY_TCP: Final = "bare unary echo, TCP"
STREAM_UNIX: Final = "bare stream echo, Unix socket"
STREAM_TCP: Final = "bare stream echo, TCP"
ONE: Final = "InferenceClient, one model"
TWO: Final = "InferenceClient, two models"
# What each stands beside.
FLOORS: Final = {
    ROW: EMPTY,
    ROWS: ROW,
    SOCKET: EMPTY,
    UNARY_UNIX: SOCKET,
    UNARY_TCP: UNARY_UNIX,
    STREAM_UNIX: SOCKET,
    STREAM_TCP: STREAM_UNIX,
    ONE: STREAM_UNIX,
    TWO: STREAM_UNIX,
}


class Empty:
    """Something with a method that does nothing."""

    def call(self) -> None:
        """Do nothing."""


@contextlib.contextmanager
def socket_call(payload: bytes) -> Iterator[Callable[[], bytes]]:
    """Give a function that sends bytes to another process over a Unix socket, and waits for as many."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/raw.sock"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen()
            process = subprocess.Popen([sys.executable, __file__, path, str(len(payload))])  # noqa: S603
            try:
                with listener.accept()[0] as peer:

                    def call() -> bytes:
                        peer.sendall(payload)
                        return peer.recv(len(payload), socket.MSG_WAITALL)

                    yield call
            finally:
                process.kill()
                process.wait()


def answer(path: str, size: int) -> None:
    """Send back what comes over the socket, until it ends."""
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(path)
        while message := peer.recv(size, socket.MSG_WAITALL):
            peer.sendall(message)


def asking(client: InferenceClient, *names: str) -> Callable[[], Any]:
    """Return a function that asks each model for one row in one request, and waits for the answer."""
    questions = [question(name) for name in names]
    return lambda: answered(client.submit(questions, time.monotonic_ns() + TIMEOUT_NS).result())


def question(name: str) -> Question:
    """Return a question of one row."""
    return Question(name, np.full((1, FEATURES), 1e-4, dtype=np.float32))


def running(rows: int) -> Callable[[], Any]:
    """Return a function that runs the model in this process, on so many rows."""
    session = OnnxSession((MODELS / f"{NAMES[0]}.onnx").read_bytes())
    inputs = {session.inputs[0].name: np.full((rows, FEATURES), 1e-4, dtype=np.float32)}
    outputs = [spec.name for spec in session.outputs]
    return lambda: session.run(inputs, outputs)


def measure(effort: Effort) -> Finding:
    """Measure the floors."""
    payload = write_request("bench", [question(name) for name in NAMES], TIMEOUT_US)
    with contextlib.ExitStack() as stack:
        enter = stack.enter_context
        sidecar = enter(sidecar_process(MODELS))
        client = enter(InferenceClient(sidecar.target))
        client.wait_ready()
        unix, tcp = enter(echo_server()), enter(echo_server(tcp=True))
        calls: dict[str, Callable[[], Any]] = {
            EMPTY: Empty().call,
            ROW: running(1),
            ROWS: running(50),
            SOCKET: enter(socket_call(payload)),
            UNARY_UNIX: enter(unary_call(unix, payload)),
            UNARY_TCP: enter(unary_call(tcp, payload)),
            STREAM_UNIX: enter(stream_call(unix, payload)),
            STREAM_TCP: enter(stream_call(tcp, payload)),
            ONE: asking(client, NAMES[0]),
            TWO: asking(client, *NAMES),
        }
        hot = [Subject(name, call, effort.calls(CALLS)) for name, call in calls.items()]
        cold = [
            Subject(name + PAUSED, call, effort.calls(PAUSED_CALLS), PAUSE_S) for name, call in calls.items()
        ]
        series = interleave([*hot, *cold], effort.rounds)
    return Finding(
        "floors",
        "Floors of a question",
        [
            *(compare(name, series, floor) for name, floor in FLOORS.items()),
            *(compare(name + PAUSED, series, floor + PAUSED) for name, floor in FLOORS.items()),
            *(compare(name + PAUSED, series, name) for name in calls),
        ],
        notes=[f"{len(payload)} bytes a message"],
    )


if __name__ == "__main__":
    answer(sys.argv[1], int(sys.argv[2]))
