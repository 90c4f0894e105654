"""Clients that come and go leave nothing behind."""

import threading
import time
from pathlib import Path

import numpy as np
import psutil
from sidecars import eventually, process_sidecar

from strategy_client.events import Reason
from strategy_client.predictor.client import InferenceClient
from strategy_client.predictor.port import Question, Refusal

MODELS = Path(__file__).parents[2] / "models"
ROUNDS = 50
# gRPC's own pool of threads follows the load. One thing left behind by each client would be 200.
GRPC_POOL = 10
QUESTION = Question("es_momentum", np.ones((1, 3), np.float32))


def in_use() -> tuple[int, int]:
    """Return how many file descriptors and threads this process has."""
    process = psutil.Process()
    return process.num_fds(), process.num_threads()


def ours() -> list[str]:
    """Return the names of our own threads that run."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("tickserve")]


def come_and_go(target: str) -> None:
    """Close a client while it connects, one that is connected, one with a question out, one of no sidecar."""
    InferenceClient(target).close()
    with InferenceClient(target) as connected:
        connected.wait_ready()
    with InferenceClient(target) as asking:
        asking.wait_ready()
        pending = asking.submit([QUESTION], time.monotonic_ns() + 10**10)
    (answer,) = pending.result()
    assert not isinstance(answer, Refusal) or answer.reason is Reason.UNAVAILABLE
    with InferenceClient("unix:/tmp/no-such-sidecar") as nobody:
        nobody.submit([QUESTION], time.monotonic_ns() + 10**7).result()


def test_two_hundred_clients_leave_no_thread_and_no_file() -> None:
    """E4: however a client is closed, its threads and file descriptors are gone."""
    with process_sidecar(MODELS) as sidecar:
        # The first ones start what gRPC keeps for the life of the process.
        for _ in range(3):
            come_and_go(sidecar.target)
        before = in_use()
        for _ in range(ROUNDS):
            come_and_go(sidecar.target)
        eventually(
            lambda: all(now <= then + GRPC_POOL for now, then in zip(in_use(), before, strict=True)),
            "all is freed",
        )
        assert ours() == []
