"""Server reflection, v1 and v1alpha, over the descriptors of every service on the port.

Our copy of `inference.*` lives in a descriptor pool of its own, so reflection gets one pool into which the
files of all services are put together. Two things are added to what grpcio's answers by itself: the file of
its own v1, and that a method is a symbol too, as the protocol says.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, Final, cast

from google.protobuf import text_format
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.reflection import ReflectionServicer
from open_inference.v2 import inference_pb2
from tickserve.v1 import control_pb2, predictor_pb2

from inference_server.rpc.method import CallContext, Group, Method

FILES: Final[Sequence[FileDescriptor]] = (
    predictor_pb2.DESCRIPTOR,
    control_pb2.DESCRIPTOR,
    inference_pb2.DESCRIPTOR,
    health_pb2.DESCRIPTOR,
    reflection_pb2.DESCRIPTOR,
)
# The messages of v1 and v1alpha are the same on the wire.
SERVICES: Final = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")


class Reflection:
    """The service's one function, under both of its names. `services` are the others on the port."""

    def __init__(self, services: Sequence[str]) -> None:
        pool = DescriptorPool()
        for file in FILES:
            pool.AddSerializedFile(file.serialized_pb)
        pool.Add(_version_1())
        self._services = {
            method.full_name: method.containing_service.full_name
            for service in (*services, *SERVICES)
            for method in pool.FindServiceByName(service).methods
        }
        # Its published types say that it returns nothing.
        self._answer: Callable[[Iterator[Any], Any], Iterator[Any]] = cast(
            "Any", ReflectionServicer(service_names=(*services, *SERVICES), pool=pool)
        ).ServerReflectionInfo

    def methods(self) -> list[Method]:
        """Return the service's rows of the method table."""
        return [
            Method(
                f"/{service}/ServerReflectionInfo",
                reflection_pb2.ServerReflectionRequest,
                reflection_pb2.ServerReflectionResponse,
                Group.OPEN,
                bidirectional=self.server_reflection_info,
            )
            for service in SERVICES
        ]

    async def server_reflection_info(
        self, requests: AsyncIterator[Any], call: CallContext
    ) -> AsyncIterator[reflection_pb2.ServerReflectionResponse]:
        """Answer each question about the descriptors, in order."""
        async for request in requests:
            asked = reflection_pb2.ServerReflectionRequest()
            asked.CopyFrom(request)
            service = self._services.get(request.file_containing_symbol)
            if service is not None:  # the pool finds no methods
                asked.file_containing_symbol = service
            for response in self._answer(iter((asked,)), call):
                response.original_request.CopyFrom(request)
                yield response


def _version_1() -> FileDescriptorProto:
    """Return the file of v1, which grpcio does not bring: that of v1alpha under the other name."""
    file = FileDescriptorProto.FromString(reflection_pb2.DESCRIPTOR.serialized_pb)
    return text_format.Parse(
        text_format.MessageToString(file).replace("v1alpha", "v1"), FileDescriptorProto()
    )
