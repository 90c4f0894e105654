"""`tritonclient` against a real sidecar, on the Unix socket and on TCP."""

import queue
import subprocess
import sys
from collections.abc import Iterator

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from onnx_files import score_model
from open_inference.v2 import inference_pb2 as ours
from sidecars import ThreadSidecar, put, stub, thread_sidecar
from tritonclient.grpc import model_config_pb2, service_pb2
from tritonclient.utils import InferenceServerException

from inference_server.core.contract import Contract

ROWS = np.array([[1, 2, 3], [4, 5, 6]], dtype=np.float32)


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory, served_transport: str) -> Iterator[ThreadSidecar]:
    """Serve a model with a contract and one without."""
    models = tmp_path_factory.mktemp("models")
    put(models / "momentum.onnx", score_model("momentum", model_version=7, contract=None))
    put(models / "plain" / "2" / "model.onnx", score_model(None, bias=1.0))
    with thread_sidecar(models) as running:
        yield running


@pytest.fixture(params=["unix", "tcp"])
def client(sidecar: ThreadSidecar, request: pytest.FixtureRequest) -> Iterator[triton.InferenceServerClient]:
    """A client on each address."""
    with triton.InferenceServerClient(getattr(sidecar, request.param)) as made:
        yield made


def features(rows: np.ndarray = ROWS) -> triton.InferInput:
    """The input tensor."""
    tensor = triton.InferInput("features", list(rows.shape), "FP32")
    tensor.set_data_from_numpy(rows)
    return tensor


def test_health_and_readiness(client: triton.InferenceServerClient) -> None:
    """Live, ready, and ready by model and version; an unknown model is not ready, without an error."""
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("momentum")
    assert client.is_model_ready("plain", "2")
    assert not client.is_model_ready("plain", "3")
    assert not client.is_model_ready("nobody")


def test_metadata_and_config(client: triton.InferenceServerClient) -> None:
    """Signature, versions, platform and the contract come as the protocol says."""
    metadata = client.get_model_metadata("momentum")
    assert (metadata.name, list(metadata.versions), metadata.platform) == (
        "momentum",
        ["7"],
        "onnxruntime_onnx",
    )
    assert [(tensor.name, tensor.datatype, list(tensor.shape)) for tensor in metadata.inputs] == [
        ("features", "FP32", [-1, 3])
    ]
    config = client.get_model_config("plain").config
    assert (config.name, config.backend, config.max_batch_size) == ("plain", "onnxruntime", 0)
    assert config.input[0].data_type == model_config_pb2.TYPE_FP32
    assert list(config.output[0].dims) == [-1, 1]
    assert client.get_server_metadata().name == "tickserve"


def test_an_answer_comes_raw_with_version_and_id(client: triton.InferenceServerClient) -> None:
    """A prediction carries the numbers, the version that made them, and the request's id."""
    result = client.infer("plain", [features()], request_id="r1")
    np.testing.assert_array_equal(result.as_numpy("score"), [[7], [16]])
    response = result.get_response()
    assert (response.model_version, response.id) == ("2", "r1")
    assert len(response.parameters["digest"].string_param) == 64


@pytest.mark.parametrize(
    ("call", "status", "text"),
    [
        ({"model_name": "nobody"}, "NOT_FOUND", "nobody"),
        ({"model_version": "9"}, "NOT_FOUND", "version 9"),
        ({"model_version": "01"}, "INVALID_ARGUMENT", "expected an integer above 0, a label"),
        ({"model_version": "canary"}, "NOT_FOUND", "has no label 'canary'"),
        ({"inputs": []}, "INVALID_ARGUMENT", "features"),
        ({"inputs": [features(ROWS[:, :2])]}, "INVALID_ARGUMENT", r"came shape \[2, 2\]"),
        ({"outputs": [triton.InferRequestedOutput("nope")]}, "INVALID_ARGUMENT", "nope"),
        ({"inputs": [features(ROWS * np.nan)], "model_name": "momentum"}, "INVALID_ARGUMENT", "nan"),
        ({"timeout": 1}, "DEADLINE_EXCEEDED", "nothing was run"),
    ],
)
def test_a_wrong_call_gets_its_status_and_a_text(
    client: triton.InferenceServerClient, call: dict, status: str, text: str
) -> None:
    """Each wrong call has the status of the table and says what came (D1 to D5, D11)."""
    with pytest.raises(InferenceServerException, match=text) as caught:
        client.infer(**({"model_name": "plain", "inputs": [features()]} | call))
    assert caught.value.status() == f"StatusCode.{status}"


def test_a_timeout_of_0_is_no_limit_and_a_text_is_none(sidecar: ThreadSidecar) -> None:
    """A client that says 0 means no limit; one that says a word is told what was expected (D15)."""
    request = ours.ModelInferRequest(model_name="plain")
    tensor = request.inputs.add(name="features", datatype="FP32", shape=ROWS.shape)
    tensor.contents.fp32_contents.extend(ROWS.ravel().tolist())
    request.parameters["timeout"].int64_param = 0
    with grpc.insecure_channel(sidecar.unix) as channel:
        call = stub(channel, "/inference.GRPCInferenceService/ModelInfer", ours.ModelInferResponse)
        assert call(request, timeout=60).model_name == "plain"
        request.parameters["timeout"].string_param = "soon"
        with pytest.raises(grpc.RpcError, match="expected int64_param or uint64_param, came string_param"):
            call(request, timeout=60)


def test_a_stream_keeps_order_and_survives_an_error(client: triton.InferenceServerClient) -> None:
    """A bad request on a stream gets its error in-band; those before and after are answered, in order."""
    answers: queue.Queue = queue.Queue()
    client.start_stream(callback=lambda result, error: answers.put((result, error)))
    client.async_stream_infer("plain", [features()], request_id="a")
    client.async_stream_infer("nobody", [features()], request_id="b")
    client.async_stream_infer("plain", [features(ROWS + 1)], request_id="c")
    first, second, third = (answers.get(timeout=60) for _ in range(3))
    client.stop_stream()
    assert (first[0].get_response().id, third[0].get_response().id) == ("a", "c")
    assert second[0] is None
    assert "nobody" in str(second[1])


def test_the_index_has_every_version(client: triton.InferenceServerClient) -> None:
    """The repository index names versions and states in Triton's words."""
    index = client.get_model_repository_index()
    assert [(model.name, model.version, model.state) for model in index.models] == [
        ("momentum", "7", "READY"),
        ("plain", "2", "READY"),
    ]


@pytest.mark.parametrize(
    "order",
    [
        "import tritonclient.grpc; import open_inference.v2.inference_pb2 as ours",
        "import open_inference.v2.inference_pb2 as ours; import tritonclient.grpc",
    ],
)
def test_both_protos_live_in_one_process(order: str) -> None:
    """Importing ours and tritonclient's works in both orders, and both still speak (F9)."""
    code = f"""
{order}
from tritonclient.grpc import service_pb2 as theirs
raw = ours.ModelInferRequest(model_name="m", id="1").SerializeToString()
assert theirs.ModelInferRequest.FromString(raw).model_name == "m"
assert ours.ModelInferRequest.FromString(raw).id == "1"
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def _fields(message: object) -> dict[str, tuple]:
    fields = {}
    for field in message.fields:
        kind = (
            field.message_type.full_name
            if field.message_type
            else field.enum_type and field.enum_type.full_name
        )
        fields[field.name] = (field.number, field.type, field.is_repeated, kind)
    return fields


def test_our_messages_have_the_protocols_numbers() -> None:
    """Every message and field of ours has the number, type and label of Triton's."""
    checked = 0
    theirs = service_pb2.DESCRIPTOR.pool
    todo = list(ours.DESCRIPTOR.message_types_by_name.values())
    while todo:
        message = todo.pop()
        if message.name == "PropertiesEntry":
            continue
        todo += message.nested_types
        known = _fields(theirs.FindMessageTypeByName(message.full_name))
        for name, form in _fields(message).items():
            if (message.name, name) == ("ModelMetadataResponse", "properties"):
                continue  # the Open Inference Protocol has it, Triton's copy has not
            assert known[name] == form, f"{message.full_name}.{name}"
            checked += 1
    assert checked > 80


def test_our_methods_are_the_protocols() -> None:
    """Each RPC of ours exists in Triton's service with the same request and response."""
    service = ours.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    known = service_pb2.DESCRIPTOR.pool.FindServiceByName(service.full_name).methods_by_name
    for method in service.methods:
        other = known[method.name]
        assert (method.input_type.full_name, method.output_type.full_name) == (
            other.input_type.full_name,
            other.output_type.full_name,
        )
        assert (method.client_streaming, method.server_streaming) == (
            other.client_streaming,
            other.server_streaming,
        )


def test_the_contract_travels_in_the_metadata(sidecar: ThreadSidecar) -> None:
    """Digest, contract hash and the contract itself are properties of the model."""
    with grpc.insecure_channel(sidecar.unix) as channel:
        call = stub(channel, "/inference.GRPCInferenceService/ModelMetadata", ours.ModelMetadataResponse)
        properties = call(ours.ModelMetadataRequest(name="momentum"), timeout=60).properties
        assert Contract.from_json(properties["contract"]).hash == properties["contract_hash"]
        assert len(properties["digest"]) == 64
        assert set(call(ours.ModelMetadataRequest(name="plain"), timeout=60).properties) == {"digest"}
