"""What `/metrics` of a real sidecar says of calls, beside what the caller knows and ModelStatistics says."""

import urllib.request
from collections.abc import Callable, Iterator

import grpc
import numpy as np
import pytest
from onnx_files import endless_model, score_model
from prometheus_client.parser import text_string_to_metric_families
from sidecars import PATIENCE_S, ThreadSidecar, eventually, put, stub, thread_sidecar
from tickserve.v1 import predictor_pb2 as wire

from inference_server.rpc.address import Address
from inference_server.rpc.open_inference import oip

ROW = np.array([[1, 2, 3]], dtype="<f4").tobytes()
# The endless model takes as many turns as its largest input says.
ENDLESS = np.array([[1, 2, 1e15]], dtype="<f4").tobytes()
INFER = "/inference.GRPCInferenceService/ModelInfer"

Read = Callable[..., float]


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThreadSidecar]:
    """Serve a model, and one whose run is as long as the caller says."""
    models = tmp_path_factory.mktemp("models")
    put(models / "momentum.onnx", score_model())
    put(models / "loops.onnx", endless_model(None))
    with thread_sidecar(models, http=Address(host="127.0.0.1")) as running:
        yield running


@pytest.fixture
def channel(sidecar: ThreadSidecar) -> Iterator[grpc.Channel]:
    """A caller's channel."""
    with grpc.insecure_channel(sidecar.unix) as opened:
        yield opened


@pytest.fixture
def read(sidecar: ThreadSidecar) -> Read:
    """Return the sum of a metric's samples that have these labels, by a scrape."""

    def sample(name: str, **labels: str) -> float:
        url = f"http://127.0.0.1:{sidecar.sidecar.http_port}/metrics"
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
            families = list(text_string_to_metric_families(answer.read().decode()))
        return sum(
            sample.value
            for family in families
            for sample in family.samples
            if sample.name == f"tickserve_{name}" and labels.items() <= sample.labels.items()
        )

    return sample


def request(*models: str, features: bytes = ROW) -> wire.PredictRequest:
    """Return a request for a row of each model."""
    return wire.PredictRequest(
        parts=[wire.PredictPart(model=model, rows=1, features=features) for model in models]
    )


def infer(model: str = "momentum", raw: bytes = ROW) -> oip.ModelInferRequest:
    """Return the standard request for a row."""
    asked = oip.ModelInferRequest(model_name=model, raw_input_contents=[raw])
    asked.inputs.add(name="features", datatype="FP32", shape=(1, 3))
    return asked


def test_metrics_and_model_statistics_tell_the_same(channel: grpc.Channel, read: Read) -> None:
    """F5: by whichever protocol a call came, Prometheus and Triton's clients are told the same of it."""
    predict = stub(channel, "Predict", wire.PredictResponse)
    stream = stub(channel, "PredictStream", wire.PredictResponse, kind="stream_stream")
    standard = stub(channel, INFER, oip.ModelInferResponse)
    for _ in range(3):
        predict(request("momentum", "momentum"), timeout=PATIENCE_S)
        assert len(list(stream(iter([request("momentum")]), timeout=PATIENCE_S))) == 1
        standard(infer(), timeout=PATIENCE_S)
        with pytest.raises(grpc.RpcError, match="INVALID_ARGUMENT"):
            standard(infer(raw=ROW[:-1]), timeout=PATIENCE_S)
    path = "/inference.GRPCInferenceService/ModelStatistics"
    asked = oip.ModelStatisticsRequest(name="momentum")
    (told,) = stub(channel, path, oip.ModelStatisticsResponse)(asked, timeout=PATIENCE_S).model_stats
    durations = told.inference_stats
    of_momentum = {"model": "momentum", "version": "1"}
    assert read("calls_total", status="OK", **of_momentum) == durations.success.count == 12
    for name, theirs in (
        ("call_seconds", durations.success),
        ("call_queue_seconds", durations.queue),
        ("call_input_seconds", durations.compute_input),
        ("call_inference_seconds", durations.compute_infer),
        ("call_output_seconds", durations.compute_output),
    ):
        assert read(f"{name}_count", **of_momentum) == theirs.count
        assert read(f"{name}_sum", **of_momentum) == pytest.approx(theirs.ns / 1e9)
    failed = {"model": "momentum", "status": "INVALID_ARGUMENT", "reason": "invalid_request"}
    assert read("calls_total", **failed) == read("failed_call_seconds_count", **failed) == 3
    assert read("version_rows_answered_total", **of_momentum) == 12
    assert read("rpc_seconds_count", method=INFER) == 6
    assert read("rpc_seconds_count", method=INFER, status="INVALID_ARGUMENT") == 3
    assert read("rpc_seconds_count", method="/tickserve.v1.Predictor/PredictStream", status="OK") == 3


@pytest.mark.parametrize(
    ("timeout_us", "status", "reason"),
    [(0, "CANCELLED", "cancelled"), (2_000_000, "DEADLINE_EXCEEDED", "too_slow")],
)
def test_what_is_in_flight_is_seen_and_gone_when_its_caller_is(
    channel: grpc.Channel, read: Read, timeout_us: int, status: str, reason: str
) -> None:
    """F6: a call under way is in every gauge of its kind; left or too late, it is in none of them."""
    method = "/tickserve.v1.Predictor/Predict"
    before = read("calls_total", model="loops", status=status, reason=reason)

    def gauges() -> tuple[float, ...]:
        return (
            read("calls_in_flight"),
            read("model_calls_in_flight", model="loops"),
            read("version_calls_in_flight", model="loops", version="1"),
            read("rpcs_in_flight", method=method),
        )

    # Were it the caller's own deadline, his leaving and the sidecar's timer would race.
    asked = request("loops", features=ENDLESS)
    asked.timeout_us = timeout_us
    call = stub(channel, "Predict", wire.PredictResponse).future(asked, timeout=PATIENCE_S)
    if status == "CANCELLED":
        eventually(lambda: gauges() == (1, 1, 1, 1), "the call is in flight")
        call.cancel()
    ended = {"model": "loops", "status": status, "reason": reason}
    eventually(lambda: read("calls_total", **ended) == before + 1, "the call has ended")
    eventually(lambda: gauges() == (0, 0, 0, 0), "nothing is in flight")


def test_nothing_that_a_caller_makes_up_becomes_a_label(
    sidecar: ThreadSidecar, channel: grpc.Channel, read: Read
) -> None:
    """D13: names of models, methods and labels that nobody knows are counted, and appear nowhere."""
    made_up = "made_up_by_a_caller"
    stub(channel, "Predict", wire.PredictResponse)(request(made_up, made_up), timeout=PATIENCE_S)
    with pytest.raises(grpc.RpcError):
        stub(channel, INFER, oip.ModelInferResponse)(infer(made_up), timeout=PATIENCE_S)
    for path in (f"/{made_up}/{made_up}", f"/tickserve.v1.Predictor/{made_up}"):
        with pytest.raises(grpc.RpcError, match="UNIMPLEMENTED"):
            stub(channel, path, wire.PredictResponse)(request(), timeout=PATIENCE_S)
    assert read("calls_total", model="", version="0", status="NOT_FOUND", reason="model_not_found") == 3
    with urllib.request.urlopen(
        f"http://127.0.0.1:{sidecar.sidecar.http_port}/metrics", timeout=PATIENCE_S
    ) as answer:
        assert made_up not in answer.read().decode()
