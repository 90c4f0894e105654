"""Bearer tokens on a real sidecar: who may predict, who may change what is served, how they are exchanged."""

import queue
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2
from onnx_files import score_model
from open_inference.v2 import inference_pb2 as oip
from sidecars import ThreadSidecar, process_sidecar, put, stub, thread_sidecar
from tickserve.v1 import control_pb2 as orders
from tickserve.v1 import predictor_pb2 as wire

from inference_server.adapters.token_file import TokenOptions
from inference_server.core.errors import Reason
from inference_server.serving.statistics import NO_MODEL

PREDICT, CONTROL, OTHER = "predict-" * 4, "control-" * 4, "another-" * 4
ROW = np.array([1, 2, 3], dtype="<f4").tobytes()
QUESTION = wire.PredictRequest(parts=[wire.PredictPart(model="momentum", rows=1, features=ROW)])
PREDICTING = "/tickserve.v1.Predictor/Predict"
STREAMING = "/tickserve.v1.Predictor/PredictStream"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A repository of one model, and tokens for both groups."""
    put(tmp_path / "models" / "momentum.onnx", score_model("momentum"))
    for name, token in (("predict", PREDICT), ("control", CONTROL)):
        (tmp_path / name).write_text(f"{token}\n")
        (tmp_path / name).chmod(0o600)
    return tmp_path


@pytest.fixture
def sidecar(folder: Path) -> Iterator[ThreadSidecar]:
    """A sidecar that wants tokens."""
    with thread_sidecar(
        folder / "models", tokens=TokenOptions(folder / "predict", folder / "control")
    ) as running:
        yield running


def ask(channel: grpc.Channel, path: str, request: Message, response: type, token: str | None) -> Message:
    """Call with a token."""
    metadata = [("authorization", f"Bearer {token}")] if token else []
    return stub(channel, path, response)(request, metadata=metadata, timeout=60)


CALLS = {
    "health": (
        "/grpc.health.v1.Health/Check",
        health_pb2.HealthCheckRequest(),
        health_pb2.HealthCheckResponse,
    ),
    "predict": (PREDICTING, QUESTION, wire.PredictResponse),
    "index": (
        "/inference.GRPCInferenceService/RepositoryIndex",
        oip.RepositoryIndexRequest(),
        oip.RepositoryIndexResponse,
    ),
    "control": (
        "/tickserve.v1.Control/Resume",
        orders.ResumeRequest(model="momentum"),
        orders.ResumeResponse,
    ),
}
OPENED = {
    None: {"health"},
    PREDICT: {"health", "predict", "index"},
    CONTROL: {"health", "predict", "index", "control"},
    OTHER: {"health"},
}


def outcome(channel: grpc.Channel, name: str, token: str | None) -> tuple[str, str]:
    """Call with a token, and return how it ended: the status, and all that is told."""
    try:
        ask(channel, *CALLS[name], token)
    except grpc.RpcError as error:
        return error.code().name, str(error)
    return "OK", ""


@pytest.mark.parametrize("address", ["unix", "tcp"])
@pytest.mark.parametrize("token", OPENED)
@pytest.mark.parametrize("name", CALLS)
def test_a_call_needs_its_token(sidecar: ThreadSidecar, name: str, token: str | None, address: str) -> None:
    """On every address: health is open, predictions and control each want a token of theirs."""
    with grpc.insecure_channel(getattr(sidecar, address)) as channel:
        status, text = outcome(channel, name, token)
    assert (status != "UNAUTHENTICATED") == (name in OPENED[token])
    assert (token or OTHER) not in text


def test_nothing_of_a_call_is_read_before_its_token(sidecar: ThreadSidecar) -> None:
    """Bytes that are no message, and a stream that sends nothing, are refused for the token, not for that."""
    with grpc.insecure_channel(sidecar.unix) as channel:
        with pytest.raises(grpc.RpcError, match="no token came"):
            channel.unary_unary(PREDICTING)(b"\xff", timeout=60)
        silent: queue.SimpleQueue[None] = queue.SimpleQueue()
        with pytest.raises(grpc.RpcError, match="no token came"):
            next(channel.stream_stream(STREAMING)(iter(silent.get, None), timeout=60))
        silent.put(None)


def test_what_is_refused_is_counted(sidecar: ThreadSidecar) -> None:
    """By method and status, and as a failed call of no model, with the reason."""
    with grpc.insecure_channel(sidecar.unix) as channel, pytest.raises(grpc.RpcError):
        ask(channel, *CALLS["predict"], OTHER)
    statistics = sidecar.sidecar.statistics
    assert statistics.rpcs[PREDICTING, "UNAUTHENTICATED"].count == 1
    assert statistics.rpcs_in_flight[PREDICTING] == 0
    failed = statistics.models[NO_MODEL][0].failed
    assert failed["UNAUTHENTICATED", Reason.UNAUTHENTICATED].count == 1


def test_a_token_that_is_taken_back_ends_its_streams(sidecar: ThreadSidecar, folder: Path) -> None:
    """While both tokens stand in the file the stream goes on; without its own, no answer is given."""
    (renewal, _) = sidecar.sidecar.renewals
    questions: queue.SimpleQueue[wire.PredictRequest | None] = queue.SimpleQueue()
    with grpc.insecure_channel(sidecar.unix) as channel:
        answers = stub(channel, STREAMING, wire.PredictResponse, kind="stream_stream")(
            iter(questions.get, None), metadata=[("authorization", f"Bearer {PREDICT}")]
        )
        for tokens in (PREDICT, f"{PREDICT}\n{OTHER}"):
            (folder / "predict").write_text(tokens)
            renewal.refresh()
            questions.put(QUESTION)
            assert next(answers).parts
        (folder / "predict").write_text(OTHER)
        renewal.refresh()
        questions.put(QUESTION)
        with pytest.raises(grpc.RpcError) as caught:
            next(answers)
        questions.put(None)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert caught.value.details() == "the token that came does not open the predict calls"
        ask(channel, *CALLS["predict"], OTHER)


def test_a_token_never_reaches_the_log(folder: Path) -> None:
    """Good, wrong and half: whatever comes, the log of a talkative process holds none of it (F10)."""
    config = folder / "tickserve.toml"
    config.write_text(f"[tokens]\npredict = '{folder}/predict'\ncontrol = '{folder}/control'\n")
    with process_sidecar(
        folder / "models", "--config", str(config), "--log-level", "DEBUG", wait=False
    ) as sidecar:
        with grpc.insecure_channel(sidecar.target) as channel:
            grpc.channel_ready_future(channel).result(60)
            for token in (PREDICT, CONTROL, OTHER, OTHER[:-1]):
                assert all(token not in outcome(channel, name, token)[1] for name in CALLS)
        (folder / "predict").write_text(f"{PREDICT}\nshort-secret\n")
        sidecar.process.send_signal(1)
        assert sidecar.stop() == 0
        log = sidecar.log.read_text()
    assert not any(secret in log for secret in (PREDICT, CONTROL, OTHER[:-1], "short-secret"))
