"""D1 to D16: bad input to a real sidecar, the exact status and text of each, by every RPC that takes it."""

import struct
from collections.abc import Iterator

import grpc
import numpy as np
import pytest
from identity_files import identity_model
from onnx_files import score_model
from open_inference.v2 import inference_pb2 as oip
from sidecars import ProcessSidecar, process_sidecar, put, stub
from tickserve.v1 import control_pb2
from tickserve.v1 import predictor_pb2 as wire

SERVICE = "/inference.GRPCInferenceService"
ROW = np.array([1, 2, 3], "<f4").tobytes()
WHOLE = np.array([7, 8, 9], "<i8").tobytes()
MIB = 1 << 20
DATATYPES = "BOOL, UINT8, UINT16, UINT32, UINT64, INT8, INT16, INT32, INT64, FP16, FP32, FP64, BF16, BYTES"


def tensor(name: str = "features", datatype: str = "FP32", shape: tuple[int, ...] = (1, 3), **contents: list):
    """An input; with typed contents where given."""
    made = oip.ModelInferRequest.InferInputTensor(name=name, datatype=datatype, shape=shape)
    for field, values in contents.items():
        getattr(made.contents, field).extend(values)
    return made


def infer(*tensors, raw: list[bytes] | None = None, model: str = "one", **fields) -> oip.ModelInferRequest:
    """A request with these inputs, and as many raw entries as are given: one good row where none are."""
    return oip.ModelInferRequest(
        model_name=model, inputs=tensors, raw_input_contents=[ROW] if raw is None else raw, **fields
    )


def two(*tensors, **fields) -> oip.ModelInferRequest:
    """A request to the model of two inputs, with a good form of both unless other ones are given."""
    return infer(*(tensors or (LEFT, RIGHT)), model="two", **({"raw": [bytes(8), WHOLE]} | fields))


def text(*elements: bytes) -> bytes:
    """BYTES in raw form."""
    return b"".join(struct.pack("<I", len(element)) + element for element in elements)


def with_parameter(name: str, **value) -> oip.ModelInferRequest:
    """A good request but for one parameter."""
    request = infer(tensor())
    request.parameters[name].CopyFrom(oip.InferParameter(**value))
    return request


LEFT, RIGHT = tensor("x0", shape=(1, 2)), tensor("x1", "INT64", (3,))
NAMES = "expected exactly 'x0', 'x1'"
LONG = r"\u202e" * 21

CASES = {
    "D1 none": (two(raw=[]).__class__(model_name="two"), f"model 'two:1' misses input 'x0'; {NAMES}"),
    "D1 missing": (two(LEFT, raw=[bytes(8)]), f"model 'two:1' misses input 'x1'; {NAMES}"),
    "D1 extra": (
        two(LEFT, RIGHT, tensor("more", shape=(1,)), raw=[bytes(8), WHOLE, bytes(4)]),
        f"model 'two:1' has no input 'more'; {NAMES}",
    ),
    "D1 duplicate": (two(LEFT, LEFT), "input 'x0' stands twice; expected each input once"),
    "D1 too many": (
        oip.ModelInferRequest(model_name="two", inputs=[LEFT] * 4097),
        "expected at most 4096 inputs and as many outputs, came 4097 inputs and 0 outputs",
    ),
    "D2 unknown": (
        two(outputs=[{"name": "y0"}, {"name": "z"}]),
        "model 'two:1' has no output 'z'; expected some of 'y0', 'y1'",
    ),
    "D2 duplicate": (
        two(outputs=[{"name": "y1"}, {"name": "y0"}, {"name": "y1"}]),
        "model 'two:1': expected each output once, came 'y1' 2 times",
    ),
    "D2 too many": (
        infer(tensor(), outputs=[{"name": "score"}] * 4097),
        "expected at most 4096 inputs and as many outputs, came 1 inputs and 4097 outputs",
    ),
    "D3 another": (
        infer(tensor(datatype="FP64"), raw=[bytes(24)]),
        "model 'one:1': input 'features': expected FP32, came FP64",
    ),
    "D3 of its size": (
        infer(tensor(datatype="INT32")),
        "model 'one:1': input 'features': expected FP32, came INT32",
    ),
    "D3 unknown": (
        infer(tensor(datatype="fp32")),
        f"input 'features': unknown datatype 'fp32'; expected one of {DATATYPES}",
    ),
    "D3 empty": (
        infer(tensor(datatype="")),
        f"input 'features': unknown datatype ''; expected one of {DATATYPES}",
    ),
    "D4 low": (
        infer(tensor(shape=(3,))),
        "model 'one:1': input 'features': expected shape [?, 3], came shape [3]",
    ),
    "D4 high": (
        infer(tensor(shape=(1, 1, 3))),
        "model 'one:1': input 'features': expected shape [?, 3], came shape [1, 1, 3]",
    ),
    "D4 scalar": (
        infer(tensor(shape=()), raw=[bytes(4)]),
        "model 'one:1': input 'features': expected shape [?, 3], came shape []",
    ),
    "D4 beyond all": (
        infer(tensor(shape=(1,) * 65)),
        "input 'features': expected at most 64 dimensions, came 65",
    ),
    "D5 negative": (
        infer(tensor(shape=(-1, 3))),
        "input 'features': expected no negative size, came shape [-1, 3]",
    ),
    "D5 no rows": (
        infer(tensor(shape=(0, 3)), raw=[b""]),
        "model 'one:1': input 'features': expected at least one row and no size of 0, came shape [0, 3]",
    ),
    "D5 no features": (
        infer(tensor(shape=(1, 0)), raw=[b""]),
        "model 'one:1': input 'features': expected shape [?, 3], came shape [1, 0]",
    ),
    "D6 short": (
        infer(tensor(), raw=[ROW[:8]]),
        "input 'features': expected 12 bytes for FP32[1, 3], came 8",
    ),
    "D6 long": (
        infer(tensor(), raw=[ROW + ROW]),
        "input 'features': expected 12 bytes for FP32[1, 3], came 24",
    ),
    "D6 odd": (
        infer(tensor(), raw=[ROW[:11]]),
        "input 'features': expected 12 bytes for FP32[1, 3], came 11",
    ),
    "D6 none": (infer(tensor(), raw=[b""]), "input 'features': expected 12 bytes for FP32[1, 3], came 0"),
    "D6 no bool": (
        infer(tensor(datatype="BOOL"), raw=[b"\0\1\2"]),
        "input 'features': expected BOOL bytes of 0 or 1, came 2",
    ),
    "D7 overflow": (
        infer(tensor(shape=(2**62, 2**62, 4))),
        f"input 'features': expected at most {2**31} elements, came shape [{2**62}, {2**62}, 4]",
    ),
    "D7 beside a 0": (
        infer(tensor(shape=(0, 2**62)), raw=[b""]),
        f"input 'features': expected at most {2**31} elements, came shape [0, {2**62}]",
    ),
    "D7 many sizes": (
        infer(tensor(shape=(2**62,) * 64)),
        f"input 'features': expected at most {2**31} elements, came shape [{', '.join([str(2**62)] * 8)}, …]",
    ),
    "D8 together": (
        infer(tensor(fp32_contents=[1, 2, 3])),
        "input 'features': expected contents or raw bytes, came both together",
    ),
    "D8 fewer": (
        two(raw=[bytes(8)]),
        "raw_input_contents: expected one entry for each of the 2 inputs, came 1",
    ),
    "D8 more": (
        infer(tensor(), raw=[ROW, ROW]),
        "raw_input_contents: expected one entry for each of the 1 inputs, came 2",
    ),
    "D8 neither": (
        infer(tensor(), raw=[]),
        "input 'features': expected 3 elements for shape [1, 3], came 0",
    ),
    "D9 typed FP16": (
        infer(tensor(datatype="FP16", fp32_contents=[1, 2, 3]), raw=[]),
        "input 'features': expected FP16 in raw_input_contents, for no typed field holds it",
    ),
    "D9 typed BF16": (
        infer(tensor(datatype="BF16", uint_contents=[1, 2, 3]), raw=[]),
        "input 'features': expected BF16 in raw_input_contents, for no typed field holds it",
    ),
    "D9 raw FP16 short": (
        infer(tensor(datatype="FP16"), raw=[bytes(5)]),
        "input 'features': expected 6 bytes for FP16[1, 3], came 5",
    ),
    "D10 beyond the end": (
        infer(tensor("x0", "BYTES", (1,)), raw=[struct.pack("<I", 9) + b"abc"], model="texts"),
        "input 'x0': element 0 runs past the end of the bytes: expected at most 3 bytes more, came length 9",
    ),
    "D10 huge": (
        infer(tensor("x0", "BYTES", (2,)), raw=[text(b"a") + b"\xff" * 8], model="texts"),
        "input 'x0': element 1 runs past the end of the bytes: expected at most 4 bytes more, "
        f"came length {2**32 - 1}",
    ),
    "D10 half a length": (
        infer(tensor("x0", "BYTES", (2,)), raw=[text(b"a") + b"\1\0"], model="texts"),
        "input 'x0': element 1 runs past the end of the bytes: expected at most 0 bytes more, "
        "came 2 bytes of a length",
    ),
    "D10 fewer": (
        infer(tensor("x0", "BYTES", (3,)), raw=[text(b"a", b"b")], model="texts"),
        "input 'x0': expected 3 elements for BYTES[3], came 2",
    ),
    "D10 more": (
        infer(tensor("x0", "BYTES", (1,)), raw=[text(b"a", b"b")], model="texts"),
        "input 'x0': expected 1 elements for BYTES[1], came more",
    ),
    "D10 not UTF-8": (
        infer(tensor("x0", "BYTES", (2,)), raw=[text(b"a", b"b\xff")], model="texts"),
        "input 'x0': expected text in UTF-8, as ONNX has it, "
        "came element 1 with invalid start byte at byte 1",
    ),
    "D10 without end": (
        infer(tensor("x0", "BYTES", (2**18 + 1,)), raw=[b""], model="texts"),
        f"expected at most {2**18} elements of BYTES in one request, came {2**18 + 1}",
    ),
    "D11 NaN": (
        infer(tensor(fp32_contents=[1, np.nan, 3]), raw=[]),
        "model 'one:1': feature 'b' in row 0: expected finite numbers only, which is the contract's policy, "
        "came nan",
    ),
    "D11 -Inf": (
        infer(tensor(shape=(2, 3)), raw=[ROW + np.array([1, 2, -np.inf], "<f4").tobytes()]),
        "model 'one:1': feature 'c' in row 1: expected finite numbers only, which is the contract's policy, "
        "came -inf",
    ),
    "D13 input": (
        infer(tensor("\0../\n\u202e ")),
        "model 'one:1' has no input '\\x00../\\n\\u202e '; expected exactly 'features'",
    ),
    "D13 input, long": (
        infer(tensor("\u202e" * 10_000)),
        f"model 'one:1' has no input '{LONG}\\u…'; expected exactly 'features'",
    ),
    "D13 input, escaped": (
        infer(tensor("\u202e" * 100)),
        f"model 'one:1' has no input '{LONG}\\u…'; expected exactly 'features'",
    ),
    "D13 output": (
        infer(tensor(), outputs=[{"name": " score"}]),
        "model 'one:1' has no output ' score'; expected some of 'score'",
    ),
    "D13 version": (
        infer(tensor(), model_version="../1"),
        "model version: expected an integer above 0, a label (up to 32 of a-z 0-9 _ -, beginning with a "
        "letter) or nothing, came '../1'",
    ),
    "D13 version NUL": (
        infer(tensor(), model_version="1\0"),
        "model version: expected an integer above 0, a label (up to 32 of a-z 0-9 _ -, beginning with a "
        "letter) or nothing, came '1\\x00'",
    ),
    "D13 label": (
        infer(tensor(), model_version="Stäble"),
        "model version: expected an integer above 0, a label (up to 32 of a-z 0-9 _ -, beginning with a "
        "letter) or nothing, came 'Stäble'",
    ),
    "D15 wrong member": (
        with_parameter("timeout", string_param="1"),
        "parameter 'timeout': expected int64_param or uint64_param, came string_param",
    ),
    "D15 not done": (
        with_parameter("sequence_id", int64_param=7),
        "parameter 'sequence_id': expected '' or 0 or none, any other would not be heeded, came 7",
    ),
    "D15 reserved": (
        with_parameter("triton_x", bool_param=True),
        "parameter 'triton_x': expected none of Triton's own but triton_enable_empty_final_response, of the "
        "request",
    ),
    "D15 typed otherwise": (
        infer(tensor(fp64_contents=[1, 2, 3]), raw=[]),
        "input 'features': expected FP32 in fp32_contents, came fp64_contents",
    ),
    "D15 typed in two": (
        infer(tensor(fp32_contents=[1, 2, 3], int_contents=[1]), raw=[]),
        "input 'features': expected FP32 in fp32_contents, came int_contents, fp32_contents",
    ),
    "D15 beyond its type": (
        infer(tensor("x1", "INT8", (1,), int_contents=[300]), raw=[]),
        "input 'x1': expected INT8 from -128 to 127, came 300",
    ),
    "D15 typed without end": (
        infer(tensor(datatype="INT8", shape=(2**20 + 1,)), raw=[]),
        f"expected at most {2**20} integers in contents in one request; send them raw, came {2**20 + 1}",
    ),
    "D16 id": (infer(tensor(), id="x" * 257), "id: expected at most 256 characters, came 257"),
}
NOT_FOUND = {
    "D13 model NUL": (infer(tensor(), model="one\0"), "no model 'one\\x00'"),
    "D13 model path": (infer(tensor(), model="../../etc/passwd"), "no model '../../etc/passwd'"),
    "D13 model blanks": (infer(tensor(), model=" one "), "no model ' one '"),
    "D13 model empty": (infer(tensor(), model=""), "no model ''"),
    "D13 model unicode": (infer(tensor(), model="\u202eöne\U0001f600"), "no model '\\u202eöne\U0001f600'"),
    "D13 model long": (infer(tensor(), model="x" * 10_000), f"no model '{'x' * 128}…'"),
    "D13 label": (infer(tensor(), model_version="x"), "model 'one' has no label 'x'; it has none"),
}
PART_CASES = {
    "D4": (
        {"features": ROW[:8]},
        3,
        "model 'one:1': input 'features': expected shape [?, 3], came shape [1, 2]",
    ),
    "D5 no rows": ({"rows": 0}, 3, "rows: expected at least 1, came 0"),
    "D6 odd": (
        {"features": ROW[:11]},
        3,
        "features: expected float32 rows, a multiple of 4 bytes for 1 rows, came 11 bytes",
    ),
    "D6 none": (
        {"features": b""},
        3,
        "features: expected float32 rows, a multiple of 4 bytes for 1 rows, came 0 bytes",
    ),
    "D7": (
        {"rows": 2**32 - 1},
        3,
        f"features: expected float32 rows, a multiple of {4 * (2**32 - 1)} bytes for {2**32 - 1} rows, "
        "came 12 bytes",
    ),
    "D1 another model": (
        {"model": "two", "features": bytes(8)},
        3,
        "model 'two:1' takes 2 inputs ('x0', 'x1'): expected each by its name, came one array",
    ),
    "D3": (
        {"model": "texts", "features": bytes(8)},
        3,
        "model 'texts:1': input 'x0': expected BYTES, came FP32",
    ),
    "D11 NaN": (
        {"features": np.array([np.nan, 2, 3], "<f4").tobytes()},
        3,
        "model 'one:1': feature 'a' in row 0: expected finite numbers only, which is the contract's policy, "
        "came nan",
    ),
    "D13 model": ({"model": "\0../ "}, 5, "no model '\\x00../ '"),
    "D13 label": (
        {"label": "../stable"},
        3,
        "label '../stable': expected up to 32 of a-z 0-9 _ -, beginning with a letter",
    ),
    "D13 both": (
        {"label": "a", "version": 2},
        3,
        "expected a version or a label, came version 2 and label 'a'",
    ),
    "D13 version": ({"version": -1}, 3, "version: expected 0 or above, came -1"),
}


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory, served_transport: str) -> Iterator[ProcessSidecar]:
    """Serve models of several signatures; at the end the log holds no traceback."""
    models = tmp_path_factory.mktemp("models")
    put(models / "one.onnx", score_model("one"))
    put(models / "two.onnx", identity_model(("FP32", [None, 2]), ("INT64", [3])))
    put(models / "texts.onnx", identity_model(("BYTES", [None])))
    put(models / "plain.onnx", identity_model(("FP32", [None, 3])))
    with process_sidecar(models) as running:
        yield running
        assert running.stop() == 0
        assert "Traceback" not in running.log.read_text()


@pytest.fixture(scope="module")
def channel(sidecar: ProcessSidecar) -> Iterator[grpc.Channel]:
    """A channel to it that takes messages of any size."""
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(sidecar.target, options=options) as made:
        yield made


def refusal(function, *arguments, **fields) -> tuple[str, str]:
    """The status and text that a call ends with."""
    with pytest.raises(grpc.RpcError) as caught:
        function(*arguments, **({"timeout": 20} | fields))
    return caught.value.code().name, caught.value.details()


def ask(channel: grpc.Channel, request: oip.ModelInferRequest) -> tuple[str, str]:
    return refusal(stub(channel, f"{SERVICE}/ModelInfer", oip.ModelInferResponse), request)


def stream(channel: grpc.Channel, *requests: oip.ModelInferRequest) -> list[oip.ModelStreamInferResponse]:
    """What one stream answers to these requests."""
    path = f"{SERVICE}/ModelStreamInfer"
    return list(
        stub(channel, path, oip.ModelStreamInferResponse, kind="stream_stream")(iter(requests), timeout=60)
    )


def predict(channel: grpc.Channel, **fields) -> wire.PartResult:
    """The result of one part, good but for these fields."""
    part = wire.PredictPart(**({"model": "one", "rows": 1, "features": ROW} | fields))
    return stub(channel, "Predict", wire.PredictResponse)(
        wire.PredictRequest(parts=[part]), timeout=60
    ).parts[0]


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_an_invalid_argument_in_words(channel: grpc.Channel, case: str) -> None:
    """D1 to D16: ModelInfer says what was expected and what came; in-band on a stream it says the same."""
    request, words = CASES[case]
    assert ask(channel, request) == ("INVALID_ARGUMENT", words)
    refused, good = stream(channel, request, infer(tensor(), id="good"))
    assert refused.error_message == words
    assert refused.infer_response.id == request.id[:256]
    assert (good.error_message, good.infer_response.id) == ("", "good")


@pytest.mark.parametrize("case", NOT_FOUND)
def test_a_name_that_nothing_has_is_not_found(channel: grpc.Channel, case: str) -> None:
    """D13: names are shown escaped and cut, and reach no file; metadata and config say the same of them."""
    request, words = NOT_FOUND[case]
    assert ask(channel, request) == ("NOT_FOUND", words)
    for rpc in ("ModelMetadata", "ModelConfig"):
        request_ = getattr(oip, f"{rpc}Request")(name=request.model_name, version=request.model_version)
        function = stub(channel, f"{SERVICE}/{rpc}", getattr(oip, f"{rpc}Response"))
        assert refusal(function, request_) == ("NOT_FOUND", words)


@pytest.mark.parametrize("case", PART_CASES)
def test_a_bad_part_has_its_own_status(channel: grpc.Channel, case: str) -> None:
    """D1 to D13: Predict says it of the part, in the words of ModelInfer, and answers the part beside it."""
    fields, code, words = PART_CASES[case]
    good = wire.PredictPart(model="one", rows=1, features=ROW)
    bad = wire.PredictPart(**({"model": "one", "rows": 1, "features": ROW} | fields))
    for kind in ("unary_unary", "stream_stream"):
        name = "Predict" if kind == "unary_unary" else "PredictStream"
        request = wire.PredictRequest(parts=[bad, good])
        function = stub(channel, name, wire.PredictResponse, kind=kind)
        answer = function(request, timeout=60) if kind == "unary_unary" else next(function(iter([request])))
        assert (answer.parts[0].status.code, answer.parts[0].status.message) == (code, words)
        assert answer.parts[0].outputs == []
        assert answer.parts[1].outputs[0].raw == struct.pack("<f", 6)


def test_odd_floats_pass_a_model_without_a_contract(channel: grpc.Channel) -> None:
    """D11: NaN with its bits, infinities, subnormals and -0 come back as they went, by every way in."""
    bits = np.array([0x7FC12345, 0xFFA54321, 0x7F800000, 0xFF800000, 1, 0x80000001, 0x80000000, 0, 1], "<u4")
    raw = bits.tobytes()
    ask_ = stub(channel, f"{SERVICE}/ModelInfer", oip.ModelInferResponse)
    same = tensor("x0", shape=(3, 3))
    assert ask_(infer(same, raw=[raw], model="plain"), timeout=60).raw_output_contents == [raw]
    contents = oip.InferTensorContents.FromString(b"\x32" + bytes([len(raw)]) + raw)
    typed = oip.ModelInferRequest.InferInputTensor(
        name="x0", datatype="FP32", shape=[3, 3], contents=contents
    )
    assert ask_(infer(typed, raw=[], model="plain"), timeout=60).raw_output_contents == [raw]
    assert predict(channel, model="plain", rows=3, features=raw).outputs[0].raw == raw


def test_odd_floats_that_are_finite_pass_a_contract(channel: grpc.Channel) -> None:
    """D11: subnormals, -0 and the largest float32 are finite, so a contract that refuses NaN takes them."""
    for values in ([1e-45, -0.0, 0.0], [3.4028235e38, 0.0, 0.0]):
        row = np.array(values, "<f4")
        assert predict(channel, features=row.tobytes()).outputs[0].raw == row.sum(keepdims=True).tobytes()


def test_the_limit_on_a_message_is_told(channel: grpc.Channel) -> None:
    """D12: a message of exactly 64 MiB is read, one byte more is RESOURCE_EXHAUSTED, with both sizes told."""
    path = "/tickserve.v1.Predictor/Predict"
    part = wire.PredictPart(model="one", rows=1)
    part.features = bytes(64 * MIB - 100)
    whole = wire.PredictRequest(parts=[part]).SerializeToString()
    part.features = bytes(64 * MIB - 100 + 64 * MIB - len(whole))
    whole = wire.PredictRequest(parts=[part]).SerializeToString()
    assert len(whole) == 64 * MIB
    answer = wire.PredictResponse.FromString(channel.unary_unary(path)(whole, timeout=60))
    assert "expected" in answer.parts[0].status.message
    code, words = refusal(channel.unary_unary(path), whole + b"\0")
    assert code == "RESOURCE_EXHAUSTED"
    assert f"({64 * MIB + 1} vs. {64 * MIB})" in words


def test_the_limit_on_an_answer_is_told(channel: grpc.Channel) -> None:
    """D12: a question just below 64 MiB whose answer is above is RESOURCE_EXHAUSTED, with both sizes."""
    rows = (64 * MIB - 96) // 12
    request = infer(tensor("x0", shape=(rows, 3)), raw=[bytes(rows * 12)], model="plain")
    assert request.ByteSize() < 64 * MIB
    code, words = ask(channel, request)
    assert code == "RESOURCE_EXHAUSTED"
    assert f"vs. {64 * MIB})" in words


def test_a_compressed_message_has_the_limit_of_what_it_becomes(channel: grpc.Channel) -> None:
    """D12: a megabyte that unpacks to a gigabyte is refused as the gigabyte that it is, and takes no room."""
    part = wire.PredictPart(model="one", rows=1, features=bytes(128 * MIB))
    code, words = refusal(
        stub(channel, "Predict", wire.PredictResponse),
        wire.PredictRequest(parts=[part]),
        compression=grpc.Compression.Gzip,
    )
    assert code == "RESOURCE_EXHAUSTED", words
    part.features = ROW
    answer = stub(channel, "Predict", wire.PredictResponse)(
        wire.PredictRequest(parts=[part]), timeout=60, compression=grpc.Compression.Gzip
    )
    assert answer.parts[0].outputs[0].raw == struct.pack("<f", 6)


def test_too_many_fields_are_refused_before_they_are_parsed(channel: grpc.Channel) -> None:
    """D14: 32 MiB of empty inputs, which would be gigabytes, are an invalid argument at once."""
    raw = b"\x2a\x00" * (16 * MIB)
    code, words = refusal(channel.unary_unary(f"{SERVICE}/ModelInfer"), raw)
    assert (code, words) == (
        "INVALID_ARGUMENT",
        f"expected at most 65536 fields in one inference.ModelInferRequest, came more in {len(raw)} bytes",
    )


def test_an_id_is_echoed_up_to_its_bound(channel: grpc.Channel) -> None:
    """D16: 256 characters of any kind come back as they went; a longer id is refused by either service."""
    id_ = "\u202e\n\0" + "ä" * 253
    answer = stub(channel, f"{SERVICE}/ModelInfer", oip.ModelInferResponse)(
        infer(tensor(), id=id_), timeout=60
    )
    assert answer.id == id_
    ask_ = stub(channel, "Predict", wire.PredictResponse)
    assert ask_(wire.PredictRequest(id=id_), timeout=60).id == id_
    too_long = wire.PredictRequest(id=id_ + "x")
    assert refusal(ask_, too_long) == ("INVALID_ARGUMENT", "id: expected at most 256 characters, came 257")
    streamed = next(
        stub(channel, "PredictStream", wire.PredictResponse, kind="stream_stream")(iter([too_long]))
    )
    assert (streamed.id, streamed.error.code) == (id_, 3)


def test_a_refused_part_does_not_echo_a_name_of_any_length(channel: grpc.Channel) -> None:
    """D16: the answer to a megabyte of a model's name is short."""
    refused = predict(channel, model="x" * MIB)
    assert refused.model == "x" * 256
    assert refused.status.message == f"no model '{'x' * 128}…'"


def test_metadata_of_absurd_length_is_refused(channel: grpc.Channel, served_transport: str) -> None:
    """D16: a megabyte of metadata is refused, by h2 with its connection; the next call is answered."""
    function = stub(channel, f"{SERVICE}/ServerLive", oip.ServerLiveResponse)
    code, _ = refusal(function, oip.ServerLiveRequest(), metadata=[("x-absurd", "x" * MIB)])
    assert code == ("UNAVAILABLE" if served_transport == "h2" else "RESOURCE_EXHAUSTED")
    assert function(oip.ServerLiveRequest(), timeout=60, wait_for_ready=True).live


@pytest.mark.parametrize("name", ["\0", "../x", " ", "x" * 10_000, "\u202e"])
def test_control_shows_odd_names_short_and_escaped(channel: grpc.Channel, name: str) -> None:
    """D13: RPCs of control name what they do not know in a short plain text."""
    for path, request, response in (
        (
            "/tickserve.v1.Control/Rollback",
            control_pb2.RollbackRequest(model=name),
            control_pb2.RollbackResponse,
        ),
        ("/tickserve.v1.Control/Resume", control_pb2.ResumeRequest(model=name), control_pb2.ResumeResponse),
        (
            "/tickserve.v1.Control/SetLabel",
            control_pb2.SetLabelRequest(model="one", label=name, version=1),
            control_pb2.SetLabelResponse,
        ),
        (
            "/tickserve.v1.Control/DeleteLabel",
            control_pb2.DeleteLabelRequest(model="one", label=name),
            control_pb2.DeleteLabelResponse,
        ),
        (
            f"{SERVICE}/RepositoryIndex",
            oip.RepositoryIndexRequest(repository_name=name),
            oip.RepositoryIndexResponse,
        ),
        (
            f"{SERVICE}/RepositoryModelLoad",
            oip.RepositoryModelLoadRequest(model_name=name),
            oip.RepositoryModelLoadResponse,
        ),
    ):
        code, words = refusal(stub(channel, path, response), request)
        assert code in {"INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION"}, path
        assert words.isprintable(), path
        assert len(words) < 400, path
