"""The methods of `tickserve.v1.Predictor` on a channel that can be replaced."""

import threading
from collections.abc import Callable
from typing import Final

import grpc
from tickserve.v1 import predictor_pb2 as pb

from strategy_client.predictor.status import describe_error

SERVICE: Final = "/tickserve.v1.Predictor/"
# No model can have this name, so the answer is empty; that it comes is all we want to know.
NOBODY: Final = "-"
TROUBLE_TIMEOUT_S: Final = 0.25


class PredictorStub:
    """One callable a method; see proto/tickserve/v1/predictor.proto for what they mean."""

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
        self.predict = channel.unary_unary(
            SERVICE + "Predict",
            request_serializer=pb.PredictRequest.SerializeToString,
            response_deserializer=pb.PredictResponse.FromString,
        )
        self.predict_stream = channel.stream_stream(
            SERVICE + "PredictStream",
            request_serializer=pb.PredictRequest.SerializeToString,
            response_deserializer=pb.PredictResponse.FromString,
        )
        self.describe_models = channel.unary_unary(
            SERVICE + "DescribeModels",
            request_serializer=pb.DescribeModelsRequest.SerializeToString,
            response_deserializer=pb.DescribeModelsResponse.FromString,
        )

    def trouble(self) -> str:
        """Say why there is no connection; empty where there is one, or where it is not known.

        A call that waited for a connection is only told that time is up; one that does not wait is told why.
        """
        try:
            self.describe_models(pb.DescribeModelsRequest(models=[NOBODY]), timeout=TROUBLE_TIMEOUT_S)
        except grpc.RpcError as error:
            return describe_error(error) if error.code() is grpc.StatusCode.UNAVAILABLE else ""
        except ValueError:
            return "the client is closed"  # how gRPC says that the channel was, meanwhile
        return ""
