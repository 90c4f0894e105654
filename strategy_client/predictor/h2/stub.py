"""The methods of `tickserve.v1.Predictor` over a local socket."""

from collections.abc import Callable, Sequence
from typing import Final, Generic, Protocol, TypeVar

import grpc
from google.protobuf.message import DecodeError
from tickserve.v1 import predictor_pb2 as pb

from strategy_client.predictor.codec import Reply, read_at_sight
from strategy_client.predictor.h2.channel import Channel, Metadata, UnaryCall
from strategy_client.predictor.h2.exchange import CallError
from strategy_client.predictor.h2.headers import Ending
from strategy_client.predictor.h2.place import Place
from strategy_client.predictor.h2.session import SocketSession
from strategy_client.predictor.h2.wire import LostConnectionError
from strategy_client.predictor.port import Question
from strategy_client.predictor.session import Session, Verdicts
from strategy_client.predictor.stub import SERVICE, trouble_of

PREDICT: Final = (SERVICE + "Predict").encode("ascii")


class Writes(Protocol):
    """A message that is asked with."""

    def SerializeToString(self) -> bytes:  # noqa: N802 - protobuf's name
        """Return its bytes."""
        ...


Answer = TypeVar("Answer")


class UnaryFuture(Generic[Answer]):
    """A question whose answer is read when somebody wants it."""

    def __init__(self, call: UnaryCall, read: Callable[[bytes], Answer]) -> None:
        self._call = call
        self._read = read

    def cancel(self) -> None:
        """End it; `result` raises grpc.FutureCancelledError."""
        self._call.cancel()

    def result(self) -> Answer:
        """Return the answer; raises as the method does."""
        return _read(self._read, self._call.result())


class UnaryMethod(Generic[Answer]):
    """A method that answers one question once, with grpcio's way to call it."""

    def __init__(self, channel: Channel, name: str, read: Callable[[bytes], Answer]) -> None:
        self._channel = channel
        self._path = (SERVICE + name).encode("ascii")
        self._read = read

    def __call__(self, request: Writes, timeout: float, wait_for_ready: bool = False) -> Answer:
        """Ask and wait. Raises CallError for every end but OK, ValueError once the stub is closed."""
        return self.future(request, timeout, wait_for_ready).result()

    def future(self, request: Writes, timeout: float, wait_for_ready: bool = False) -> UnaryFuture[Answer]:
        """Return the question, which is asked by whoever wants its result."""
        message = request.SerializeToString()
        call = UnaryCall(self._channel, self._path, message, timeout, wait_for_ready=wait_for_ready)
        return UnaryFuture(call, self._read)


class SocketStub:
    """One callable a method, as `stub.PredictorStub`; see proto/tickserve/v1/predictor.proto."""

    def __init__(self, target: str, metadata: Metadata) -> None:
        self._channel = Channel(Place(target), metadata)
        self.describe_models = UnaryMethod(
            self._channel, "DescribeModels", pb.DescribeModelsResponse.FromString
        )

    def __repr__(self) -> str:
        return f"<SocketStub over {self._channel!r}>"

    def predict(self, request: bytes, questions: Sequence[Question], timeout_s: float) -> Reply:
        """Ask models, once, by a PredictRequest's bytes; raises as a `UnaryMethod`."""
        message = UnaryCall(self._channel, PREDICT, request, timeout_s, wait_for_ready=False).result()
        answers = read_at_sight(message, questions)
        return _read(pb.PredictResponse.FromString, message) if answers is None else answers

    def open_session(self, verdicts: Verdicts, on_end: Callable[[Session, str], None]) -> Session:
        """Open the stream of questions. Raises CallError where there is no connection for it."""
        headers = self._channel.headers((SERVICE + "PredictStream").encode("ascii"), None)
        try:
            return SocketSession(self._channel.connection(), headers, verdicts, on_end)
        except LostConnectionError as error:
            raise CallError(Ending(grpc.StatusCode.UNAVAILABLE, str(error))) from None

    def trouble(self) -> str:
        """Say why there is no connection; empty where there is one, or where it is not known."""
        return trouble_of(self.describe_models)

    def reopen(self) -> None:
        """Let go of the connection, whose calls fail; the next call makes another."""
        self._channel.reopen()

    def close(self) -> None:
        """Fail all calls, for good. May be called twice."""
        self._channel.close()


def _read(read: Callable[[bytes], Answer], message: bytes) -> Answer:
    try:
        return read(message)
    except DecodeError:
        ending = Ending(grpc.StatusCode.INTERNAL, "the answer is not of this method")
        raise CallError(ending) from None
