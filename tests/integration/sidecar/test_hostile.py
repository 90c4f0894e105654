"""What callers do wrong, by malice or mishap, to a real sidecar process: a status each, and a quiet log."""

import contextlib
import random
from collections.abc import Iterator

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from onnx_files import endless_model, score_model, score_proto
from open_inference.v2 import inference_pb2 as oip
from sidecars import PATIENCE_S, ProcessSidecar, describe, eventually, process_sidecar, put, stub
from tickserve.v1 import predictor_pb2
from tickserve.v1 import predictor_pb2 as wire

ROW = np.array([1, 2, 3], dtype="<f4").tobytes()
INFER = "/inference.GRPCInferenceService/ModelInfer"
SERVICES = (
    *predictor_pb2.DESCRIPTOR.services_by_name.values(),
    *oip.DESCRIPTOR.services_by_name.values(),
    *reflection_pb2.DESCRIPTOR.services_by_name.values(),
    *health_pb2.DESCRIPTOR.services_by_name.values(),
)
# By path, whether the request is a stream. The health Watch, which would not end, is left out.
METHODS = {
    f"/{service.full_name}/{method.name}": method.client_streaming
    for service in SERVICES
    for method in service.methods
    if method.name != "Watch"
}


def wordy_model() -> bytes:
    """A plain file whose output has a very long name."""
    model = score_proto()
    model.graph.node[-1].output[0] = model.graph.output[0].name = "y" * 20_000
    return model.SerializeToString()


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory, served_transport: str) -> Iterator[ProcessSidecar]:
    """Serve a quick model and a slow one; at the end the log holds no traceback."""
    models = tmp_path_factory.mktemp("models")
    put(models / "one.onnx", score_model("one"))
    put(models / "slow.onnx", endless_model(turns=20_000))
    put(models / "wordy.onnx", wordy_model())
    with process_sidecar(models) as running:
        yield running
        assert running.stop() == 0
        assert "Traceback" not in running.log.read_text()
        assert "never retrieved" not in running.log.read_text()


@pytest.fixture
def channel(sidecar: ProcessSidecar) -> Iterator[grpc.Channel]:
    """A channel that answers a good question after whatever the test did."""
    with grpc.insecure_channel(sidecar.target) as made:
        yield made
        assert stub(made, INFER, oip.ModelInferResponse)(infer(), timeout=PATIENCE_S).model_name == "one"


def infer(
    *,
    name: str = "features",
    datatype: str = "FP32",
    shape: tuple[int, ...] = (1, 3),
    raw: bytes = ROW,
    **fields: str,
) -> oip.ModelInferRequest:
    """A good question, with something changed."""
    tensor = oip.ModelInferRequest.InferInputTensor(name=name, datatype=datatype, shape=shape)
    return oip.ModelInferRequest(
        **({"model_name": "one"} | fields), inputs=[tensor], raw_input_contents=[raw]
    )


@pytest.mark.parametrize(
    ("request_", "code", "text"),
    [
        (infer(shape=(1,) * 65), "INVALID_ARGUMENT", "at most 64 dimensions, came 65"),
        (infer(shape=(2**62,) * 100_000), "INVALID_ARGUMENT", "at most 64 dimensions, came 100000"),
        (infer(shape=(0, 2**62, 2**62), raw=b""), "INVALID_ARGUMENT", "at most 2147483648 elements"),
        (infer(datatype="BF16", raw=b"123456"), "INVALID_ARGUMENT", "expected FP32, came BF16"),
        (infer(datatype="x" * 100_000), "INVALID_ARGUMENT", "unknown datatype 'xxx"),
        (infer(name="x" * 100_000, raw=b""), "INVALID_ARGUMENT", "expected 12 bytes"),
        (infer(name="\0" * 100_000), "INVALID_ARGUMENT", "has no input"),
        (infer(model_version="1" * 5000), "INVALID_ARGUMENT", "expected an integer above 0"),
        (infer(model_version="01"), "INVALID_ARGUMENT", "expected an integer above 0"),
        (infer(model_version=str(2**63 - 1)), "NOT_FOUND", "no version 9223372036854775807"),
        (oip.ModelInferRequest(model_name="wordy", outputs=[{"name": "x"}]), "INVALID_ARGUMENT", "yyy"),
        (infer(model_name="../" * 50_000), "NOT_FOUND", "no model '../../"),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 50 else "",
)
def test_an_absurd_request_is_refused_in_words(
    channel: grpc.Channel, request_: oip.ModelInferRequest, code: str, text: str
) -> None:
    """Ranks, sizes, names and versions of any length get their status, and its text arrives (D7, D13)."""
    with pytest.raises(grpc.RpcError) as caught:
        stub(channel, INFER, oip.ModelInferResponse)(request_, timeout=PATIENCE_S)
    assert (caught.value.code().name, text in caught.value.details()) == (code, True), caught.value.details()


def test_the_bound_on_a_message_holds_for_question_and_answer(sidecar: ProcessSidecar) -> None:
    """Millions of rows below 64 MiB are answered, a message above is refused before it is read (D12)."""
    rows = 5_500_000
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(sidecar.target, options=options) as channel:
        ask = stub(channel, "Predict", wire.PredictResponse)
        part = wire.PredictPart(model="one", rows=rows, features=ROW * rows)
        answer = ask(wire.PredictRequest(parts=[part]), timeout=PATIENCE_S).parts[0]
        assert list(answer.outputs[0].shape) == [rows, 1]
        with pytest.raises(grpc.RpcError) as caught:
            ask(wire.PredictRequest(id="x" * (2 << 20), parts=[part]), timeout=PATIENCE_S)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def scrambled() -> Iterator[bytes]:
    """Random bytes, and good messages with some bytes changed."""
    chance = random.Random(7)  # noqa: S311 - a repeatable stream of bytes
    part = wire.PredictPart(model="one", rows=1, features=ROW)
    good = (infer().SerializeToString(), wire.PredictRequest(id="1", parts=[part]).SerializeToString())
    while True:
        yield chance.randbytes(chance.randrange(100))
        raw = bytearray(chance.choice(good))
        for _ in range(chance.randrange(1, 6)):
            raw[chance.randrange(len(raw))] = chance.randrange(256)
        yield bytes(raw)


@pytest.mark.parametrize("path", METHODS)
def test_random_bytes_are_an_invalid_argument(channel: grpc.Channel, path: str) -> None:
    """Bytes that are no message, or an odd one, never come back as a fault of the server (D14)."""
    seen = set()
    for _, raw in zip(range(60), scrambled(), strict=False):
        try:
            if METHODS[path]:
                list(channel.stream_stream(path)(iter([raw]), timeout=PATIENCE_S))
            else:
                channel.unary_unary(path)(raw, timeout=PATIENCE_S)
        except grpc.RpcError as error:
            seen.add(error.code().name)
    # Shared memory is off here.
    assert seen == {"UNIMPLEMENTED"} or "INVALID_ARGUMENT" in seen
    assert seen <= {"INVALID_ARGUMENT", "NOT_FOUND", "UNIMPLEMENTED"}


def test_bytes_that_are_no_request_are_named(channel: grpc.Channel) -> None:
    """The text says which message was expected, also where the answer would be a stream."""
    for call in (
        lambda: channel.unary_unary("/tickserve.v1.Predictor/Predict")(b"\xff", timeout=PATIENCE_S),
        lambda: list(channel.stream_stream("/tickserve.v1.Predictor/PredictStream")(iter([b"\xff"]))),
    ):
        with pytest.raises(grpc.RpcError, match=r"expected a tickserve\.v1\.PredictRequest, came 1 bytes"):
            call()
    with pytest.raises(grpc.RpcError, match=r"expected a grpc\.health\.v1\.HealthCheckRequest"):
        list(channel.unary_stream("/grpc.health.v1.Health/Watch")(b"\xff", timeout=PATIENCE_S))


def test_callers_that_leave_leave_nothing(sidecar: ProcessSidecar, channel: grpc.Channel) -> None:
    """Calls and streams cancelled at any moment cost neither a place nor a line in the log (E4, E5, F6)."""
    ask = stub(channel, "Predict", wire.PredictResponse)
    parts = [wire.PredictPart(model=name, rows=1, features=ROW) for name in ("one", "slow")]
    # Long to encode, so that some callers leave between that and the write.
    many = wire.PredictRequest(parts=parts[:1] * 1000)
    before = sidecar.log.read_text()
    for number in range(40):
        stream = stub(channel, "PredictStream", wire.PredictResponse, kind="stream_stream")(iter([many] * 3))
        call = ask.future(wire.PredictRequest(parts=parts), timeout=PATIENCE_S)
        with contextlib.suppress(grpc.RpcError):
            ask(many, timeout=0.005 + 0.001 * number)
        stream.cancel()
        call.cancel()
    eventually(
        lambda: ask(wire.PredictRequest(parts=parts[1:]), timeout=PATIENCE_S).parts[0].status.code == 0,
        "the slow model has a place again",
    )
    assert describe(channel).ready
    assert sidecar.log.read_text() == before
