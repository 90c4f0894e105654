"""The methods of `tickserve.v1.Predictor` on a channel."""

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

    def __init__(self, channel: grpc.Channel) -> None:
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
        return ""
