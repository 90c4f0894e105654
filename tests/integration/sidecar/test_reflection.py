"""Calls by reflection alone: a client without any `.proto` or compiled code of ours finds all it needs."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from fetched import CannotRunError
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpcurl import Grpcurl, grpcurl
from onnx_files import score_model
from sidecars import ThreadSidecar, put, stub, thread_sidecar

SERVICES = {
    "tickserve.v1.Predictor",
    "tickserve.v1.Control",
    "inference.GRPCInferenceService",
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
}
ROWS = np.array([[1, 2, 3], [4, 5, 6]], dtype="<f4")
SCORES = np.array([[6], [15]], dtype="<f4")


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory, served_transport: str) -> Iterator[ThreadSidecar]:
    """Serve one model."""
    models = tmp_path_factory.mktemp("models")
    put(models / "momentum.onnx", score_model("momentum"))
    with thread_sidecar(models) as running:
        yield running


@pytest.fixture(params=["unix", "tcp"])
def channel(sidecar: ThreadSidecar, request: pytest.FixtureRequest) -> Iterator[grpc.Channel]:
    """A channel to each address."""
    with grpc.insecure_channel(getattr(sidecar, request.param)) as made:
        yield made


class Dynamic:
    """A client made of what the server says of itself, and nothing else."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel
        self._pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))

    def __call__(self, service: str, name: str, request: dict[str, Any]) -> dict[str, Any]:
        """Call a unary method with JSON, as grpcurl does."""
        method = self._pool.FindServiceByName(service).FindMethodByName(name)
        kind, answer = map(message_factory.GetMessageClass, (method.input_type, method.output_type))
        call = self._channel.unary_unary(
            f"/{service}/{name}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer.FromString,
        )
        return json_format.MessageToDict(
            call(json_format.ParseDict(request, kind()), timeout=60), preserving_proto_field_name=True
        )


def infer_request() -> dict[str, Any]:
    """A ModelInfer request in JSON."""
    return {
        "model_name": "momentum",
        "id": "dynamic",
        "inputs": [{"name": "features", "datatype": "FP32", "shape": [2, 3]}],
        "raw_input_contents": [base64.b64encode(ROWS.tobytes()).decode()],
    }


def check_infer(answer: dict[str, Any]) -> None:
    """The answer to it, in JSON, with either way of writing names."""
    told = {key.lower().replace("_", ""): value for key, value in answer.items()}
    assert (told["modelname"], told["modelversion"], told["id"]) == ("momentum", "1", "dynamic")
    assert base64.b64decode(told["rawoutputcontents"][0]) == SCORES.tobytes()


def test_every_service_is_listed(channel: grpc.Channel) -> None:
    """The list has each service on the port, reflection under both of its names."""
    assert set(ProtoReflectionDescriptorDatabase(channel).get_services()) == SERVICES


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_both_versions_of_reflection_answer(channel: grpc.Channel, version: str) -> None:
    """Old and new clients get the same list, the same files, and an error in-band for what is not there."""
    ask = stub(
        channel,
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        reflection_pb2.ServerReflectionResponse,
        kind="stream_stream",
    )
    method = "inference.GRPCInferenceService.ModelInfer"
    questions = [
        reflection_pb2.ServerReflectionRequest(list_services="*"),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="inference.GRPCInferenceService"),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol=method),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="inference.Nothing"),
    ]
    listed, file, same, nothing = ask(iter(questions), timeout=60)
    assert {service.name for service in listed.list_services_response.service} == SERVICES
    assert len(file.file_descriptor_response.file_descriptor_proto) == 1
    assert same.file_descriptor_response == file.file_descriptor_response
    assert same.original_request.file_containing_symbol == method
    assert nothing.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


def test_the_standard_protocol_is_called_by_reflection(channel: grpc.Channel) -> None:
    """A client without our code asks for a prediction by the Open Inference Protocol."""
    call = Dynamic(channel)
    check_infer(call("inference.GRPCInferenceService", "ModelInfer", infer_request()))
    metadata = call("inference.GRPCInferenceService", "ModelMetadata", {"name": "momentum"})
    assert metadata["inputs"] == [{"name": "features", "datatype": "FP32", "shape": ["-1", "3"]}]


def test_our_own_protocol_is_called_by_reflection(channel: grpc.Channel) -> None:
    """And by ours, and by that of health."""
    call = Dynamic(channel)
    part = {"model": "momentum", "rows": 2, "features": base64.b64encode(ROWS.tobytes()).decode()}
    answer = call("tickserve.v1.Predictor", "Predict", {"id": "7", "parts": [part]})
    [told] = answer["parts"]
    [output] = told["outputs"]
    assert base64.b64decode(output["raw"]) == SCORES.tobytes()
    assert call("grpc.health.v1.Health", "Check", {}) == {"status": "SERVING"}


def test_every_method_can_be_resolved(channel: grpc.Channel) -> None:
    """Each method of each service has its messages among the files that reflection gives."""
    pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
    for service in SERVICES:
        methods = pool.FindServiceByName(service).methods
        assert methods
        for method in methods:
            for kind in (method.input_type, method.output_type):
                assert message_factory.GetMessageClass(kind)().ByteSize() == 0


@pytest.fixture(scope="module")
def program() -> Grpcurl:
    """The program, or a skip that says why there is none."""
    try:
        return grpcurl()
    except CannotRunError as error:
        pytest.skip(str(error))


def told(program: Grpcurl, *arguments: str) -> str:
    """What grpcurl prints where all is well."""
    done = program.run(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_grpcurl_lists_and_describes(program: Grpcurl, sidecar: ThreadSidecar) -> None:
    """`grpcurl list` and `describe` need nothing but the address."""
    assert set(told(program, sidecar.tcp, "list").split()) == SERVICES
    assert "is a service" in told(program, sidecar.tcp, "describe")
    described = told(program, sidecar.tcp, "describe", "inference.GRPCInferenceService.ModelStatistics")
    assert ".inference.ModelStatisticsRequest" in described


def test_grpcurl_asks_for_predictions(program: Grpcurl, sidecar: ThreadSidecar) -> None:
    """`grpcurl -d` gets an answer over TCP and over the Unix socket, and the status of a wrong call."""
    request = json.dumps(infer_request())
    method = "inference.GRPCInferenceService/ModelInfer"
    check_infer(json.loads(told(program, "-d", request, sidecar.tcp, method)))
    path = sidecar.unix.removeprefix("unix:")
    # It takes the path for the name of the host, which is none; grpcio does not look.
    named = ("-authority", "localhost", "-unix")
    check_infer(json.loads(told(program, *named, "-d", request, path, method)))
    assert json.loads(told(program, sidecar.tcp, "grpc.health.v1.Health/Check")) == {"status": "SERVING"}
    refused = program.run("-d", '{"model_name": "nobody"}', sidecar.tcp, method)
    assert refused.returncode
    assert "Code: NotFound" in refused.stderr
