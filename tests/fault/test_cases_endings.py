"""Servers that are killed, paused, moved, or told to stop, as their clients see it (E7, E9, F3).

What else F3 and F4 say is in test_process.py; F1 and F2 are in test_predictor.py and test_health_live.py.
"""

import contextlib
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import psutil
import pytest
from onnx_files import endless_model, score_model
from open_inference.v2 import inference_pb2 as oip
from sidecars import (
    PATIENCE_S,
    ProcessSidecar,
    describe,
    eventually,
    process_sidecar,
    put,
    stub,
    thread_sidecar,
)
from tickserve.v1 import predictor_pb2 as wire

from inference_server.rpc.listener import ListenerOptions
from inference_server.rpc.status import Code
from strategy_client import InferenceClient
from strategy_client.events import Reason
from strategy_client.predictor.backoff import BackoffOptions
from strategy_client.predictor.breaker import BreakerOptions
from strategy_client.predictor.connection import ConnectionOptions
from strategy_client.predictor.port import Prediction, Question, Refusal

ROW = np.array([[1, 2, 3]], dtype="<f4")
ENDLESS = np.full((1, 3), 2**62, dtype="<f4")
OPTIONS = ConnectionOptions(BreakerOptions(failures=10**6, misses=10**6), BackoffOptions(1, 50))
RECONNECT = (("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 200))
# Short, and far beyond what an answer takes here.
SHORT_S = 0.5


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A quick model, and one that takes as long as it is asked to."""
    folder = tmp_path / "models"
    put(folder / "one.onnx", score_model("one"))
    put(folder / "loops.onnx", endless_model(turns=None))
    return folder


def asking(model: str, features: np.ndarray = ROW, **fields: Any) -> wire.PredictRequest:
    """A question for one row."""
    part = wire.PredictPart(model=model, rows=1, features=features.tobytes())
    return wire.PredictRequest(parts=[part], **fields)


class Plain:
    """Asks over a plain channel."""

    def __init__(self, target: str) -> None:
        self._channel = grpc.insecure_channel(target, RECONNECT)
        self._predict = stub(self._channel, "Predict", wire.PredictResponse)

    def begin(self, model: str, features: np.ndarray, timeout_s: float) -> Callable[[], str]:
        """Begin to ask; the result tells how it ended."""
        call = self._predict.future(asking(model, features), timeout=timeout_s)

        def ended() -> str:
            try:
                return Code(call.result(PATIENCE_S).parts[0].status.code).name
            except grpc.RpcError:
                return str(call.code().name)

        return ended

    def close(self) -> None:
        self._channel.close()


class Ours:
    """Asks by InferenceClient, over its stream."""

    def __init__(self, target: str) -> None:
        self._client = InferenceClient(target, OPTIONS)
        self._client.wait_connected(PATIENCE_S)

    def begin(self, model: str, features: np.ndarray, timeout_s: float) -> Callable[[], str]:
        """Begin to ask; the result tells how it ended."""
        deadline_ns = time.monotonic_ns() + int(timeout_s * 1e9)
        pending = self._client.submit([Question(model, features)], deadline_ns)

        def ended() -> str:
            (answer,) = pending.result()
            if isinstance(answer, Prediction):
                return "OK"
            assert isinstance(answer, Refusal)
            return {Reason.MODEL_NOT_READY: "UNAVAILABLE"}.get(answer.reason, answer.reason.name)

        return ended

    def close(self) -> None:
        self._client.close()


@pytest.fixture
def clients() -> Iterator[Callable[..., list[Any]]]:
    """Make a client of each kind for each target; closed at the end."""
    with contextlib.ExitStack() as stack:

        def make(*targets: str) -> list[Any]:
            made = [kind(target) for target in targets for kind in (Plain, Ours)]
            for client in made:
                stack.callback(client.close)
            return made

        yield make


def answered(client: Any) -> bool:
    """Whether a quick question is answered."""
    return bool(client.begin("one", ROW, PATIENCE_S)() == "OK")


def all_answered(clients: list[Any]) -> bool:
    """Whether each of them is answered."""
    return all(answered(client) for client in clients)


def test_a_server_killed_in_mid_call_is_told(models: Path, clients: Callable[..., list[Any]]) -> None:
    """E7: who waits for an answer of a server that is killed hears UNAVAILABLE, well before his deadline."""
    with process_sidecar(models) as sidecar:
        asking_it = clients(sidecar.target)
        pending = [client.begin("loops", ENDLESS, PATIENCE_S) for client in asking_it]
        assert all_answered(asking_it)  # on the same connections, so the other questions are there as well
        sidecar.stop(signal.SIGKILL)
        assert [ended() for ended in pending] == ["UNAVAILABLE"] * 2


def test_a_server_that_is_paused_costs_the_deadline_and_comes_back(
    models: Path, clients: Callable[..., list[Any]]
) -> None:
    """E9: under SIGSTOP a question ends at its deadline; after SIGCONT the same client is answered."""
    with process_sidecar(models) as sidecar:
        asking_it = clients(sidecar.target)
        assert all_answered(asking_it)
        sidecar.pause()
        try:
            pending = [client.begin("one", ROW, SHORT_S) for client in asking_it]
            assert [ended() for ended in pending] == ["DEADLINE_EXCEEDED"] * 2
        finally:
            sidecar.process.send_signal(signal.SIGCONT)
        eventually(lambda: all_answered(asking_it), "it answers again")


def test_a_client_finds_a_server_that_was_restarted(models: Path, clients: Callable[..., list[Any]]) -> None:
    """E9: after a crash and after a stop, and a new start at the same addresses, each client is answered."""
    with process_sidecar(models, "--listen", "127.0.0.1:0") as first, contextlib.ExitStack() as later:
        tcp = first.log.read_text().split("listening on ")[1].split()[1]
        asking_it = clients(first.target, tcp)
        assert all_answered(asking_it)
        running = first
        for how in (signal.SIGKILL, signal.SIGTERM):
            running.stop(how)
            pending = [client.begin("one", ROW, SHORT_S) for client in asking_it]
            assert {ended() for ended in pending} <= {"UNAVAILABLE", "DEADLINE_EXCEEDED"}
            again = process_sidecar(models, "--listen", first.target, "--listen", tcp)
            running = later.enter_context(again)
            eventually(lambda: all_answered(asking_it), "it answers again")


def test_a_client_finds_a_socket_that_was_removed_and_made_anew(
    models: Path, clients: Callable[..., list[Any]]
) -> None:
    """E9: with the file gone a connection goes on; when its server ends, the one at the new file is found."""
    with process_sidecar(models) as first:
        asking_it = clients(first.target)
        assert all_answered(asking_it)
        Path(first.target.removeprefix("unix:")).unlink()
        assert all_answered(asking_it)
        with process_sidecar(models, "--listen", first.target):
            assert all_answered(asking_it)
            first.stop()
            eventually(lambda: all_answered(asking_it), "the second one answers")


def stop_while(sidecar: ProcessSidecar) -> None:
    """Stop it, and find nothing left of it."""
    children = psutil.Process(sidecar.process.pid).children()
    assert sidecar.stop() == 0
    assert "Traceback" not in sidecar.log.read_text()
    eventually(
        lambda: all(not it.is_running() or it.status() == psutil.STATUS_ZOMBIE for it in children),
        "its children are gone",
    )


def test_it_stops_while_a_file_is_vetted(models: Path) -> None:
    """F3: a file that spins in its judge does not hold up the stop, and what is in flight is answered."""
    with process_sidecar(models) as sidecar, grpc.insecure_channel(sidecar.target) as channel:
        put(models / "spins.onnx", endless_model())
        eventually(lambda: "found model=spins" in sidecar.log.read_text(), "it is being vetted")
        pending = stub(channel, "Predict", wire.PredictResponse).future(
            asking("loops", np.full((1, 3), 200_000, "<f4")), timeout=PATIENCE_S
        )
        describe(channel)
        stop_while(sidecar)
        assert pending.result().parts[0].status.code == Code.OK


def test_it_stops_while_a_model_is_unloaded(models: Path) -> None:
    """F3: an unload that waits for its last call does not hold up the stop, and that call is answered."""
    with (
        process_sidecar(models, "--control", "explicit", wait=False) as sidecar,
        grpc.insecure_channel(sidecar.target) as channel,
    ):
        load = stub(
            channel, "/inference.GRPCInferenceService/RepositoryModelLoad", oip.RepositoryModelLoadResponse
        )
        load(oip.RepositoryModelLoadRequest(model_name="loops"), timeout=PATIENCE_S, wait_for_ready=True)
        predict = stub(channel, "Predict", wire.PredictResponse)
        pending = predict.future(asking("loops", np.full((1, 3), 400_000, "<f4")), timeout=PATIENCE_S)
        describe(channel)
        unload = stub(
            channel,
            "/inference.GRPCInferenceService/RepositoryModelUnload",
            oip.RepositoryModelUnloadResponse,
        )
        unloading = unload.future(oip.RepositoryModelUnloadRequest(model_name="loops"), timeout=PATIENCE_S)
        eventually(
            lambda: predict(asking("loops"), timeout=PATIENCE_S).parts[0].status.code != Code.OK,
            "it answers no new call",
        )
        stop_while(sidecar)
        assert pending.result().parts[0].status.code == Code.OK
        eventually(unloading.done, "who unloads it is told")


def test_streams_are_drained_and_nothing_of_them_is_cut(models: Path) -> None:
    """F3: at SIGTERM each open stream gets the answers to what was read, and ends well."""
    with process_sidecar(models) as sidecar, contextlib.ExitStack() as stack:
        streams = []
        for _ in range(5):
            channel = stack.enter_context(
                grpc.insecure_channel(sidecar.target, [("grpc.use_local_subchannel_pool", 1)])
            )
            requests: queue.Queue[wire.PredictRequest | None] = queue.Queue()
            stack.callback(requests.put, None)
            open_stream = stub(channel, "PredictStream", wire.PredictResponse, kind="stream_stream")
            stream = open_stream(iter(requests.get, None), timeout=PATIENCE_S)
            requests.put(asking("loops", np.full((1, 3), 20_000, "<f4"), id="slow"))
            requests.put(asking("one", id="quick"))
            streams.append((stream, next(stream).id))
        assert sidecar.stop() == 0
        for stream, first in streams:
            rest = list(stream)
            # They are read in order: where the quick one came first, the slow one had been read before it.
            assert "slow" in {first, *(answer.id for answer in rest)}
            assert all(answer.parts[0].status.code == Code.OK for answer in rest)
            assert stream.code() is grpc.StatusCode.OK


def test_what_is_in_flight_after_the_drain_time_is_cut_and_stopped(models: Path) -> None:
    """F3: a call that would go on for ever is cut when the drain time is over, and its run with it."""
    listener = ListenerOptions(drain_timeout_s=SHORT_S)
    with contextlib.ExitStack() as stack:
        with thread_sidecar(models, listener=listener) as sidecar:
            channel = stack.enter_context(grpc.insecure_channel(sidecar.unix))
            call = stub(channel, "Predict", wire.PredictResponse).future(
                asking("loops", ENDLESS), timeout=PATIENCE_S
            )
            registry = sidecar.sidecar.registry
            eventually(lambda: registry.resolve("loops").in_flight == 1, "it runs")
            entry = registry.resolve("loops")
            ends_ns = time.monotonic_ns()
        took_s = (time.monotonic_ns() - ends_ns) / 1e9
        assert took_s < ListenerOptions().drain_timeout_s, "it is the drain time that is configured"
        with pytest.raises(grpc.RpcError):
            call.result(PATIENCE_S)
        assert entry.in_flight == 0
        eventually(
            lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("run-")],
            "its thread has ended",
        )


def test_a_second_signal_ends_a_stop_that_takes_long(models: Path) -> None:
    """F3: while an endless call holds up the drain, the second signal ends the process at once."""
    with process_sidecar(models) as sidecar, grpc.insecure_channel(sidecar.target) as channel:
        call = stub(channel, "Predict", wire.PredictResponse).future(
            asking("loops", ENDLESS), timeout=PATIENCE_S
        )
        describe(channel)
        sidecar.process.send_signal(signal.SIGTERM)
        eventually(lambda: "stopping" in sidecar.log.read_text(), "it drains")
        with pytest.raises(subprocess.TimeoutExpired):
            sidecar.process.wait(SHORT_S)
        assert sidecar.stop(signal.SIGTERM) == 1
        with pytest.raises(grpc.RpcError):
            call.result(PATIENCE_S)


def ready(channel: grpc.Channel) -> bool:
    """Whether a server that may not listen yet is ready."""
    with contextlib.suppress(grpc.RpcError):
        return describe(channel).ready
    return False


def test_two_servers_that_want_one_socket_at_once(models: Path) -> None:
    """F4: of two that are started together on one socket exactly one serves, and the other says why not."""
    with process_sidecar(models, wait=False) as first:
        second = subprocess.Popen(
            [
                *(sys.executable, "-m", "inference_server", "serve", "--models", str(models)),
                *("--listen", first.target, "--http", "off", "--state", str(models.parent / "other")),
            ],
            stderr=subprocess.PIPE,
        )
        try:
            eventually(
                lambda: second.poll() is not None or first.process.poll() is not None, "one of them ends"
            )
            loser, winner = (second, first.process) if second.poll() is not None else (first.process, second)
            assert loser.returncode == 1
            with grpc.insecure_channel(first.target) as channel:
                eventually(lambda: ready(channel), "the other one serves")
            assert winner.poll() is None
        finally:
            second.kill()
            second.communicate()
