"""ONNX models without a contract, of any number of inputs and outputs, asked by `tritonclient`."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from onnx_files import score_model
from plain_models import constant_model, mixed_model
from sidecars import ThreadSidecar, put, stub, thread_sidecar
from tickserve.v1 import predictor_pb2 as wire
from tritonclient.grpc import model_config_pb2
from tritonclient.utils import InferenceServerException

INPUTS = {
    "features": ("FP32", np.array([[1, 2, 3], [4, 5, 6]], dtype=np.float32)),
    "scale": ("FP64", np.array(0.5, dtype=np.float64)),
    "counts": ("INT64", np.array([1, -2, 2**40], dtype=np.int64)),
    "texts": ("BYTES", np.array(["ü".encode(), b"", b"long" * 99], dtype=np.object_)),
    "flags": ("BOOL", np.array([[True, False], [False, False]])),
}
OUTPUTS = ("scaled", "total", "same", "flipped", "half")


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory, served_transport: str) -> Iterator[ThreadSidecar]:
    """Serve the models."""
    models = tmp_path_factory.mktemp("models")
    put(models / "mixed.onnx", mixed_model())
    put(models / "constant.onnx", constant_model())
    with thread_sidecar(models) as running:
        yield running


@pytest.fixture(params=["unix", "tcp"])
def client(sidecar: ThreadSidecar, request: pytest.FixtureRequest) -> Iterator[triton.InferenceServerClient]:
    """A client on each address."""
    with triton.InferenceServerClient(getattr(sidecar, request.param)) as made:
        yield made


def tensors(order: tuple[str, ...] = tuple(INPUTS)) -> list[triton.InferInput]:
    """The inputs, in this order."""
    made = []
    for name in order:
        datatype, array = INPUTS[name]
        tensor = triton.InferInput(name, list(array.shape), datatype)
        made.append(tensor.set_data_from_numpy(array))
    return made


def check(result: triton.InferResult, names: tuple[str, ...] = OUTPUTS) -> None:
    """The outputs of these names are right, and there is no other."""
    features = INPUTS["features"][1]
    expected = {
        "scaled": features.astype(np.float64) * 0.5,
        "total": np.array(2**40 - 1, dtype=np.int64),
        "same": INPUTS["texts"][1],
        "flipped": ~INPUTS["flags"][1],
        "half": features.astype(np.float16),
    }
    response = result.get_response()
    assert [output.name for output in response.outputs] == list(names)
    assert len(response.raw_output_contents) == len(names)
    for name in names:
        array = result.as_numpy(name)
        assert array.dtype == expected[name].dtype
        np.testing.assert_array_equal(array, expected[name], strict=True)


def test_every_input_and_output_travels(client: triton.InferenceServerClient) -> None:
    """Inputs of five dtypes, one without dimensions, in any order; outputs have their dtypes and shapes."""
    check(client.infer("mixed", tensors()))
    check(client.infer("mixed", tensors(tuple(reversed(INPUTS)))))


def test_the_outputs_asked_for_come_in_the_order_asked(client: triton.InferenceServerClient) -> None:
    """Of many outputs only those requested are answered, as they were named."""
    asked = ("total", "flipped", "scaled")
    result = client.infer("mixed", tensors(), outputs=[triton.InferRequestedOutput(name) for name in asked])
    check(result, asked)
    assert result.as_numpy("half") is None


def test_typed_contents_are_taken_too(client: triton.InferenceServerClient) -> None:
    """A client that fills the typed fields instead of raw bytes gets the same answer, raw."""
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    request = service_pb2.ModelInferRequest(model_name="mixed", id="typed")
    fields = {"FP32": "fp32", "FP64": "fp64", "INT64": "int64", "BYTES": "bytes", "BOOL": "bool"}
    for name, (datatype, array) in INPUTS.items():
        tensor = request.inputs.add(name=name, datatype=datatype, shape=array.shape)
        getattr(tensor.contents, f"{fields[datatype]}_contents").extend(array.ravel().tolist())
    service = service_pb2_grpc.GRPCInferenceServiceStub(client._channel)
    response = service.ModelInfer(request, timeout=60)
    assert response.id == "typed"
    check(triton.InferResult(response))


def test_metadata_and_configuration_name_them_all(client: triton.InferenceServerClient) -> None:
    """Every tensor is told with its datatype and shape, which is empty where there is no dimension."""
    metadata = client.get_model_metadata("mixed")
    assert [(each.name, each.datatype, list(each.shape)) for each in metadata.inputs] == [
        ("features", "FP32", [-1, 3]),
        ("scale", "FP64", []),
        ("counts", "INT64", [-1]),
        ("texts", "BYTES", [-1]),
        ("flags", "BOOL", [2, 2]),
    ]
    assert [(each.name, each.datatype, list(each.shape)) for each in metadata.outputs] == [
        ("scaled", "FP64", [-1, 3]),
        ("total", "INT64", []),
        ("same", "BYTES", [-1]),
        ("flipped", "BOOL", [2, 2]),
        ("half", "FP16", [-1, 3]),
    ]
    config = client.get_model_config("mixed").config
    types = [model_config_pb2.DataType.Name(each.data_type) for each in config.input]
    assert types == ["TYPE_FP32", "TYPE_FP64", "TYPE_INT64", "TYPE_STRING", "TYPE_BOOL"]
    assert [list(each.dims) for each in config.output] == [[-1, 3], [], [-1], [2, 2], [-1, 3]]
    assert (config.platform, config.backend, config.max_batch_size) == ("onnxruntime_onnx", "onnxruntime", 0)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda made: made[:-1], "misses input 'flags'"),
        (lambda made: [*made, made[0]], "'features' stands twice"),
        (lambda made: [*made[1:], triton.InferInput("features", [2, 3], "FP64")], "raw_input_contents"),
    ],
)
def test_one_wrong_among_many_is_named(client: triton.InferenceServerClient, change, text: str) -> None:
    """Of several inputs the one that is missing, doubled or without data is told of (D1, D8)."""
    with pytest.raises(InferenceServerException, match=text) as caught:
        client.infer("mixed", change(tensors()))
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"


def test_a_model_without_inputs_is_served_too(
    client: triton.InferenceServerClient, sidecar: ThreadSidecar
) -> None:
    """It is asked with nothing and counted as one row; whatever comes for it is refused by name (D1)."""
    before = sidecar.sidecar.statistics.models.get("constant", {}).get(1)
    rows = before.rows if before else 0
    np.testing.assert_array_equal(client.infer("constant", []).as_numpy("known"), np.float32([1.5, -2.0]))
    assert sidecar.sidecar.statistics.models["constant"][1].rows == rows + 1
    metadata = client.get_model_metadata("constant")
    assert (len(metadata.inputs), [each.name for each in metadata.outputs]) == (0, ["known"])
    with pytest.raises(InferenceServerException, match="has no input 'features'; expected exactly none"):
        client.infer("constant", tensors(("features",)))
    part = wire.PredictPart(model="constant", rows=1, features=bytes(12))
    with grpc.insecure_channel(sidecar.unix) as channel:
        predict = stub(channel, "Predict", wire.PredictResponse)
        [result] = predict(wire.PredictRequest(parts=[part]), timeout=60).parts
    assert result.status.message.endswith("takes 0 inputs (none): expected each by its name, came one array")


def test_only_versions_that_answer_are_named(tmp_path: Path) -> None:
    """A version that was refused is in the index, with its reason, and not in the metadata."""
    put(tmp_path / "two" / "1" / "model.onnx", mixed_model())
    put(tmp_path / "two" / "2" / "model.onnx", score_model("another"))
    with thread_sidecar(tmp_path) as running, triton.InferenceServerClient(running.unix) as client:
        states = {each.version: each.state for each in client.get_model_repository_index().models}
        assert states == {"1": "READY", "2": "UNAVAILABLE"}
        assert list(client.get_model_metadata("two").versions) == ["1"]
