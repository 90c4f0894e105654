"""ModelStatistics of a real sidecar, asked by `tritonclient`: the numbers agree with what was asked of it."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from onnx_files import score_model
from sidecars import ThreadSidecar, put, thread_sidecar
from tritonclient.utils import InferenceServerException

from inference_server.serving.policy import All
from inference_server.serving.settings import ModelSettings

ROWS = np.ones((2, 3), dtype=np.float32)


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory, served_transport: str) -> Iterator[ThreadSidecar]:
    """Serve a model of one version, one of two that are both served, one that no test calls, one refused."""
    models = tmp_path_factory.mktemp("models")
    put(models / "momentum.onnx", score_model("momentum"))
    put(models / "plain" / "1" / "model.onnx", score_model(None))
    put(models / "plain" / "2" / "model.onnx", score_model(None, bias=1.0))
    put(models / "quiet.onnx", score_model(None, bias=2.0))
    put(models / "refused.onnx", score_model("another"))
    with thread_sidecar(models, settings={"plain": ModelSettings(policy=All())}) as running:
        yield running


@pytest.fixture(params=["unix", "tcp"])
def client(sidecar: ThreadSidecar, request: pytest.FixtureRequest) -> Iterator[triton.InferenceServerClient]:
    """A client on each address."""
    with triton.InferenceServerClient(getattr(sidecar, request.param)) as made:
        yield made


def features(rows: np.ndarray = ROWS) -> list[triton.InferInput]:
    """The inputs of a call."""
    tensor = triton.InferInput("features", list(rows.shape), "FP32")
    tensor.set_data_from_numpy(rows)
    return [tensor]


def statistics(client: triton.InferenceServerClient, *which: str) -> list:
    """What the sidecar tells."""
    return list(client.get_inference_statistics(*which).model_stats)


def agreed(told: Any) -> Counter[str]:
    """The counts of one version, once those that must be equal are found to be."""
    parts = told.inference_stats
    computed = (parts.queue, parts.compute_input, parts.compute_infer, parts.compute_output)
    assert {each.count for each in computed} == {parts.success.count} == {told.execution_count}
    assert sum(each.ns for each in computed) <= parts.success.ns
    assert (parts.cache_hit.count, parts.cache_miss.count, list(told.batch_stats)) == (0, 0, [])
    return Counter(success=parts.success.count, fail=parts.fail.count, rows=told.inference_count)


def counts(client: triton.InferenceServerClient, *which: str) -> dict[str, Counter[str]]:
    """The counts of a model by version."""
    return {told.version: agreed(told) for told in statistics(client, *which)}


def test_each_answer_adds_one_to_every_count(client: triton.InferenceServerClient) -> None:
    """Success, queue and the three parts of the computation grow by one a call, rows by its rows (F5)."""
    before = counts(client, "momentum")["1"]
    before_ms = time.time_ns() // 10**6
    for calls in range(1, 4):
        client.infer("momentum", features())
        [told] = statistics(client, "momentum")
        assert (told.name, told.version) == ("momentum", "1")
        assert agreed(told) == before + Counter(success=calls, rows=2 * calls)
    assert before_ms <= told.last_inference <= time.time_ns() // 10**6
    for part in ("success", "queue", "compute_input", "compute_infer", "compute_output"):
        assert getattr(told.inference_stats, part).ns > 0


def test_a_call_that_fails_is_counted_where_it_failed(client: triton.InferenceServerClient) -> None:
    """A refusal by a version is that version's; one that reached none is under "0", and nowhere else (F5)."""
    before, unreached = counts(client, "plain"), counts(client, "plain", "0")["0"]
    client.infer("plain", features(), model_version="2")
    for wrong, version in ((features(ROWS[:, :2]), "2"), (features(), "9")):
        with pytest.raises(InferenceServerException):
            client.infer("plain", wrong, model_version=version)
    with pytest.raises(InferenceServerException):
        client.infer("nobody", features())
    assert counts(client, "plain") == {
        "1": before["1"],
        "2": before["2"] + Counter(success=1, fail=1, rows=2),
    }
    assert counts(client, "plain", "0") == {"0": unreached + Counter(fail=1)}
    assert statistics(client, "plain", "2")[0].inference_stats.fail.ns > 0


def test_every_version_of_every_model_is_told_of(client: triton.InferenceServerClient) -> None:
    """Without a name come all models, in order, each with all versions that can be asked."""
    with pytest.raises(InferenceServerException):  # counted, but under no model
        client.infer("nobody", features())
    assert [(told.name, told.version) for told in statistics(client)] == [
        ("momentum", "1"),
        ("plain", "1"),
        ("plain", "2"),
        ("quiet", "1"),
    ]


def test_a_version_that_was_never_called_has_zeros(client: triton.InferenceServerClient) -> None:
    """A version that answers is told of before its first call, with 0 as the time of its last."""
    assert statistics(client, "refused") == []
    [told] = statistics(client, "quiet", "1")
    assert agreed(told) == Counter(success=0, fail=0, rows=0)
    assert told.last_inference == 0


@pytest.mark.parametrize(
    ("which", "status", "text"),
    [
        (("nobody",), "NOT_FOUND", "no model 'nobody'"),
        (("nobody", "0"), "NOT_FOUND", "no model 'nobody'"),
        (("plain", "9"), "NOT_FOUND", "has no version 9"),
        (("plain", "canary"), "NOT_FOUND", "has no label 'canary'"),
        (("plain", "01"), "INVALID_ARGUMENT", "expected an integer above 0"),
        (("refused", "1"), "UNAVAILABLE", "'refused' does not answer: version 1 is END"),
    ],
)
def test_what_is_not_there_is_not_found(
    client: triton.InferenceServerClient, which: tuple[str, ...], status: str, text: str
) -> None:
    """An unknown model, version or label is an error with its status, as is one that never answered."""
    with pytest.raises(InferenceServerException, match=text) as caught:
        statistics(client, *which)
    assert caught.value.status() == f"StatusCode.{status}"


def test_a_stream_counts_each_of_its_requests(client: triton.InferenceServerClient) -> None:
    """Requests of one stream are counted one by one, those that fail among them (F5)."""
    before = counts(client, "momentum")["1"]
    done = threading.Semaphore(0)
    client.start_stream(callback=lambda result, error: done.release())
    for model in ("momentum", "momentum", "nobody"):
        client.async_stream_infer(model, features())
    client.async_stream_infer("momentum", features(ROWS[:, :2]))
    for _ in range(4):
        assert done.acquire(timeout=60)
    client.stop_stream()
    assert counts(client, "momentum") == {"1": before + Counter(success=2, fail=1, rows=4)}


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/inference.GRPCInferenceService/ModelInfer", "unary_unary"),
        ("/inference.GRPCInferenceService/ModelStreamInfer", "stream_stream"),
        ("/grpc.health.v1.Health/Watch", "unary_stream"),
    ],
)
def test_an_rpc_whose_message_cannot_be_read_is_counted(sidecar: ThreadSidecar, path: str, kind: str) -> None:
    """An operator sees such RPCs under their method and status, and none stays in flight (D14, F6)."""
    statistics = sidecar.sidecar.statistics

    def refusals() -> int:
        durations = statistics.rpcs.get((path, "INVALID_ARGUMENT"))
        return durations.count if durations else 0

    before = refusals()
    with grpc.insecure_channel(sidecar.unix) as channel:
        call = getattr(channel, kind)(path)
        with pytest.raises(grpc.RpcError) as caught:
            list(call(iter([b"\xff"]) if kind == "stream_stream" else b"\xff", timeout=60))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert refusals() == before + 1
    assert statistics.rpcs_in_flight[path] == 0


def test_the_numbers_agree_while_models_are_replaced(tmp_path: Path) -> None:
    """Over many swaps, with callers all the time, versions together have each call once (F5, B2)."""
    swaps, callers = 6, 3
    done = threading.Event()
    answered = [0] * callers
    seen: set[str] = set()

    def call(number: int) -> None:
        with triton.InferenceServerClient(running.unix) as client:
            while not done.is_set():
                client.infer("momentum", features())
                answered[number] += 1

    def look() -> None:
        with triton.InferenceServerClient(running.unix) as client:
            last = False
            while not last:
                last = done.is_set()  # it looks once more after the last swap
                for told in statistics(client):
                    agreed(told)
                    seen.add(told.version)

    models = tmp_path
    put(models / "momentum.onnx", score_model("momentum"))
    with thread_sidecar(models) as running:
        threads = [threading.Thread(target=call, args=(number,)) for number in range(callers)]
        threads.append(threading.Thread(target=look))
        for thread in threads:
            thread.start()
        try:
            for version in range(2, 2 + swaps):
                put(models / "momentum.onnx", score_model("momentum", bias=version, model_version=version))
                with triton.InferenceServerClient(running.unix) as client:
                    while not client.is_model_ready("momentum", str(version)):
                        assert all(thread.is_alive() for thread in threads)
        finally:
            done.set()
            for thread in threads:
                thread.join(60)
        with triton.InferenceServerClient(running.unix) as client:
            told = counts(client, "momentum")
    assert sum(count["success"] for count in told.values()) == sum(answered)
    assert sum(count["fail"] for count in told.values()) == 0
    assert list(told) == [str(version) for version in range(1, 2 + swaps)]
    assert min(answered) > 0
    assert set(told) <= seen


def test_the_extension_is_advertised(client: triton.InferenceServerClient) -> None:
    """Clients that look for statistics find them among the extensions; shared memory, being off, is not."""
    assert list(client.get_server_metadata().extensions) == [
        "model_configuration",
        "model_repository",
        "statistics",
    ]
