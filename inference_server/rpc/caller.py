"""Calls to a sidecar that runs, for the command line: what it serves, a prediction, an operator's orders."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

import grpc
import numpy as np
from google.protobuf.message import Message
from numpy.typing import NDArray
from open_inference.v2 import inference_pb2 as oip
from tickserve.v1 import control_pb2 as orders
from tickserve.v1 import predictor_pb2 as wire

from inference_server.core.tensor import Array
from inference_server.rpc import control, open_inference, predictor
from inference_server.rpc.address import Address
from inference_server.rpc.codec import decode_raw
from inference_server.rpc.listener import ListenerOptions
from inference_server.rpc.proof import NO_PROOF, Proof, ProofError
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


# What stands in that account of a connection which is not trusted, and what it means.
TROUBLES: Final = {
    "CERTIFICATE_VERIFY_FAILED: certificate has expired": "its certificate has expired",
    "CERTIFICATE_VERIFY_FAILED": "its certificate is not issued by one of --ca",
    "Hostname Verification Check failed": "its certificate is for another name than this",
    "WRONG_VERSION_NUMBER": "it speaks no TLS there",
    "Socket closed": "it closed the connection; it may speak TLS only, or want a certificate of this caller",
}


class CallError(Exception):
    """The sidecar could not be reached, or did not answer as asked; the text is for a person."""


@dataclass(frozen=True, slots=True)
class Caller:
    """One open channel. Every call raises CallError where it does not end well."""

    target: str
    timeout_s: float
    channel: grpc.Channel
    metadata: tuple[tuple[str, str], ...] = ()

    def describe_models(self) -> wire.DescribeModelsResponse:
        """Return what is served."""
        path = f"{predictor.SERVICE}/DescribeModels"
        return self._call(path, wire.DescribeModelsRequest(), wire.DescribeModelsResponse)

    def predict(
        self, model: str, which: Which, rows: NDArray[np.float32], contract_hash: str = ""
    ) -> wire.PartResult:
        """Ask a version or a label for answers to rows, shape (rows, n_features); 0 lets the sidecar choose.

        With a contract's hash, a version of another contract does not answer.
        """
        features = np.asarray(rows, dtype="<f4").tobytes()
        part = wire.PredictPart(model=model, rows=len(rows), features=features, contract_hash=contract_hash)
        if isinstance(which, str):
            part.label = which
        else:
            part.version = which
        request = wire.PredictRequest(parts=[part])
        result = self._call(f"{predictor.SERVICE}/Predict", request, wire.PredictResponse).parts[0]
        if result.HasField("status"):
            raise CallError(result.status.message)
        return result

    def statistics(self) -> oip.ModelStatisticsResponse:
        """Return what is counted of the calls of every version."""
        path = f"{open_inference.SERVICE}/ModelStatistics"
        return self._call(path, oip.ModelStatisticsRequest(), oip.ModelStatisticsResponse)

    def model_properties(self, model: str, version: int) -> Mapping[str, str]:
        """Return what an available version tells of itself beyond the protocol: digest, contract."""
        request = oip.ModelMetadataRequest(name=model, version=str(version))
        path = f"{open_inference.SERVICE}/ModelMetadata"
        return self._call(path, request, oip.ModelMetadataResponse).properties

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
            return call(request, timeout=self.timeout_s, metadata=self.metadata)
        except grpc.RpcError as error:
            raise CallError(self._told(error)) from None

    def _told(self, error: grpc.RpcError) -> str:
        code, details = error.code(), error.details() or ""
        if code in ANSWERS:
            return details
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return f"{self.target}: no answer within {self.timeout_s:g} s"
        if details.startswith(UNREACHABLE):
            cause = next((told for mark, told in TROUBLES.items() if mark in details), "")
            cause = cause or details.rpartition(": ")[2].rstrip("]")
            return f"{self.target}: no sidecar can be reached there: {cause}"
        return f"{self.target}: {code.name}: {details}"


def output_array(tensor: wire.Tensor) -> Array:
    """Return an output's values; BF16, which numpy has not, as float32, and BYTES as texts."""
    array = decode_raw(tensor.name, tensor.datatype, tuple(tensor.shape), tensor.raw)
    if tensor.datatype == "BF16":
        return (array["bf16"].astype(np.uint32) << np.uint32(16)).view(np.float32)
    if tensor.datatype == "BYTES":
        texts = [element.decode(errors="replace") for element in array.flat]
        return np.array(texts, dtype=np.object_).reshape(array.shape)
    return array


@contextlib.contextmanager
def calling(target: str, timeout_s: float, proof: Proof = NO_PROOF) -> Iterator[Caller]:
    """Open a channel to `target` (`unix:/path` or HOST:PORT) for this block.

    ProofError where certificates or a token cannot be used.
    """
    credentials, metadata = proof.credentials(), proof.metadata()
    if credentials is None or target.startswith("unix:"):
        if metadata and not Address.parse(target).is_local:
            raise ProofError(f"{target}: the token would be sent in plaintext; say --ca, for TLS")
        channel = grpc.insecure_channel(target, options=OPTIONS)
    else:
        channel = grpc.secure_channel(target, credentials, options=OPTIONS)
    with channel:
        yield Caller(target, timeout_s, channel, metadata)
