"""The methods of `tickserve.v1.Predictor`, and how grpcio calls them, on a channel that can be replaced."""

import threading
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, TypeVar

import grpc
from tickserve.v1 import predictor_pb2 as pb

from strategy_client.predictor.codec import Reply
from strategy_client.predictor.port import Question
from strategy_client.predictor.session import Session, Verdicts
from strategy_client.predictor.status import describe_error
from strategy_client.predictor.stream import PredictSession

SERVICE: Final = "/tickserve.v1.Predictor/"
# No model can have this name, so the answer is empty; that it comes is all we want to know.
NOBODY: Final = "-"
TROUBLE_TIMEOUT_S: Final = 0.25

Answer_co = TypeVar("Answer_co", covariant=True)


class UnaryFuture(Protocol[Answer_co]):
    """A question that is on its way, or will be when its result is wanted."""

    def cancel(self) -> object:
        """End it; `result` raises grpc.FutureCancelledError."""
        ...

    def result(self) -> Answer_co:
        """Return the answer; raises as the method does."""
        ...


class UnaryMethod(Protocol[Answer_co]):
    """A method that answers one question once.

    Raises grpc.RpcError, with `code` and `details`, for every end but OK, and ValueError once the stub is
    closed. `timeout` is in seconds; with `wait_for_ready` a sidecar that is not there is waited for.
    """

    def __call__(self, request: Any, *, timeout: float, wait_for_ready: bool = False) -> Answer_co:
        """Ask and wait."""
        ...

    def future(self, request: Any, *, timeout: float, wait_for_ready: bool = False) -> UnaryFuture[Answer_co]:
        """Ask, and go on."""
        ...


class Stub(Protocol):
    """The sidecar's methods, over whichever transport; see proto/tickserve/v1/predictor.proto."""

    def predict(self, request: bytes, questions: Sequence[Question], timeout_s: float) -> Reply:
        """Ask models, once, by a PredictRequest of these questions; raises as a `UnaryMethod` does."""
        ...

    @property
    def describe_models(self) -> UnaryMethod[pb.DescribeModelsResponse]:
        """Ask what is served."""
        ...

    def open_session(self, verdicts: Verdicts, on_end: Callable[[Session, str], None]) -> Session:
        """Open the stream of questions. Raises grpc.RpcError where it is known at once that it cannot be."""
        ...

    def trouble(self) -> str:
        """Say why there is no connection; empty where there is one, or where it is not known."""
        ...

    def reopen(self) -> None:
        """Connect anew; calls under way fail."""
        ...

    def close(self) -> None:
        """Fail all calls, for good. May be called twice."""
        ...


class PredictorStub:
    """A `Stub` over grpcio: one callable a method."""

    def __init__(self, open_channel: Callable[[], grpc.Channel]) -> None:
        self._open_channel = open_channel
        self._lock = threading.Lock()
        self._closed = False
        self._take(open_channel())

    def reopen(self) -> None:
        """Take another channel in the place of this one, whose calls fail; nothing after `close`."""
        with self._lock:
            if not self._closed:
                channel = self._channel
                self._take(self._open_channel())
                channel.close()

    def close(self) -> None:
        """Fail all calls, for good. May be called twice."""
        with self._lock:
            self._closed = True
            self._channel.close()

    def _take(self, channel: grpc.Channel) -> None:
        self._channel = channel
        self._predict = channel.unary_unary(
            SERVICE + "Predict",
            request_serializer=None,
            response_deserializer=pb.PredictResponse.FromString,
        )
        self._predict_stream = channel.stream_stream(
            SERVICE + "PredictStream",
            request_serializer=None,
            response_deserializer=pb.PredictResponse.FromString,
        )
        self.describe_models = channel.unary_unary(
            SERVICE + "DescribeModels",
            request_serializer=pb.DescribeModelsRequest.SerializeToString,
            response_deserializer=pb.DescribeModelsResponse.FromString,
        )

    def predict(self, request: bytes, _: Sequence[Question], timeout_s: float) -> Reply:
        """Ask models, once, by a PredictRequest's bytes."""
        response: pb.PredictResponse = self._predict(request, timeout=timeout_s)
        return response

    def open_session(self, verdicts: Verdicts, on_end: Callable[[Session, str], None]) -> Session:
        """Open the stream of questions; grpcio tells of its failure later, by `on_end`."""
        return PredictSession(self._predict_stream, verdicts, on_end)

    def trouble(self) -> str:
        """Say why there is no connection; empty where there is one, or where it is not known."""
        return trouble_of(self.describe_models)


def trouble_of(describe_models: UnaryMethod[pb.DescribeModelsResponse]) -> str:
    """Say why there is no connection; empty where there is one, or where it is not known.

    A call that waited for a connection is only told that time is up; one that does not wait is told why.
    """
    try:
        describe_models(pb.DescribeModelsRequest(models=[NOBODY]), timeout=TROUBLE_TIMEOUT_S)
    except grpc.RpcError as error:
        return describe_error(error) if error.code() is grpc.StatusCode.UNAVAILABLE else ""
    except ValueError:
        return "the client is closed"  # how gRPC says that the channel was, meanwhile
    return ""
