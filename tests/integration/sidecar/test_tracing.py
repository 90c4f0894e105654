"""Traces of a real sidecar, as a collector gets them."""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest
from onnx_files import score_model
from sidecars import PATIENCE_S, ThreadSidecar, eventually, put, stub, thread_sidecar
from tickserve.v1 import predictor_pb2 as wire

from inference_server.rpc.open_inference import oip
from inference_server.rpc.tracing import SAMPLE_RATIO, TracingError, TracingOptions, open_tracing

otlp = pytest.importorskip(
    "opentelemetry.proto.collector.trace.v1.trace_service_pb2", reason="extra 'tracing'"
)
otlp_grpc = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc")

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = (("traceparent", f"00-{TRACE}-{PARENT}-01"),)
NOT_SAMPLED = (("traceparent", f"00-{TRACE}-{PARENT}-00"),)
ROW = np.array([[1, 2, 3]], dtype="<f4").tobytes()
ERROR = 2


def traced(collector: "Collector", **options: float) -> TracingOptions:
    """Have traces sent to this collector, however long it takes at the end."""
    return TracingOptions(collector.endpoint, **{"flush_s": PATIENCE_S, **options})


class Collector(otlp_grpc.TraceServiceServicer):
    """Takes spans as an OpenTelemetry collector does, and keeps them. `gate` closed: it hangs."""

    def __init__(self) -> None:
        self.spans = []
        self.resources = []
        self.gate = threading.Event()
        self.gate.set()
        self.asked = threading.Event()

    def Export(self, request, context):  # noqa: N802 - the RPC's name
        """Keep the spans."""
        self.asked.set()
        self.gate.wait(PATIENCE_S)
        for group in request.resource_spans:
            self.resources.append(attributes(group.resource))
            for scope in group.scope_spans:
                self.spans += scope.spans
        return otlp.ExportTraceServiceResponse()

    def of_caller(self):
        """Return the spans of the caller's trace."""
        return [span for span in self.spans if span.trace_id.hex() == TRACE]

    def named(self, name):
        """Return the spans of this name."""
        return [span for span in self.spans if span.name == name]


def attributes(of) -> dict:
    """Return attributes as plain values."""
    return {it.key: getattr(it.value, it.value.WhichOneof("value")) for it in of.attributes}


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector on a port that the system chose, in `endpoint`."""
    collector = Collector()
    server = grpc.server(ThreadPoolExecutor(4))
    otlp_grpc.add_TraceServiceServicer_to_server(collector, server)
    collector.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield collector
    collector.gate.set()
    server.stop(None).wait()


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A repository with momentum."""
    put(tmp_path / "models" / "momentum.onnx", score_model())
    return tmp_path / "models"


def predict(sidecar: ThreadSidecar, *parts: wire.PredictPart, metadata=SAMPLED) -> wire.PredictResponse:
    """Ask by the sidecar's Unix socket."""
    with grpc.insecure_channel(sidecar.unix) as channel:
        request = wire.PredictRequest(parts=parts or [part()])
        return stub(channel, "Predict", wire.PredictResponse)(request, timeout=PATIENCE_S, metadata=metadata)


def part(**fields) -> wire.PredictPart:
    """Return a part for one row of momentum."""
    return wire.PredictPart(**({"model": "momentum", "rows": 1, "features": ROW} | fields))


def test_the_callers_trace_goes_on_with_a_span_for_the_rpc_and_for_each_call(
    collector: Collector, models: Path
) -> None:
    """The RPC's span is the caller's child and has one for each part, with model, version, digest, times."""
    with thread_sidecar(models, tracing=traced(collector)) as sidecar:
        answered = predict(
            sidecar, part(), part(features=ROW * 2, rows=2), part(version=9), part(model="made up")
        )
    rpc, *calls = sorted(
        collector.of_caller(), key=lambda span: span.name != "tickserve.v1.Predictor/Predict"
    )
    assert (rpc.name, rpc.kind, rpc.parent_span_id.hex()) == ("tickserve.v1.Predictor/Predict", 2, PARENT)
    told = attributes(rpc)
    assert told.pop("tickserve.request_id")
    assert told == {
        "rpc.system": "grpc",
        "rpc.service": "tickserve.v1.Predictor",
        "rpc.method": "Predict",
        "rpc.grpc.status_code": 0,
    }
    assert rpc.status.code == 0
    assert {span.parent_span_id for span in calls} == {rpc.span_id}
    good = [attributes(span) for span in calls if span.status.code != ERROR]
    assert sorted(it["tickserve.rows"] for it in good) == [1, 2]
    for it in good:
        assert (it["tickserve.model"], it["tickserve.version"]) == ("momentum", 1)
        assert it["tickserve.digest"] == answered.parts[0].digest
        assert it["tickserve.infer_ns"] > 0
        assert it["tickserve.queue_ns"] >= 0
    bad = {attributes(span)["error.type"]: span for span in calls if span.status.code == ERROR}
    assert set(bad) == {"version_not_found", "model_not_found"}
    assert attributes(bad["version_not_found"])["tickserve.status"] == "NOT_FOUND"
    assert bad["model_not_found"].name == "unknown model"
    assert b"made up" not in b"".join(span.SerializeToString() for span in collector.spans)
    for span in calls:
        assert rpc.start_time_unix_nano - 10**6 <= span.start_time_unix_nano <= span.end_time_unix_nano
        assert span.end_time_unix_nano <= rpc.end_time_unix_nano
    (resource, *_) = collector.resources
    assert resource["service.name"] == "tickserve"
    assert resource["service.version"]


@pytest.mark.parametrize(
    "metadata",
    [
        (("traceparent", "made-up"),),
        (("traceparent", "00-" + "0" * 32 + "-" + "0" * 16 + "-01"),),
        (("traceparent", SAMPLED[0][1] + "-" + "made-up" * 1000),),
        (*SAMPLED, ("tracestate", "a=made-up=")),
        (*SAMPLED, ("tracestate", "made-up" * 1500)),
        (*SAMPLED, ("baggage", "made-up=" * 1000)),
    ],
    ids=["text", "zeros", "long", "state", "long state", "baggage"],
)
def test_a_trace_that_cannot_be_read_costs_nothing_and_fills_no_log(
    collector: Collector, models: Path, caplog: pytest.LogCaptureFixture, metadata: tuple[tuple[str, str]]
) -> None:
    """The call is answered and traced, and not a word of what the caller sent is in the log or in a span."""
    with thread_sidecar(models, tracing=traced(collector, sample_ratio=1)) as sidecar:
        assert predict(sidecar, metadata=metadata).parts[0].status.code == 0
    assert collector.named("tickserve.v1.Predictor/Predict")
    assert b"made-up" not in b"".join(span.SerializeToString() for span in collector.spans)
    assert "made-up" not in caplog.text
    assert not [record for record in caplog.records if record.name.startswith("opentelemetry.trace.")]


def test_an_rpc_that_fails_says_so_in_its_span(collector: Collector, models: Path) -> None:
    """The span has the gRPC status; it is an error where the server is to blame, not where the caller is."""
    with (
        thread_sidecar(models, tracing=traced(collector)) as sidecar,
        grpc.insecure_channel(sidecar.unix) as channel,
    ):
        infer = stub(channel, "/inference.GRPCInferenceService/ModelInfer", oip.ModelInferResponse)
        with pytest.raises(grpc.RpcError, match="NOT_FOUND"):
            infer(oip.ModelInferRequest(model_name="none"), timeout=PATIENCE_S, metadata=SAMPLED)
        put(models / "broken.onnx", b"no model")
        sidecar.settle()
        with pytest.raises(grpc.RpcError, match="UNAVAILABLE"):
            infer(oip.ModelInferRequest(model_name="broken"), timeout=PATIENCE_S, metadata=SAMPLED)
    rpcs = collector.named("inference.GRPCInferenceService/ModelInfer")
    told = {attributes(span)["rpc.grpc.status_code"]: span for span in rpcs}
    assert set(told) == {5, 14}
    assert (told[5].status.code, attributes(told[5])["error.type"]) == (0, "NOT_FOUND")
    assert (told[14].status.code, told[14].status.message) == (ERROR, "UNAVAILABLE")
    assert {attributes(span)["error.type"] for span in collector.named("unknown model")} == {
        "model_not_found"
    }
    assert {attributes(span)["error.type"] for span in collector.named("broken")} == {"model_not_ready"}


def test_each_message_of_a_stream_is_a_trace_of_its_own_with_a_link(
    collector: Collector, models: Path
) -> None:
    """A stream's span continues the caller's trace; it may last a day, so its messages are linked to it."""
    options = traced(collector, sample_ratio=1.0)
    with (
        thread_sidecar(models, tracing=options) as sidecar,
        grpc.insecure_channel(sidecar.unix) as channel,
    ):
        predict_stream = stub(channel, "PredictStream", wire.PredictResponse, kind="stream_stream")
        requests = [
            wire.PredictRequest(id="a", parts=[part()]),
            wire.PredictRequest(id="b" * 300, parts=[part()]),  # too long an id: an error in-band
        ]
        assert len(list(predict_stream(iter(requests), timeout=PATIENCE_S, metadata=SAMPLED))) == 2
        infer = oip.ModelInferRequest(model_name="momentum", raw_input_contents=[ROW])
        infer.inputs.add(name="features", datatype="FP32", shape=(1, 3))
        stream_infer = stub(
            channel,
            "/inference.GRPCInferenceService/ModelStreamInfer",
            oip.ModelStreamInferResponse,
            kind="stream_stream",
        )
        assert len(list(stream_infer(iter([infer, infer]), timeout=PATIENCE_S, metadata=SAMPLED))) == 2
    ours, standard = sorted(collector.of_caller(), key=lambda span: span.name, reverse=True)
    assert (ours.name, standard.name) == (
        "tickserve.v1.Predictor/PredictStream",
        "inference.GRPCInferenceService/ModelStreamInfer",
    )
    for stream, statuses in ((ours, [0, 3]), (standard, [0, 0])):
        messages = collector.named(f"{stream.name} message")
        assert sorted(attributes(span)["rpc.grpc.status_code"] for span in messages) == statuses
        assert len({span.trace_id for span in (stream, *messages)}) == 3
        for span in messages:
            (link,) = span.links
            assert (link.trace_id, link.span_id) == (stream.trace_id, stream.span_id)
            assert not span.parent_span_id
    calls = collector.named("momentum")
    messages = [span for span in collector.spans if span.name.endswith(" message")]
    assert len(calls) == 3
    assert {span.parent_span_id for span in calls} <= {span.span_id for span in messages}


def test_the_messages_of_a_stream_that_is_not_sampled_may_be(collector: Collector, models: Path) -> None:
    """Whoever opened the stream without a sampled trace decides of the stream alone, not of its day."""
    options = traced(collector, sample_ratio=1.0)
    with thread_sidecar(models, tracing=options) as sidecar, grpc.insecure_channel(sidecar.unix) as channel:
        predict_stream = stub(channel, "PredictStream", wire.PredictResponse, kind="stream_stream")
        request = wire.PredictRequest(parts=[part()])
        assert len(list(predict_stream(iter([request]), timeout=PATIENCE_S, metadata=NOT_SAMPLED))) == 1
    names = sorted(span.name for span in collector.spans)
    assert names == ["momentum", "tickserve.v1.Predictor/PredictStream message"]


@pytest.mark.parametrize(
    ("ratio", "metadata", "expected"),
    [
        (0.0, (), 0),
        (0.0, SAMPLED, 2),
        (1.0, (), 2),
        (1.0, NOT_SAMPLED, 0),
        (1.0, (("traceparent", "00-nonsense"),), 2),
        (0.0, (("traceparent", "x" * 5000),), 0),
    ],
)
def test_who_is_traced(
    collector: Collector, models: Path, ratio: float, metadata: tuple, expected: int
) -> None:
    """A caller's own decision wins; for those that bring none, or nonsense (D16), the ratio decides."""
    with thread_sidecar(models, tracing=traced(collector, sample_ratio=ratio)) as sidecar:
        predict(sidecar, metadata=metadata)
    assert len(collector.spans) == expected


@pytest.mark.parametrize(("argument", "expected"), [("0", 0), ("1", 2)])
def test_a_sampler_that_does_not_ask_callers(
    collector: Collector, models: Path, monkeypatch: pytest.MonkeyPatch, argument: str, expected: int
) -> None:
    """With the standard variables an operator can take the decision from callers, whatever they send."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", argument)
    with thread_sidecar(models, tracing=traced(collector)) as sidecar:
        predict(sidecar, metadata=NOT_SAMPLED if expected else SAMPLED)
    assert len(collector.spans) == expected


def test_a_collector_that_hangs_costs_no_call_and_little_of_the_end(
    collector: Collector, models: Path
) -> None:
    """Calls are answered while the queue is full, and the end waits for the bound of the flush."""
    collector.gate.clear()
    options = traced(collector, flush_s=0.3)
    with thread_sidecar(models, tracing=options) as sidecar, grpc.insecure_channel(sidecar.unix) as channel:
        ask = stub(channel, "Predict", wire.PredictResponse)
        for _ in range(1500):  # more than are queued: two spans each, 2048 in the queue, 512 under way
            ask(wire.PredictRequest(parts=[part()]), timeout=PATIENCE_S, metadata=SAMPLED)
        assert collector.asked.wait(PATIENCE_S)
        ended = time.monotonic()
    assert time.monotonic() - ended < PATIENCE_S / 2
    assert collector.spans == []


def test_a_collector_that_is_not_there_costs_nothing(models: Path) -> None:
    """With nobody at the endpoint every call is answered, and the end comes in time."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: refused for as long as the test runs
        options = TracingOptions(f"http://127.0.0.1:{taken.getsockname()[1]}", flush_s=0.3)
        with thread_sidecar(models, tracing=options) as sidecar:
            for _ in range(20):
                assert predict(sidecar).parts[0].status.code == 0
            ended = time.monotonic()
        assert time.monotonic() - ended < PATIENCE_S / 2


def test_spans_are_sent_before_the_end(collector: Collector, models: Path) -> None:
    """What was queued when the sidecar stops is sent, although the next batch is seconds away."""
    with thread_sidecar(models, tracing=traced(collector)) as sidecar:
        predict(sidecar)
        assert collector.spans == []
    eventually(lambda: len(collector.spans) == 2, "both spans")


@pytest.mark.parametrize(
    ("options", "environ", "on"),
    [
        (TracingOptions(), {}, False),
        (TracingOptions(), {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, True),
        (TracingOptions(), {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:1"}, True),
        (TracingOptions("http://127.0.0.1:1"), {"OTEL_SDK_DISABLED": "true"}, False),
        (TracingOptions("http://127.0.0.1:1"), {"OTEL_TRACES_EXPORTER": "none"}, False),
    ],
)
def test_what_turns_traces_on(options: TracingOptions, environ: dict[str, str], on: bool) -> None:
    """The configuration or the standard variables name an endpoint; the standard switch turns all off."""
    tracing = open_tracing(options, environ)
    assert (tracing is not None) == on
    if tracing is not None:
        tracing._provider.shutdown()


@pytest.mark.parametrize(
    ("options", "environ", "told"),
    [
        (TracingOptions("http://127.0.0.1:1"), {}, f"TraceIdRatioBased{{{SAMPLE_RATIO}}}"),
        (
            TracingOptions("http://127.0.0.1:1", 0.25),
            {"OTEL_TRACES_SAMPLER": "always_off"},
            "TraceIdRatioBased{0.25}",
        ),
        (TracingOptions("http://127.0.0.1:1"), {"OTEL_TRACES_SAMPLER": "always_off"}, "AlwaysOffSampler"),
    ],
)
def test_the_configured_ratio_wins_over_the_standard_variable(
    monkeypatch: pytest.MonkeyPatch, options: TracingOptions, environ: dict[str, str], told: str
) -> None:
    """The sampler is the configured ratio, else what OTEL_TRACES_SAMPLER names, else one in a hundred."""
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    tracing = open_tracing(options, environ)
    assert tracing is not None
    assert told in repr(tracing)
    tracing._provider.shutdown()


@pytest.mark.parametrize(
    "endpoint", ["127.0.0.1:4317", "grpc://host:4317", "http://", "http:///path", "host"]
)
def test_an_endpoint_without_its_scheme_is_refused(endpoint: str) -> None:
    """The scheme says whether the spans go in plaintext; what has none is not guessed at."""
    with pytest.raises(ValueError, match=r"expected http://HOST:PORT or https://HOST:PORT"):
        TracingOptions(endpoint)


@pytest.mark.parametrize("ratio", [-0.1, 1.1, float("nan")])
def test_a_ratio_is_from_0_to_1(ratio: float) -> None:
    """A ratio that is none is refused when it is said, not at the first call."""
    with pytest.raises(ValueError, match="expected a sample ratio from 0 to 1"):
        TracingOptions("http://host:4317", ratio)


def test_nothing_of_opentelemetry_is_imported_without_traces() -> None:
    """Who does not trace does not pay: not in time, not in memory, and the extra need not be there."""
    code = "import sys, inference_server.app as app; print([m for m in sys.modules if 'opentelemetry' in m])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_traces_without_the_extra_are_an_error_only_where_they_are_configured(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A variable that a cluster sets for everyone is a warning, a key of the configuration is an error."""
    monkeypatch.delitem(sys.modules, "inference_server.rpc.spans", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.grpc.trace_exporter", None)
    with pytest.raises(TracingError, match=r"pip install 'tickserve\[tracing\]'"):
        open_tracing(TracingOptions("http://127.0.0.1:1"), {})
    assert open_tracing(TracingOptions(), {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}) is None
    assert "OpenTelemetry is not installed" in caplog.text
