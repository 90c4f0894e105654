"""Calls to a sidecar that runs, for the command line: what it serves, a prediction, an operator's orders."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import grpc
import numpy as np
from google.protobuf.message import Message
from open_inference.v2 import inference_pb2 as oip
from tickserve.v1 import control_pb2 as orders
from tickserve.v1 import predictor_pb2 as wire

from inference_server.rpc import control, open_inference, predictor
from inference_server.rpc.listener import ListenerOptions
from inference_server.serving.registry import Which

Response = TypeVar("Response", bound=Message)

# A sidecar that is back is found soon: grpcio's own pause between attempts grows to two minutes. And what is
# said of a thousand models may be longer than grpcio's own bound of 4 MiB.
OPTIONS: Final = (
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.max_receive_message_length", ListenerOptions().max_message_bytes),
)
# What the sidecar says of the order itself; any other status is of the way there.
ANSWERS: Final = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
)
# How grpcio's own account of a connection that was not made begins; its end names the cause.
UNREACHABLE: Final = ("failed to connect to all addresses", "errors resolving")


class CallError(Exception):
    """The sidecar could not be reached, or did not answer as asked; the text is for a person."""


@dataclass(frozen=True, slots=True)
class Caller:
    """One open channel. Every call raises CallError where it does not end well."""

    target: str
    timeout_s: float
    channel: grpc.Channel

    def describe_models(self) -> wire.DescribeModelsResponse:
        """Return what is served."""
        path = f"{predictor.SERVICE}/DescribeModels"
        return self._call(path, wire.DescribeModelsRequest(), wire.DescribeModelsResponse)

    def predict(self, model: str, which: Which, row: Sequence[float]) -> wire.PartResult:
        """Ask for one row of features of a version or a label; 0 lets the sidecar choose."""
        part = wire.PredictPart(model=model, rows=1, features=np.asarray(row, dtype="<f4").tobytes())
        if isinstance(which, str):
            part.label = which
        else:
            part.version = which
        request = wire.PredictRequest(parts=[part])
        result = self._call(f"{predictor.SERVICE}/Predict", request, wire.PredictResponse).parts[0]
        if result.HasField("status"):
            raise CallError(result.status.message)
        return result

    def rollback(self, model: str) -> orders.RollbackResponse:
        """Go back to what was served before."""
        request = orders.RollbackRequest(model=model)
        return self._call(f"{control.SERVICE}/Rollback", request, orders.RollbackResponse)

    def resume(self, model: str) -> None:
        """Let what lies in the repository count again."""
        self._call(f"{control.SERVICE}/Resume", orders.ResumeRequest(model=model), orders.ResumeResponse)

    def set_label(self, model: str, label: str, version: int) -> None:
        """Let a label name a version."""
        request = orders.SetLabelRequest(model=model, label=label, version=version)
        self._call(f"{control.SERVICE}/SetLabel", request, orders.SetLabelResponse)

    def delete_label(self, model: str, label: str) -> None:
        """Take a label away."""
        request = orders.DeleteLabelRequest(model=model, label=label)
        self._call(f"{control.SERVICE}/DeleteLabel", request, orders.DeleteLabelResponse)

    def load(self, model: str, uploads: Mapping[int, bytes]) -> None:
        """Load a model from these files by version, or where there is none from the repository."""
        request = oip.RepositoryModelLoadRequest(model_name=model)
        for version, content in uploads.items():
            request.parameters[f"file:{version}/model.onnx"].bytes_param = content
        path = f"{open_inference.SERVICE}/RepositoryModelLoad"
        self._call(path, request, oip.RepositoryModelLoadResponse)

    def unload(self, model: str) -> None:
        """Take a model out of service."""
        request = oip.RepositoryModelUnloadRequest(model_name=model)
        path = f"{open_inference.SERVICE}/RepositoryModelUnload"
        self._call(path, request, oip.RepositoryModelUnloadResponse)

    def _call(self, path: str, request: Message, response: type[Response]) -> Response:
        call: grpc.UnaryUnaryMultiCallable[Message, Response] = self.channel.unary_unary(
            f"/{path}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=response.FromString,
        )
        try:
            return call(request, timeout=self.timeout_s)
        except grpc.RpcError as error:
            raise CallError(self._told(error)) from None

    def _told(self, error: grpc.RpcError) -> str:
        code, details = error.code(), error.details() or ""
        if code in ANSWERS:
            return details
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return f"{self.target}: no answer within {self.timeout_s:g} s"
        if details.startswith(UNREACHABLE):
            cause = details.rpartition(": ")[2].rstrip("]")
            return f"{self.target}: no sidecar can be reached there: {cause}"
        return f"{self.target}: {code.name}: {details}"


@contextlib.contextmanager
def calling(target: str, timeout_s: float) -> Iterator[Caller]:
    """Open a channel to `target` (`unix:/path` or HOST:PORT) for this block."""
    with grpc.insecure_channel(target, options=OPTIONS) as channel:
        yield Caller(target, timeout_s, channel)
