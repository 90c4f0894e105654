"""A token over the local transport: sent with each call, read anew for each."""

from pathlib import Path

import pytest
from odd_server import OddConnection, OddServer
from sidecars import eventually
from tickserve.v1 import predictor_pb2 as pb

from strategy_client.predictor.client import InferenceClient
from strategy_client.predictor.security import Security
from strategy_client.predictor.status import UnauthenticatedError


def test_each_call_carries_the_token_of_now(tmp_path: Path) -> None:
    """The probe, the stream and a single call have it; one that was exchanged is sent from then on."""
    seen: list[tuple[bytes, bytes]] = []
    file = tmp_path / "token"
    file.write_text("first\n")

    def script(connection: OddConnection) -> None:
        connection.greet()
        while True:
            stream_id, method, fields = connection.request()
            seen.append((method, fields[b"authorization"]))
            if method == b"DescribeModels":
                connection.answer(stream_id, pb.DescribeModelsResponse(ready=True).SerializeToString())
            elif method == b"Predict":
                connection.http.send_response(
                    stream_id,
                    [(b":status", b"200"), (b"content-type", b"application/grpc"), (b"grpc-status", b"16")],
                    end_stream=True,
                )
                connection.flush()

    with (
        OddServer(script) as server,
        InferenceClient(server.target, security=Security(token_file=file), transport="h2") as client,
    ):
        assert client.wait_connected(20)
        eventually(lambda: len(seen) == 2, "the stream is open")
        file.write_text("second\n")
        with pytest.raises(UnauthenticatedError):
            client.predict("m", [1.0], timeout_s=20)
    assert seen == [
        (b"DescribeModels", b"Bearer first"),
        (b"PredictStream", b"Bearer first"),
        (b"Predict", b"Bearer second"),
    ]
