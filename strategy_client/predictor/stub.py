"""The methods of `tickserve.v1.Predictor` on a channel."""

from typing import Final

import grpc
from tickserve.v1 import predictor_pb2 as pb

SERVICE: Final = "/tickserve.v1.Predictor/"


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
