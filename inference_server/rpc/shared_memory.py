"""Triton's `system_shared_memory` extension: registering regions, off unless configured."""

from typing import NoReturn

from google.protobuf.message import Message
from open_inference.v2 import inference_pb2 as oip

from inference_server.adapters.shared_memory import SharedMemory
from inference_server.rpc.method import CallContext, Group, Method, Unary
from inference_server.rpc.open_inference import SERVICE
from inference_server.rpc.status import Code, StatusError


class SystemSharedMemory:
    """The extension's functions. Without `memory` each of them says that it is off."""

    def __init__(self, memory: SharedMemory | None) -> None:
        self._memory = memory

    def methods(self) -> list[Method]:
        """Return the extension's rows of the method table.

        Whoever may ask for predictions may say where the tensors lie.
        """
        rows: list[tuple[str, type[Message], type[Message], Unary]] = [
            (
                "Status",
                oip.SystemSharedMemoryStatusRequest,
                oip.SystemSharedMemoryStatusResponse,
                self.status,
            ),
            (
                "Register",
                oip.SystemSharedMemoryRegisterRequest,
                oip.SystemSharedMemoryRegisterResponse,
                self.register,
            ),
            (
                "Unregister",
                oip.SystemSharedMemoryUnregisterRequest,
                oip.SystemSharedMemoryUnregisterResponse,
                self.unregister,
            ),
        ]
        return [
            Method(f"/{SERVICE}/SystemSharedMemory{name}", request, response, Group.PREDICT, unary=function)
            for name, request, response, function in rows
        ]

    async def status(
        self, request: oip.SystemSharedMemoryStatusRequest, call: CallContext
    ) -> oip.SystemSharedMemoryStatusResponse:
        """Return the region of this name, or all of them."""
        del call
        memory = self._memory or _say_off()
        response = oip.SystemSharedMemoryStatusResponse()
        for name, region in memory.regions(request.name).items():
            status = response.regions[name]
            status.name, status.key = name, region.key
            status.offset, status.byte_size = region.offset, region.byte_size
        return response

    async def register(
        self, request: oip.SystemSharedMemoryRegisterRequest, call: CallContext
    ) -> oip.SystemSharedMemoryRegisterResponse:
        """Let tensors lie in a region from now on."""
        del call
        memory = self._memory or _say_off()
        memory.register(request.name, request.key, request.offset, request.byte_size)
        return oip.SystemSharedMemoryRegisterResponse()

    async def unregister(
        self, request: oip.SystemSharedMemoryUnregisterRequest, call: CallContext
    ) -> oip.SystemSharedMemoryUnregisterResponse:
        """Let go of a region, or of all."""
        del call
        memory = self._memory or _say_off()
        memory.unregister(request.name)
        return oip.SystemSharedMemoryUnregisterResponse()


def _say_off() -> NoReturn:
    raise StatusError(
        Code.UNIMPLEMENTED, "system shared memory is off; the server's configuration can turn it on"
    )
