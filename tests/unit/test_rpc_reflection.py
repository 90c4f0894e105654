"""Reflection answers as grpcio's own service does, which cannot be had without importing all of grpcio."""

import asyncio

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha import reflection_pb2 as wire
from grpc_reflection.v1alpha.reflection import ReflectionServicer

from inference_server.rpc import reflection
from inference_server.rpc.method import CallContext
from inference_server.rpc.reflection import FILES, SERVICES, Reflection

OTHERS = ("tickserve.v1.Predictor", "inference.GRPCInferenceService", "grpc.health.v1.Health")
PREDICT = "tickserve.v1.PredictRequest"


def answered(*questions: wire.ServerReflectionRequest) -> list[wire.ServerReflectionResponse]:
    """What ours answers."""

    async def ask() -> list[wire.ServerReflectionResponse]:
        with Reflection(OTHERS).server_reflection_info(CallContext(None, "1")) as answer:
            return [await answer(question) for question in questions]

    return asyncio.run(ask())


def extension(of: str, number: int) -> wire.ServerReflectionRequest:
    """Ask for an extension."""
    asked = wire.ExtensionRequest(containing_type=of, extension_number=number)
    return wire.ServerReflectionRequest(file_containing_extension=asked)


QUESTIONS = (
    wire.ServerReflectionRequest(list_services=""),
    *(
        wire.ServerReflectionRequest(file_containing_symbol=name)
        for name in (*OTHERS, PREDICT, "no.Such", "")
    ),
    *(wire.ServerReflectionRequest(file_by_filename=file.name) for file in FILES),
    wire.ServerReflectionRequest(file_by_filename="no/such.proto"),
    extension(PREDICT, 1),
    extension("no.Such", 1),
    wire.ServerReflectionRequest(all_extension_numbers_of_type=PREDICT),
    wire.ServerReflectionRequest(all_extension_numbers_of_type="no.Such"),
    wire.ServerReflectionRequest(host="nothing is asked"),
)


def test_every_kind_of_question_is_answered_as_by_grpcio() -> None:
    """Lists, files by name and by symbol, extensions, what is not there, and what asks nothing."""
    pool = DescriptorPool()
    for file in FILES:
        pool.AddSerializedFile(file.serialized_pb)
    theirs = ReflectionServicer(service_names=(*OTHERS, *SERVICES), pool=pool)
    for question, answer in zip(QUESTIONS, answered(*QUESTIONS), strict=True):
        assert [answer] == list(theirs.ServerReflectionInfo(iter((question,)), None))


@pytest.mark.parametrize("service", SERVICES)
def test_a_method_is_a_symbol(service: str) -> None:
    """The protocol says so, and grpcio's service finds none."""
    whole, method = answered(
        *(
            wire.ServerReflectionRequest(file_containing_symbol=name)
            for name in (service, f"{service}.ServerReflectionInfo")
        )
    )
    assert method.file_descriptor_response == whole.file_descriptor_response
    assert len(whole.file_descriptor_response.file_descriptor_proto) == 1


def test_a_file_comes_with_what_it_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once each, itself first."""
    pool = DescriptorPool()
    for name, imports in (("a", ""), ("b", "a"), ("c", "ab")):
        pool.Add(FileDescriptorProto(name=name, dependency=imports))
    monkeypatch.setattr(reflection, "FILES", [pool.FindFileByName(name) for name in "abc"])
    monkeypatch.setattr(reflection, "SERVICES", ())
    [answer] = answered(wire.ServerReflectionRequest(file_by_filename="c"))
    files = answer.file_descriptor_response.file_descriptor_proto
    assert [FileDescriptorProto.FromString(file).name for file in files] == ["c", "a", "b"]
