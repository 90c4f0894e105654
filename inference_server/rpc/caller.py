"""Calls to a sidecar that runs, for the command line: what it serves, and one prediction."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import grpc
import numpy as np
from google.protobuf.message import Message
from tickserve.v1 import predictor_pb2 as wire

from inference_server.rpc.predictor import SERVICE

Response = TypeVar("Response", bound=Message)


# A sidecar that is back is found soon: grpcio's own pause between attempts grows to two minutes.
OPTIONS: Final = (("grpc.max_reconnect_backoff_ms", 1000),)


class CallError(Exception):
    """The sidecar could not be reached, or did not answer; the text is for a person."""


@dataclass(frozen=True, slots=True)
class Caller:
    """One open channel."""

    target: str
    timeout_s: float
    channel: grpc.Channel

    def describe_models(self) -> wire.DescribeModelsResponse:
        """Return what is served."""
        return self._call("DescribeModels", wire.DescribeModelsRequest(), wire.DescribeModelsResponse)

    def predict(self, model: str, version: int, row: Sequence[float]) -> wire.PartResult:
        """Ask for one row of features; version 0 lets the sidecar choose."""
        part = wire.PredictPart(
            model=model, version=version, rows=1, features=np.asarray(row, dtype="<f4").tobytes()
        )
        response = self._call("Predict", wire.PredictRequest(parts=[part]), wire.PredictResponse)
        result = response.parts[0]
        if result.HasField("status"):
            raise CallError(result.status.message)
        return result

    def _call(self, name: str, request: Message, response: type[Response]) -> Response:
        call: grpc.UnaryUnaryMultiCallable[Message, Response] = self.channel.unary_unary(
            f"/{SERVICE}/{name}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=response.FromString,
        )
        try:
            return call(request, timeout=self.timeout_s)
        except grpc.RpcError as error:
            raise CallError(f"{self.target}: {error.code().name}: {error.details()}") from None


@contextlib.contextmanager
def calling(target: str, timeout_s: float) -> Iterator[Caller]:
    """Open a channel to `target` (`unix:/path` or HOST:PORT) for this block."""
    with grpc.insecure_channel(target, options=OPTIONS) as channel:
        yield Caller(target, timeout_s, channel)
