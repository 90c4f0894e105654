"""`tickserve.v1.Predictor`, health and reflection over real channels."""

import queue
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from onnx_files import endless_model, score_contract, score_model
from open_inference.v2 import inference_pb2 as oip
from sidecars import PATIENCE_S, ThreadSidecar, describe, eventually, put, stub, thread_sidecar
from tickserve.v1 import predictor_pb2 as wire

from inference_server.rpc.status import Code

ROW = np.array([1, 2, 3], dtype="<f4")


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """An empty repository."""
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


@pytest.fixture
def sidecar(models: Path) -> Iterator[ThreadSidecar]:
    """Serve two models."""
    put(models / "one.onnx", score_model("one"))
    put(models / "two.onnx", score_model("two", bias=10.0))
    with thread_sidecar(models) as running:
        yield running


@pytest.fixture(params=["unix", "tcp"])
def channel(sidecar: ThreadSidecar, request: pytest.FixtureRequest) -> Iterator[grpc.Channel]:
    """A channel on each address."""
    with grpc.insecure_channel(getattr(sidecar, request.param)) as made:
        yield made


def part(model: str, *rows: np.ndarray, **fields: object) -> wire.PredictPart:
    """Rows for one model."""
    return wire.PredictPart(
        model=model, rows=len(rows), features=b"".join(row.tobytes() for row in rows), **fields
    )


def score(result: wire.PartResult) -> list[float]:
    """The numbers of the only output."""
    return np.frombuffer(result.outputs[0].raw, "<f4").tolist()


def test_each_part_has_its_own_answer_or_status(channel: grpc.Channel) -> None:
    """Many models and rows in one message: what is wrong with one part harms no other."""
    request = wire.PredictRequest(
        id="t1",
        parts=[
            part("one", ROW, ROW * 2),
            part("nobody", ROW),
            part("two", ROW),
            part("one", ROW[:2]),
            part("one", ROW, version=9),
            part("one", ROW, version=-1),
            part("one", ROW * np.float32(np.nan)),
            part("one", ROW, contract_hash="0" * 64),
            part("one", ROW, contract_hash=score_contract("one").hash),
            wire.PredictPart(model="one", rows=2, features=b"1234"),
        ],
    )
    response = stub(channel, "Predict", wire.PredictResponse)(request, timeout=PATIENCE_S)
    assert response.id == "t1"
    assert [result.status.code for result in response.parts] == [
        Code.OK,
        Code.NOT_FOUND,
        Code.OK,
        Code.INVALID_ARGUMENT,
        Code.NOT_FOUND,
        Code.INVALID_ARGUMENT,
        Code.INVALID_ARGUMENT,
        Code.FAILED_PRECONDITION,
        Code.OK,
        Code.INVALID_ARGUMENT,
    ]
    assert [score(response.parts[index]) for index in (0, 2, 8)] == [[6, 12], [16], [6]]
    first = response.parts[0]
    assert (first.model, first.version, len(first.digest)) == ("one", 1, 64)
    assert first.contract_hash == score_contract("one").hash
    assert list(first.outputs[0].shape) == [2, 1]
    assert [model.versions[0].rows_answered for model in describe(channel).models] == [3, 1]


def test_a_request_without_parts_is_answered(channel: grpc.Channel) -> None:
    """Nothing asked is nothing answered, not an error."""
    response = stub(channel, "Predict", wire.PredictResponse)(wire.PredictRequest(id="e"), timeout=PATIENCE_S)
    assert (response.id, len(response.parts)) == ("e", 0)


def test_too_many_parts_fail_the_call(channel: grpc.Channel) -> None:
    """As many parts as the bound says are all answered; the bound is named to who sends more."""
    predict = stub(channel, "Predict", wire.PredictResponse)
    most = predict(wire.PredictRequest(parts=[part("one", ROW)] * 1000), timeout=PATIENCE_S)
    assert {result.status.code for result in most.parts} == {Code.OK}
    with pytest.raises(grpc.RpcError, match="at most 1000 parts") as caught:
        predict(wire.PredictRequest(parts=[part("one", ROW)] * 1001), timeout=PATIENCE_S)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_stream_answers_by_id_and_keeps_errors_in_band(channel: grpc.Channel) -> None:
    """A stream's answers carry their ids; what would fail a call comes in-band and the stream goes on."""
    requests: queue.Queue[wire.PredictRequest | None] = queue.Queue()
    stream = stub(channel, "PredictStream", wire.PredictResponse, kind="stream_stream")(
        iter(requests.get, None)
    )
    requests.put(wire.PredictRequest(id="a", parts=[part("one", ROW)]))
    requests.put(wire.PredictRequest(id="b", parts=[wire.PredictPart(model="one")] * 1001))
    requests.put(wire.PredictRequest(id="c", parts=[part("two", ROW)], timeout_us=60_000_000))
    answers = {answer.id: answer for answer in (next(stream) for _ in range(3))}
    requests.put(None)
    assert score(answers["a"].parts[0]) == [6]
    assert answers["b"].error.code == Code.INVALID_ARGUMENT
    assert score(answers["c"].parts[0]) == [16]
    assert next(stream, None) is None


def test_a_slow_model_on_a_stream_holds_up_no_other(models: Path) -> None:
    """A slow model costs its own caller the deadline; others on the stream are answered first (E1, E8)."""
    put(models / "slow.onnx", endless_model(turns=None))
    put(models / "one.onnx", score_model("one"))
    requests: queue.Queue[wire.PredictRequest | None] = queue.Queue()
    with thread_sidecar(models) as sidecar, grpc.insecure_channel(sidecar.unix) as channel:
        stream = stub(channel, "PredictStream", wire.PredictResponse, kind="stream_stream")(
            iter(requests.get, None)
        )
        requests.put(wire.PredictRequest(id="slow", parts=[part("slow", ROW * 2**60)], timeout_us=1_000_000))
        requests.put(wire.PredictRequest(id="quick", parts=[part("one", ROW)]))
        first, second = next(stream), next(stream)
        requests.put(None)
        assert (first.id, second.id) == ("quick", "slow")
        assert second.parts[0].status.code == Code.DEADLINE_EXCEEDED
        eventually(lambda: sidecar.sidecar.registry.resolve("slow").in_flight == 0, "the run has ended")


def test_describe_says_what_is_served(channel: grpc.Channel) -> None:
    """Models, versions, states, digests, contracts and signatures are all there."""
    described = describe(channel)
    assert described.ready
    assert [model.name for model in described.models] == ["one", "two"]
    version = described.models[0].versions[0]
    assert described.models[0].default_version == version.version == 1
    assert version.state == wire.VersionDescription.AVAILABLE
    assert list(version.contract.feature_names) == ["a", "b", "c"]
    assert version.contract.hash == score_contract("one").hash
    assert (version.contract.window, version.contract.includes_current_tick) == (20, True)
    assert [(spec.name, list(spec.shape)) for spec in version.inputs] == [("features", [-1, 3])]
    assert 0 < version.warm_up_ns < 60 * 10**9
    assert abs(time.time_ns() - version.available_since_ns) < 600 * 10**9
    (output,) = version.contract.outputs
    assert (output.name, output.kind, list(output.classes)) == ("score", wire.OutputMeaning.VALUE, [])
    assert version.contract.nan_policy == wire.Contract.REFUSE
    assert [(span.low, span.high) for span in version.contract.training_ranges] == [(-1, 1)] * 3
    assert version.contract.trained_at_ns == score_contract("one").trained_at_ns
    assert version.contract.estimator == "LinearRegression()"
    named = stub(channel, "DescribeModels", wire.DescribeModelsResponse)(
        wire.DescribeModelsRequest(models=["two", "nobody"]), timeout=PATIENCE_S
    )
    assert [model.name for model in named.models] == ["two"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (score_model("one")[:200], "cut off"),
        (score_model("one", n_features=4, contract=score_contract("one")), "4"),
        (score_model("one", bias=0.01, contract=score_contract("one")), "golden row"),
        (b"this is not a model", "ONNX"),
    ],
    ids=["truncated", "another signature", "wrong answers", "no model"],
)
def test_a_bad_file_over_a_live_one_changes_nothing(
    sidecar: ThreadSidecar, models: Path, content: bytes, reason: str
) -> None:
    """The old version goes on answering and the reason can be read (C1, C4, C5)."""
    with grpc.insecure_channel(sidecar.unix) as channel:
        before = describe(channel).models[0].versions[0].digest
        put(models / "one.onnx", content)
        eventually(lambda: describe(channel).models[0].problem, "the reason is shown")
        told = describe(channel).models[0]
        assert reason in told.problem
        result = stub(channel, "Predict", wire.PredictResponse)(
            wire.PredictRequest(parts=[part("one", ROW)]), timeout=PATIENCE_S
        ).parts[0]
        assert (score(result), result.digest) == ([6], before)
        assert describe(channel).ready
        put(models / "one.onnx", score_model("one", bias=2.0))
        sidecar.settle()
        assert describe(channel).models[0].problem == ""


def test_the_index_says_why_a_file_is_not_served(sidecar: ThreadSidecar, models: Path) -> None:
    """Each version has its reason, a model with no version too; `ready` leaves only what answers (A2, A5)."""
    put(models / "one.onnx", score_model("one", bias=0.01, contract=score_contract("one")))
    put(models / "cut.onnx", score_model("cut")[:-100])
    put(models / "wrong.onnx", score_model("wrong", bias=0.01, contract=score_contract("wrong")))
    sidecar.settle()
    with grpc.insecure_channel(sidecar.unix) as channel:
        ask = stub(channel, "/inference.GRPCInferenceService/RepositoryIndex", oip.RepositoryIndexResponse)
        index = {model.name: model for model in ask(oip.RepositoryIndexRequest(), timeout=PATIENCE_S).models}
        ready = ask(oip.RepositoryIndexRequest(ready=True), timeout=PATIENCE_S).models
    assert {name: (model.version, model.state) for name, model in index.items()} == {
        "cut": ("", "UNAVAILABLE"),
        "one": ("1", "READY"),
        "two": ("1", "READY"),
        "wrong": ("1", "UNAVAILABLE"),
    }
    assert "cut off" in index["cut"].reason
    assert "the new file is refused: it does not answer as the estimator did" in index["one"].reason
    assert "it does not answer as the estimator did" in index["wrong"].reason
    with grpc.insecure_channel(sidecar.unix) as channel:
        one, two = (model.versions[0] for model in describe(channel).models[1:3])
    assert index["two"].reason.startswith(f"digest {two.digest}, contract {two.contract.hash}, vetted 20")
    assert index["two"].reason.endswith(f"Z: {two.vetting}")
    assert f"; serving digest {one.digest}, contract {one.contract.hash}, " in index["one"].reason
    assert [model.name for model in ready] == ["one", "two"]


def health(channel: grpc.Channel, service: str = "") -> int:
    """Check one service."""
    call = stub(channel, "/grpc.health.v1.Health/Check", health_pb2.HealthCheckResponse)
    return call(health_pb2.HealthCheckRequest(service=service), timeout=PATIENCE_S).status


def test_health_follows_readiness(models: Path) -> None:
    """Live before models; SERVING once there is one; Watch sees each change, the drain too (F1, F2)."""
    seen: queue.Queue[int] = queue.Queue()
    with thread_sidecar(models) as sidecar, grpc.insecure_channel(sidecar.unix) as channel:
        assert health(channel) == health_pb2.HealthCheckResponse.NOT_SERVING
        watch = stub(
            channel, "/grpc.health.v1.Health/Watch", health_pb2.HealthCheckResponse, kind="unary_stream"
        )(health_pb2.HealthCheckRequest(service="tickserve.v1.Predictor"))
        seen.put(next(watch).status)
        put(models / "one.onnx", score_model("one"))
        seen.put(next(watch).status)
        assert health(channel) == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as caught:
            health(channel, "nobody")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        unknown = stub(
            channel, "/grpc.health.v1.Health/Watch", health_pb2.HealthCheckResponse, kind="unary_stream"
        )(health_pb2.HealthCheckRequest(service="nobody"))
        assert next(unknown).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        unknown.cancel()
        ready = stub(channel, "/inference.GRPCInferenceService/ServerReady", oip.ServerReadyResponse)
        assert ready(oip.ServerReadyRequest(), timeout=PATIENCE_S).ready
        sidecar.run(_begin(sidecar))
        assert not ready(oip.ServerReadyRequest(), timeout=PATIENCE_S).ready
        seen.put(next(watch).status)
        assert next(watch, None) is None
    assert list(seen.queue) == [
        health_pb2.HealthCheckResponse.NOT_SERVING,
        health_pb2.HealthCheckResponse.SERVING,
        health_pb2.HealthCheckResponse.NOT_SERVING,
    ]


async def _begin(sidecar: ThreadSidecar) -> None:
    sidecar.sidecar.drain.begin()


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_lists_every_service_and_its_file(channel: grpc.Channel, version: str) -> None:
    """Reflection names all services and gives the file that holds each, so generic clients can call them."""
    call = stub(
        channel,
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        reflection_pb2.ServerReflectionResponse,
        kind="stream_stream",
    )
    names = [
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
        "inference.GRPCInferenceService",
        "tickserve.v1.Control",
        "tickserve.v1.Predictor",
    ]
    with_files = [name for name in names if name != "grpc.reflection.v1.ServerReflection"]  # v1alpha's twin
    listed, *files = call(
        iter(
            [
                reflection_pb2.ServerReflectionRequest(list_services=""),
                *(reflection_pb2.ServerReflectionRequest(file_containing_symbol=name) for name in with_files),
            ]
        ),
        timeout=PATIENCE_S,
    )
    assert sorted(service.name for service in listed.list_services_response.service) == names
    for name, file in zip(with_files, files, strict=True):
        held = file.file_descriptor_response.file_descriptor_proto
        assert name.rpartition(".")[2].encode() in b"".join(held), name


def test_nothing_starts_after_the_callers_time(channel: grpc.Channel) -> None:
    """A request whose time is over when its turn comes is told so, part by part, and runs nothing (E1)."""
    request = wire.PredictRequest(parts=[part("one", ROW), part("two", ROW)], timeout_us=1)
    parts = stub(channel, "Predict", wire.PredictResponse)(request, timeout=PATIENCE_S).parts
    assert [result.status.code for result in parts] == [Code.DEADLINE_EXCEEDED] * 2
    assert [model.versions[0].rows_answered for model in describe(channel).models] == [0, 0]


def test_a_swap_under_load_fails_no_call(sidecar: ThreadSidecar, models: Path) -> None:
    """While a file is replaced ten times, every answer is wholly of the version it names (B1 in small)."""
    biases = [float(number) for number in range(10)]
    wanted = {}
    with grpc.insecure_channel(sidecar.tcp) as channel:
        predict = stub(channel, "Predict", wire.PredictResponse)
        request = wire.PredictRequest(parts=[part("one", ROW)])
        answers = []

        def ask() -> None:
            result = predict(request, timeout=PATIENCE_S).parts[0]
            assert result.status.code == Code.OK
            answers.append((result.version, score(result)[0]))

        for number, bias in enumerate(biases, start=2):
            wanted[number] = 6 + bias
            put(models / "one.onnx", score_model("one", bias=bias, model_version=number))
            end = time.monotonic() + PATIENCE_S
            while not answers or answers[-1][0] != number:
                assert time.monotonic() < end
                ask()
    wanted[1] = 6
    assert all(wanted[version] == value for version, value in answers)
    assert [version for version, _ in answers] == sorted(version for version, _ in answers)
