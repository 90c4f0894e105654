"""What a call leaves behind: nothing that only the garbage collector would find."""

import gc
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from onnx_files import score_model
from open_inference.v2 import inference_pb2 as oip
from sidecars import PATIENCE_S, ThreadSidecar, put, stub, thread_sidecar
from tickserve.v1 import predictor_pb2 as wire

from inference_server.rpc.h2.call import Call
from inference_server.rpc.h2.stream import CallStream
from inference_server.serving import data_plane

ROW = np.array([1, 2, 3], dtype="<f4").tobytes()
QUESTION = wire.PredictRequest(parts=[wire.PredictPart(model="one", rows=1, features=ROW)])
UNKNOWN = wire.PredictRequest(parts=[wire.PredictPart(model="nobody", rows=1, features=ROW)])
INFER = oip.ModelInferRequest(
    model_name="nobody",
    inputs=[oip.ModelInferRequest.InferInputTensor(name="features", datatype="FP32", shape=(1, 3))],
    raw_input_contents=[ROW],
)
MODEL_INFER = "/inference.GRPCInferenceService/ModelInfer"
CALLS = 20


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[ThreadSidecar]:
    """Serve one model."""
    put(tmp_path / "one.onnx", score_model("one"))
    with thread_sidecar(tmp_path) as running:
        yield running


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Go without the collector: what refers to itself stays where it is."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.mark.usefixtures("uncollected")
def test_calls_that_ended_are_gone_without_the_collector(sidecar: ThreadSidecar) -> None:
    """A pause of the collector in the middle of a tick would be the price of every cycle (E5)."""
    with grpc.insecure_channel(sidecar.unix) as channel:
        predict = stub(channel, "Predict", wire.PredictResponse)
        for _ in range(CALLS):
            assert predict(QUESTION, timeout=PATIENCE_S).parts
            assert predict(UNKNOWN, timeout=PATIENCE_S).parts[0].status.code
            with pytest.raises(grpc.RpcError):
                stub(channel, MODEL_INFER, oip.ModelInferResponse)(INFER, timeout=PATIENCE_S)
            with pytest.raises(grpc.RpcError):
                predict(wire.PredictRequest(id="x" * 1000), timeout=PATIENCE_S)
            with pytest.raises(grpc.RpcError):
                channel.unary_unary("/tickserve.v1.Predictor/Predict")(b"no message", timeout=PATIENCE_S)
            stream = stub(channel, "PredictStream", wire.PredictResponse, kind="stream_stream")
            assert len(list(stream(iter([QUESTION] * 3), timeout=PATIENCE_S))) == 3
    left = [one for one in gc.get_objects() if isinstance(one, Call | CallStream | data_plane.Call)]
    # The last of each kind may be on its way out in the sidecar's thread.
    assert len(left) < CALLS, left
