"""`tickserve.v1.Control`: what an operator decides by hand; the .proto says what each RPC does."""

from typing import Final

from google.protobuf.message import Message
from tickserve.v1 import control_pb2 as wire

from inference_server.core.errors import InvalidRequestError
from inference_server.rpc.method import CallContext, Group, Method, Unary
from inference_server.serving.operator import Operator

SERVICE: Final = "tickserve.v1.Control"


class Control:
    """The service's functions."""

    def __init__(self, operator: Operator) -> None:
        self._operator = operator

    def methods(self) -> list[Method]:
        """Return the service's rows of the method table."""
        rows: list[tuple[str, type[Message], type[Message], Unary]] = [
            ("Rollback", wire.RollbackRequest, wire.RollbackResponse, self.rollback),
            ("Resume", wire.ResumeRequest, wire.ResumeResponse, self.resume),
            ("SetLabel", wire.SetLabelRequest, wire.SetLabelResponse, self.set_label),
            ("DeleteLabel", wire.DeleteLabelRequest, wire.DeleteLabelResponse, self.delete_label),
        ]
        return [
            Method(f"/{SERVICE}/{name}", request, response, Group.CONTROL, unary=function)
            for name, request, response, function in rows
        ]

    async def rollback(self, request: wire.RollbackRequest, call: CallContext) -> wire.RollbackResponse:
        """Go back to what unversioned requests got before."""
        del call
        done = await self._operator.rollback(request.model)
        return wire.RollbackResponse(
            from_version=done.back_from.version,
            from_digest=done.back_from.digest,
            to_version=done.back_to.version,
            to_digest=done.back_to.digest,
            moved_labels=sorted(done.moved_labels),
        )

    async def resume(self, request: wire.ResumeRequest, call: CallContext) -> wire.ResumeResponse:
        """Let what lies in the repository count again."""
        del call
        await self._operator.resume(request.model)
        return wire.ResumeResponse()

    async def set_label(self, request: wire.SetLabelRequest, call: CallContext) -> wire.SetLabelResponse:
        """Let a label name an available version."""
        del call
        if request.version < 1:
            raise InvalidRequestError(f"version: expected an integer above 0, came {request.version}")
        await self._operator.set_label(request.model, request.label, request.version)
        return wire.SetLabelResponse()

    async def delete_label(
        self, request: wire.DeleteLabelRequest, call: CallContext
    ) -> wire.DeleteLabelResponse:
        """Take a label away."""
        del call
        await self._operator.remove_label(request.model, request.label)
        return wire.DeleteLabelResponse()
