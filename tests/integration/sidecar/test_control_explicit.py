"""Load and unload by `tritonclient`: under explicit control, and refused where control is by files."""

import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from onnx_files import endless_model, score_contract, score_model
from open_inference.v2 import inference_pb2 as oip
from sidecars import PATIENCE_S, ThreadSidecar, describe, eventually, put, stub, thread_sidecar
from tritonclient.utils import InferenceServerException

from inference_server.rpc.listener import ListenerOptions

ROWS = np.array([[1, 2, 3]], dtype=np.float32)
CONFIG = '{"backend": "onnxruntime"}'


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A repository with one model, 7."""
    put(tmp_path / "models" / "momentum.onnx", score_model("momentum", model_version=7))
    return tmp_path / "models"


@pytest.fixture
def sidecar(models: Path) -> Iterator[ThreadSidecar]:
    """Serve what is asked for by call."""
    with thread_sidecar(models, control="explicit") as running:
        yield running


@pytest.fixture
def client(sidecar: ThreadSidecar) -> Iterator[triton.InferenceServerClient]:
    """Triton's client."""
    with triton.InferenceServerClient(sidecar.tcp) as made:
        yield made


def score(client: triton.InferenceServerClient, model: str, version: str = "") -> float:
    """Ask for one row."""
    tensor = triton.InferInput("features", list(ROWS.shape), "FP32")
    tensor.set_data_from_numpy(ROWS)
    return float(client.infer(model, [tensor], model_version=version).as_numpy("score")[0, 0])


def index(client: triton.InferenceServerClient) -> dict[tuple[str, str], tuple[str, str]]:
    """State and reason by model and version."""
    models = client.get_model_repository_index().models
    return {(model.name, model.version): (model.state, model.reason) for model in models}


def test_a_model_comes_and_goes_by_call(client: triton.InferenceServerClient, models: Path) -> None:
    """Nothing is served before it is loaded; a load serves what lies there at that moment."""
    assert not client.is_server_ready()
    with pytest.raises(InferenceServerException, match=r"UNAVAILABLE|NOT_FOUND"):
        score(client, "momentum")
    client.load_model("momentum")
    assert client.is_server_ready()
    assert score(client, "momentum") == 6
    put(models / "momentum.onnx", score_model("momentum", model_version=8, bias=1.0))
    client.load_model("momentum", config=CONFIG)
    assert score(client, "momentum") == 7
    client.unload_model("momentum", unload_dependents=True)
    assert not client.is_model_ready("momentum")
    with pytest.raises(InferenceServerException, match="not loaded; control is explicit"):
        score(client, "momentum")
    client.load_model("momentum")
    assert score(client, "momentum", "8") == 7


def test_an_upload_is_served_under_its_version(client: triton.InferenceServerClient) -> None:
    """A file that comes with the call is vetted like any other, and the index proves which bytes they are."""
    content = score_model("fresh", bias=2.0)
    client.load_model("fresh", config=CONFIG, files={"file:5/model.onnx": content})
    assert score(client, "fresh") == score(client, "fresh", "5") == 8
    state, reason = index(client)["fresh", "5"]
    assert state == "READY"
    assert f"contract {score_contract('fresh').hash}, vetted 20" in reason
    client.load_model("fresh", config=CONFIG, files={"file:6/model.onnx": score_model("fresh", bias=3.0)})
    assert score(client, "fresh") == 9


def test_a_label_is_asked_for_as_a_version(
    sidecar: ThreadSidecar, client: triton.InferenceServerClient
) -> None:
    """A client that exists names a label where it would name a version."""
    client.load_model("momentum")
    sidecar.run(sidecar.sidecar.operator.set_label("momentum", "canary", 7))
    assert score(client, "momentum", "canary") == 6
    assert client.is_model_ready("momentum", "canary")
    assert not client.is_model_ready("momentum", "stable")
    with pytest.raises(InferenceServerException, match=r"NOT_FOUND.*no label 'stable'; it has 'canary'"):
        score(client, "momentum", "stable")


def test_each_answer_names_its_bytes(client: triton.InferenceServerClient) -> None:
    """Digest, contract hash, time and outcome of vetting are parameters of the standard answer."""
    client.load_model("momentum")
    tensor = triton.InferInput("features", list(ROWS.shape), "FP32")
    tensor.set_data_from_numpy(ROWS)
    parameters = client.infer("momentum", [tensor]).get_response().parameters
    assert len(parameters["digest"].string_param) == 64
    assert parameters["contract_hash"].string_param == score_contract("momentum").hash
    assert parameters["vetted_at_ns"].int64_param > 0
    assert parameters["verified"].bool_param


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "no graph"),
        (b"no model", "ONNX"),
        (score_model("momentum")[:200], "cut off"),
        (score_model("momentum", bias=0.01, contract=score_contract("momentum")), "golden row"),
        (score_model("other"), "other"),
    ],
    ids=["empty", "no model", "truncated", "wrong answers", "another's contract"],
)
def test_a_bad_upload_is_refused_and_what_was_served_goes_on(
    client: triton.InferenceServerClient, content: bytes, text: str
) -> None:
    """C1, C4, C5: a refused upload costs nothing; the reason comes to who sent it, as FAILED_PRECONDITION."""
    client.load_model("momentum", files={"file:7/model.onnx": score_model("momentum", bias=1.0)})
    with pytest.raises(InferenceServerException, match=text) as caught:
        client.load_model("momentum", files={"file:8/model.onnx": content})
    assert caught.value.status() == "StatusCode.FAILED_PRECONDITION"
    assert score(client, "momentum") == 7
    assert client.is_server_ready()
    client.load_model("momentum", files={"file:8/model.onnx": score_model("momentum", bias=2.0)})
    assert score(client, "momentum") == 8


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        ({"model_name": "nobody"}, "NOT_FOUND", "no model 'nobody' in the repository"),
        ({"model_name": "../x"}, "INVALID_ARGUMENT", "../x"),
        ({"files": {"file:1/model.plan": b"x"}}, "INVALID_ARGUMENT", "expected file:VERSION/model.onnx"),
        ({"files": {"1/model.onnx": b"x"}}, "INVALID_ARGUMENT", "'1/model.onnx': expected config and file:"),
        ({"config": '{"max_batch_size": 4}'}, "INVALID_ARGUMENT", "max_batch_size: expected 0, came '4'"),
        ({"config": '{"instance_group": []}'}, "INVALID_ARGUMENT", "'instance_group' would not be heeded"),
    ],
)
def test_a_wrong_load_says_what_was_expected(
    client: triton.InferenceServerClient, arguments: dict, status: str, text: str
) -> None:
    """D15: what would not be done as it was said is refused, and nothing is loaded."""
    with pytest.raises(InferenceServerException) as caught:
        client.load_model(**{"model_name": "momentum"} | arguments)
    assert caught.value.status() == f"StatusCode.{status}"
    assert text in caught.value.message()
    assert not client.is_model_ready("momentum")


def test_unloading_what_is_not_there_is_told(client: triton.InferenceServerClient) -> None:
    """A model that is not known, or not loaded, cannot be unloaded."""
    with pytest.raises(InferenceServerException, match="nobody") as caught:
        client.unload_model("nobody")
    assert caught.value.status() in {"StatusCode.NOT_FOUND", "StatusCode.FAILED_PRECONDITION"}
    client.load_model("momentum")
    client.unload_model("momentum")
    with pytest.raises(InferenceServerException, match="is not loaded"):
        client.unload_model("momentum")


def test_control_by_files_refuses_both_calls(models: Path) -> None:
    """A21: where files are in control, load and unload say how to start otherwise, and change nothing."""
    with thread_sidecar(models) as sidecar, triton.InferenceServerClient(sidecar.unix) as client:
        for ask in (
            lambda: client.load_model("momentum"),
            lambda: client.load_model("momentum", files={"file:9/model.onnx": score_model("momentum")}),
            lambda: client.unload_model("momentum"),
        ):
            with pytest.raises(InferenceServerException, match="--control explicit") as caught:
                ask()
            assert caught.value.status() == "StatusCode.FAILED_PRECONDITION"
        assert index(client).keys() == {("momentum", "7")}
        assert score(client, "momentum") == 6


def test_unloading_lets_the_calls_in_flight_end(sidecar: ThreadSidecar) -> None:
    """B5: a call that runs when its model is unloaded is answered; no new one reaches the model."""
    slow = {"file:1/model.onnx": endless_model(turns=None)}
    with triton.InferenceServerClient(sidecar.tcp) as client:
        client.load_model("slow", files=slow)
        tensor = triton.InferInput("features", list(ROWS.shape), "FP32")
        tensor.set_data_from_numpy(np.full_like(ROWS, 1e6))  # about a second
        answers: list[object] = []
        ended = threading.Event()

        def take(result: object, error: object) -> None:
            answers.append(error or result)
            ended.set()

        client.async_infer("slow", [tensor], take)
        entry = sidecar.sidecar.registry.resolve("slow")
        eventually(lambda: entry.in_flight or answers, "the call runs")
        client.unload_model("slow")
        assert not client.is_model_ready("slow")
        assert ended.wait(PATIENCE_S)
        assert isinstance(answers[0], triton.InferResult), answers


def test_an_unload_waits_for_the_load_under_way(
    sidecar: ThreadSidecar, caplog: pytest.LogCaptureFixture
) -> None:
    """A16: unloaded while it loads, it is never served; both callers are told once the load has ended."""
    slow = {"file:1/model.onnx": endless_model(turns=100_000)}
    told: list[InferenceServerException | None] = []
    caplog.set_level(logging.INFO)

    def load() -> None:
        with triton.InferenceServerClient(sidecar.tcp) as client:
            try:
                client.load_model("slow", files=slow)
            except InferenceServerException as error:
                told.append(error)
            else:
                told.append(None)

    with triton.InferenceServerClient(sidecar.tcp) as client:
        loading = threading.Thread(target=load)
        loading.start()
        eventually(lambda: index(client).get(("slow", "1"), ("",))[0] == "LOADING", "the load is under way")
        client.unload_model("slow")
        assert " 0 loading" in repr(sidecar.sidecar.reconciler)
        loading.join(PATIENCE_S)
        (error,) = told
        assert error is not None
        assert error.status() == "StatusCode.FAILED_PRECONDITION"
        assert "another load or unload came after this one" in error.message()
        assert not client.is_model_ready("slow")
        assert "available model=slow" not in caplog.text
        client.load_model("slow", files=slow)
        assert client.is_model_ready("slow")


def test_many_clients_load_and_unload_one_model(sidecar: ThreadSidecar) -> None:
    """A14: each call is done or refused with a reason, and what comes last is what holds.

    A thousand times by 32 threads is what the loader takes in test_onnx_servable_sharing.py.
    """
    together = threading.Barrier(8)
    strange: list[str] = []

    def churn() -> None:
        with triton.InferenceServerClient(sidecar.unix) as client:
            together.wait(PATIENCE_S)
            for _ in range(25):
                for ask in (client.load_model, client.unload_model):
                    try:
                        ask("momentum")
                    except InferenceServerException as error:
                        if error.status() != "StatusCode.FAILED_PRECONDITION":
                            strange.append(str(error))

    threads = [threading.Thread(target=churn) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * PATIENCE_S)
        assert not thread.is_alive()
    assert strange == []
    with triton.InferenceServerClient(sidecar.unix) as client:
        client.load_model("momentum")
        assert score(client, "momentum") == 6
        client.unload_model("momentum")
        assert index(client) == {("momentum", "7"): ("UNAVAILABLE", "not loaded; control is explicit")}


def test_an_upload_beyond_the_bound_of_a_message_is_refused(models: Path) -> None:
    """D12: a file bigger than a message may be does not reach the server; what was served goes on."""
    options = ListenerOptions(max_message_bytes=1 << 20)
    with (
        thread_sidecar(models, control="explicit", listener=options) as sidecar,
        grpc.insecure_channel(sidecar.tcp) as channel,
    ):
        call = stub(
            channel, "/inference.GRPCInferenceService/RepositoryModelLoad", oip.RepositoryModelLoadResponse
        )
        request = oip.RepositoryModelLoadRequest(model_name="momentum")
        request.parameters["file:1/model.onnx"].bytes_param = score_model("momentum", padding=1 << 20)
        with pytest.raises(grpc.RpcError) as caught:
            call(request, timeout=PATIENCE_S)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        request.parameters["file:1/model.onnx"].bytes_param = score_model("momentum")
        call(request, timeout=PATIENCE_S)
        assert describe(channel).ready
