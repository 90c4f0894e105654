"""Server reflection, v1 and v1alpha, over the descriptors of every service on the port.

Our copy of `inference.*` lives in a descriptor pool of its own, so reflection gets one pool into which the
files of all services are put together. It is made for the first question, as most sidecars are never asked.
The messages are those that grpcio brings; the answers are ours, for its own need all of grpcio.
"""

import functools
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Final

from google.protobuf import text_format
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2 as wire
from open_inference.v2 import inference_pb2
from tickserve.v1 import control_pb2, predictor_pb2

from inference_server.rpc.method import CallContext, Group, Method
from inference_server.rpc.status import Code

if TYPE_CHECKING:  # at run time with the first question
    from google.protobuf.descriptor_pb2 import FileDescriptorProto

FILES: Final[Sequence[FileDescriptor]] = (
    predictor_pb2.DESCRIPTOR,
    control_pb2.DESCRIPTOR,
    inference_pb2.DESCRIPTOR,
    health_pb2.DESCRIPTOR,
    wire.DESCRIPTOR,
)
# The messages of v1 and v1alpha are the same on the wire.
SERVICES: Final = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")


class Reflection:
    """The service's one function, under both of its names. `services` are the others on the port."""

    def __init__(self, services: Sequence[str]) -> None:
        self._services = sorted((*services, *SERVICES))

    def methods(self) -> list[Method]:
        """Return the service's rows of the method table."""
        return [
            Method(
                f"/{service}/ServerReflectionInfo",
                wire.ServerReflectionRequest,
                wire.ServerReflectionResponse,
                Group.OPEN,
                each=self.server_reflection_info,
            )
            for service in SERVICES
        ]

    def server_reflection_info(
        self, call: CallContext
    ) -> AbstractContextManager[Callable[[Any], Awaitable[wire.ServerReflectionResponse]]]:
        """Answer each question about the descriptors, in order. What is not there is told in an answer."""
        del call

        async def answer(request: Any) -> wire.ServerReflectionResponse:
            try:
                response = self._answer(request)
            except KeyError:
                response = _error(Code.NOT_FOUND, "not found")
            response.original_request.CopyFrom(request)
            return response

        return nullcontext(answer)

    def _answer(self, request: wire.ServerReflectionRequest) -> wire.ServerReflectionResponse:
        match request.WhichOneof("message_request"):
            case "list_services":
                names = [wire.ServiceResponse(name=name) for name in self._services]
                return wire.ServerReflectionResponse(
                    list_services_response=wire.ListServiceResponse(service=names)
                )
            case "file_by_filename":
                return _files(self._pool.FindFileByName(request.file_by_filename))
            case "file_containing_symbol":
                symbol = request.file_containing_symbol
                # A method is a symbol too, and the pool finds none.
                return _files(self._pool.FindFileContainingSymbol(self._methods.get(symbol, symbol)))
            case "file_containing_extension":
                asked = request.file_containing_extension
                extended = self._pool.FindMessageTypeByName(asked.containing_type)
                extension = self._pool.FindExtensionByNumber(extended, asked.extension_number)
                return _files(self._pool.FindFileContainingSymbol(extension.full_name))
            case "all_extension_numbers_of_type":
                extended = self._pool.FindMessageTypeByName(request.all_extension_numbers_of_type)
                numbers = sorted(it.number for it in self._pool.FindAllExtensions(extended))
                return wire.ServerReflectionResponse(
                    all_extension_numbers_response=wire.ExtensionNumberResponse(
                        base_type_name=extended.full_name, extension_number=numbers
                    )
                )
            case _:
                return _error(Code.INVALID_ARGUMENT, "invalid argument")

    @functools.cached_property
    def _pool(self) -> DescriptorPool:
        pool = DescriptorPool()
        for file in FILES:
            pool.AddSerializedFile(file.serialized_pb)
        pool.AddSerializedFile(_version_1().SerializeToString())
        return pool

    @functools.cached_property
    def _methods(self) -> dict[str, str]:
        """The service of each method, both by their full names."""
        return {
            method.full_name: service
            for service in self._services
            for method in self._pool.FindServiceByName(service).methods
        }


def _files(file: FileDescriptor) -> wire.ServerReflectionResponse:
    """Return a file and all that it imports, it first."""
    found = {each.name: each.serialized_pb for each in _with_imports(file)}
    return wire.ServerReflectionResponse(
        file_descriptor_response=wire.FileDescriptorResponse(file_descriptor_proto=list(found.values()))
    )


def _with_imports(file: FileDescriptor) -> Iterator[FileDescriptor]:
    yield file
    for imported in file.dependencies:
        yield from _with_imports(imported)


def _error(code: Code, text: str) -> wire.ServerReflectionResponse:
    return wire.ServerReflectionResponse(
        error_response=wire.ErrorResponse(error_code=code, error_message=text)
    )


def _version_1() -> "FileDescriptorProto":
    """Return the file of v1, which grpcio does not bring: that of v1alpha under the other name."""
    from google.protobuf.descriptor_pb2 import FileDescriptorProto  # noqa: PLC0415 - few are ever asked

    file = FileDescriptorProto.FromString(wire.DESCRIPTOR.serialized_pb)
    return text_format.Parse(
        text_format.MessageToString(file).replace("v1alpha", "v1"), FileDescriptorProto()
    )
