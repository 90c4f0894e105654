"""Every datatype through a real server: raw and typed, of every rank, bit for bit."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import grpc
import numpy as np
import pytest
from identity_files import ONNX_TYPES, identity_model
from onnx import TensorProto, helper
from onnx_files import make_model
from open_inference.v2 import inference_pb2 as oip
from sidecars import describe, process_sidecar, put, stub
from tickserve.v1 import predictor_pb2 as wire
from tritonclient import grpc as triton
from tritonclient.utils import triton_to_np_dtype

INFER = "/inference.GRPCInferenceService/ModelInfer"
# float32 bits: 1.5, -0, +0, the least subnormal, +Inf, -Inf, a quiet and a signalling NaN with payloads.
FLOAT_BITS = (0x3FC00000, 0x80000000, 0, 1, 0x7F800000, 0xFF800000, 0x7FC12345, 0xFFA54321)
FLOATS = np.array(FLOAT_BITS, "<u4").view("<f4")
SPECIAL = {
    "BOOL": bytes([0, 1, 1, 0, 0, 0, 1, 1]),
    "UINT8": bytes(range(248, 256)),
    "UINT16": np.array([0, 1, 255, 256, 32767, 32768, 65534, 65535], "<u2").tobytes(),
    "UINT32": np.array([0, 1, 255, 65536, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1], "<u4").tobytes(),
    "UINT64": np.array([0, 1, 255, 2**32, 2**53 + 1, 2**63, 2**64 - 2, 2**64 - 1], "<u8").tobytes(),
    "INT8": np.array([-128, -127, -1, 0, 1, 2, 126, 127], "<i1").tobytes(),
    "INT16": np.array([-(2**15), -1, 0, 1, 255, 256, 2**15 - 2, 2**15 - 1], "<i2").tobytes(),
    "INT32": np.array([-(2**31), -1, 0, 1, 2**24 + 1, 65536, 2**31 - 2, 2**31 - 1], "<i4").tobytes(),
    "INT64": np.array([-(2**63), -1, 0, 1, 2**53 + 1, 2**32, 2**63 - 2, 2**63 - 1], "<i8").tobytes(),
    "FP16": np.array([0x3E00, 0x8000, 0, 1, 0x7C00, 0xFC00, 0x7E01, 0xFD55], "<u2").tobytes(),
    "FP32": FLOATS.tobytes(),
    # Beyond float32 in size and in precision, too.
    "FP64": np.array([1e300, -0.0, 0.1, 5e-324, np.inf, -np.inf], "<f8").tobytes()
    + struct.pack("<QQ", 0x7FF8000000012345, 0xFFF4000000054321),
    "BF16": FLOATS.view("<u2")[1::2].tobytes(),
    "BYTES": b"".join(
        struct.pack("<I", len(text)) + text
        for text in (
            b"",
            b"a",
            "k\u00e4se".encode(),
            b"\0",
            b"a\0b\0",
            b" ",
            "\U0001f600".encode(),
            b"x" * 300,
        )
    ),
}
TYPED_FIELDS = {
    "BOOL": "bool_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
PACKED = {"FP32": b"\x32", "FP64": b"\x3a"}
NUMPY = {"BOOL": "?", "UINT8": "u1", "INT8": "i1"} | {
    f"{word}{8 * size}": f"<{kind}{size}"
    for word, kind in (("UINT", "u"), ("INT", "i"))
    for size in (2, 4, 8)
}


@dataclass
class Client:
    """Asks one sidecar."""

    target: str
    channel: grpc.Channel

    def infer(self, model: str, *tensors: dict, **fields: object) -> oip.ModelInferResponse:
        """Ask with these inputs, named x0, x1, ... unless they say otherwise."""
        request = oip.ModelInferRequest(model_name=model, **fields)
        for number, tensor in enumerate(tensors):
            raw = tensor.pop("raw", None)
            request.inputs.add(**({"name": f"x{number}"} | tensor))
            if raw is not None:
                request.raw_input_contents.append(raw)
        return stub(self.channel, INFER, oip.ModelInferResponse)(request, timeout=60)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, served_transport: str) -> Iterator[Client]:
    """Serve an identity of every datatype, and several of other forms; at the end nothing is in the log."""
    models = tmp_path_factory.mktemp("models")
    for datatype in ONNX_TYPES:
        put(models / f"same_{datatype.lower()}.onnx", identity_model((datatype, [None, 2])))
        put(models / f"rank0_{datatype.lower()}.onnx", identity_model((datatype, [])))
        put(models / f"rank4_{datatype.lower()}.onnx", identity_model((datatype, [None, 2, None, 2])))
    put(models / "two.onnx", identity_model(("FP32", [None, 2]), ("INT64", [3])))
    put(models / "mixed.onnx", identity_model(("BF16", [None]), ("FP64", [None]), ("BOOL", [None])))
    put(models / "narrow.onnx", cast_model(TensorProto.FLOAT, TensorProto.BFLOAT16))
    put(models / "wide.onnx", cast_model(TensorProto.BFLOAT16, TensorProto.FLOAT))
    put(models / "texts.onnx", identity_model(("BYTES", [None]), ("FP32", [None, 1])))
    with process_sidecar(models, wait=False) as sidecar:
        sidecar.wait_ready()
        with grpc.insecure_channel(sidecar.target) as channel:
            assert not [model.problem for model in describe(channel).models if model.problem]
            yield Client(sidecar.target, channel)
        assert sidecar.stop() == 0
        assert "Traceback" not in sidecar.log.read_text()


def cast_model(source: int, to: int) -> bytes:
    """Return a file that casts `x0` to `y0`."""
    graph = helper.make_graph(
        [helper.make_node("Cast", ["x0"], ["y0"], to=to)],
        "cast",
        [helper.make_tensor_value_info("x0", source, [None])],
        [helper.make_tensor_value_info("y0", to, [None])],
    )
    return make_model(graph).SerializeToString()


def first_of(datatype: str) -> bytes:
    """The raw form of one element that is not zero."""
    if datatype == "BYTES":
        return struct.pack("<I", 3) + b"one"
    size = len(SPECIAL[datatype]) // 8
    return SPECIAL[datatype][size : 2 * size] if datatype == "BOOL" else SPECIAL[datatype][:size]


@pytest.mark.parametrize("datatype", ONNX_TYPES)
def test_raw_bytes_come_back_as_they_went(client: Client, datatype: str) -> None:
    """D9, D11: the extremes of each datatype, NaN with its payload, -0 and subnormals pass bit for bit."""
    name = f"same_{datatype.lower()}"
    answer = client.infer(name, {"datatype": datatype, "shape": [4, 2], "raw": SPECIAL[datatype]})
    (output,) = answer.outputs
    assert (output.name, output.datatype, list(output.shape)) == ("y0", datatype, [4, 2])
    assert list(answer.raw_output_contents) == [SPECIAL[datatype]]


@pytest.mark.parametrize("datatype", ONNX_TYPES)
@pytest.mark.parametrize(("kind", "shape"), [("rank0", []), ("rank4", [1, 2, 2, 2])])
def test_every_rank_passes(client: Client, datatype: str, kind: str, shape: list[int]) -> None:
    """A scalar and four dimensions come back with their shape and bytes, of every datatype."""
    raw = first_of(datatype) if kind == "rank0" else SPECIAL[datatype]
    answer = client.infer(f"{kind}_{datatype.lower()}", {"datatype": datatype, "shape": shape, "raw": raw})
    assert list(answer.outputs[0].shape) == shape
    assert list(answer.raw_output_contents) == [raw]


@pytest.mark.parametrize("datatype", TYPED_FIELDS)
def test_typed_contents_are_answered_raw(client: Client, datatype: str) -> None:
    """D11: each datatype that has a typed field passes through it bit for bit; the answer is raw."""
    raw = SPECIAL[datatype]
    contents = oip.InferTensorContents()
    if datatype == "BYTES":
        contents.bytes_contents.extend(texts_of(raw))
    elif datatype in PACKED:  # as a client in another language sends it: Python would lose a NaN's bits
        contents = oip.InferTensorContents.FromString(PACKED[datatype] + bytes([len(raw)]) + raw)
    else:
        getattr(contents, TYPED_FIELDS[datatype]).extend(np.frombuffer(raw, NUMPY[datatype]).tolist())
    tensor = {"datatype": datatype, "shape": [4, 2], "contents": contents}
    answer = client.infer(f"same_{datatype.lower()}", tensor)
    assert list(answer.raw_output_contents) == [raw]


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_half_floats_have_no_typed_form(client: Client, datatype: str) -> None:
    """D9: FP16 and BF16 in typed contents are refused, and the text says where they are expected."""
    contents = oip.InferTensorContents(fp32_contents=[1, 2])
    with pytest.raises(grpc.RpcError) as caught:
        client.infer(
            f"same_{datatype.lower()}", {"datatype": datatype, "shape": [1, 2], "contents": contents}
        )
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details() == (
        f"input 'x0': expected {datatype} in raw_input_contents, for no typed field holds it"
    )


def test_bf16_is_the_upper_half_of_a_float32(client: Client) -> None:
    """D9: what a model casts to BF16 is the float's upper two bytes, and cast back it is that float."""
    floats = np.array([1.5, -2.0, 0.0, -0.0, np.inf, -np.inf, 2.0**-133], "<f4")
    halves = floats.view("<u2")[1::2].tobytes()
    narrow = client.infer("narrow", {"datatype": "FP32", "shape": [7], "raw": floats.tobytes()})
    assert (narrow.outputs[0].datatype, narrow.raw_output_contents[0]) == ("BF16", halves)
    wide = client.infer("wide", {"datatype": "BF16", "shape": [7], "raw": halves})
    assert (wide.outputs[0].datatype, wide.raw_output_contents[0]) == ("FP32", floats.tobytes())


def test_two_inputs_and_outputs_keep_their_names_and_order(client: Client) -> None:
    """Inputs may come in any order; outputs come as asked for, or all in the file's order."""
    floats, whole = np.array([[1, 2]], "<f4"), np.array([7, 8, 9], "<i8")
    inputs = (
        {"name": "x1", "datatype": "INT64", "shape": [3], "raw": whole.tobytes()},
        {"name": "x0", "datatype": "FP32", "shape": [1, 2], "raw": floats.tobytes()},
    )
    answer = client.infer("two", *map(dict, inputs))
    assert [output.name for output in answer.outputs] == ["y0", "y1"]
    assert list(answer.raw_output_contents) == [floats.tobytes(), whole.tobytes()]
    asked = client.infer("two", *map(dict, inputs), outputs=[{"name": "y1"}, {"name": "y0"}])
    assert list(asked.raw_output_contents) == [whole.tobytes(), floats.tobytes()]
    only = client.infer("two", *map(dict, inputs), outputs=[{"name": "y1"}])
    assert list(only.raw_output_contents) == [whole.tobytes()]


@pytest.mark.parametrize("outputs", [[], ["y2", "y1"], ["y0"]])
def test_bf16_stands_beside_other_datatypes(client: Client, outputs: list[str]) -> None:
    """A model with BF16 and other outputs answers them together or apart."""
    inputs = {
        "BF16": {"datatype": "BF16", "shape": [8], "raw": SPECIAL["BF16"]},
        "FP64": {"datatype": "FP64", "shape": [8], "raw": SPECIAL["FP64"]},
        "BOOL": {"datatype": "BOOL", "shape": [8], "raw": SPECIAL["BOOL"]},
    }
    answer = client.infer("mixed", *inputs.values(), outputs=[{"name": name} for name in outputs])
    assert [output.name for output in answer.outputs] == (outputs or ["y0", "y1", "y2"])
    for output, raw in zip(answer.outputs, answer.raw_output_contents, strict=True):
        assert raw == SPECIAL[output.datatype]


@pytest.mark.parametrize("typed", [False, True])
def test_text_that_is_no_utf8_is_refused_by_its_place(client: Client, *, typed: bool) -> None:
    """D10: ONNX texts are UTF-8; other bytes are an invalid argument that names input, element and byte."""
    texts = [b"ok", b"a\xff"]
    first: dict = {"datatype": "BYTES", "shape": [2]}
    second: dict = {"datatype": "FP32", "shape": [1, 1]}
    if typed:
        first["contents"] = oip.InferTensorContents(bytes_contents=texts)
        second["contents"] = oip.InferTensorContents(fp32_contents=[1])
    else:
        first["raw"] = b"".join(struct.pack("<I", len(text)) + text for text in texts)
        second["raw"] = bytes(4)
    with pytest.raises(grpc.RpcError) as caught:
        client.infer("texts", first, second)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details() == (
        "input 'x0': expected text in UTF-8, as ONNX has it, came element 1 with invalid start byte at byte 1"
    )


@pytest.mark.parametrize("datatype", ONNX_TYPES)
def test_tritonclient_sends_and_reads_every_datatype(client: Client, datatype: str) -> None:
    """What Triton's client makes of a numpy array comes back as that array; for BF16 it takes float32."""
    if datatype == "BYTES":
        array = np.array([b"a", "k\u00e4se".encode()], np.object_).reshape(1, 2)
    else:
        array = np.array([[0, 1]]).astype(triton_to_np_dtype(datatype))
    tensor = triton.InferInput("x0", [1, 2], datatype)
    tensor.set_data_from_numpy(array)
    with triton.InferenceServerClient(client.target) as asking:
        answer = asking.infer(f"same_{datatype.lower()}", [tensor]).as_numpy("y0")
    assert answer.dtype == array.dtype
    np.testing.assert_array_equal(answer, array)


def test_predict_answers_in_the_models_own_datatype(client: Client) -> None:
    """`tickserve.v1.Predict` sends float32 rows; an output of another datatype comes with its name."""
    part = wire.PredictPart(model="same_fp32", rows=4, features=SPECIAL["FP32"])
    (result,) = stub(client.channel, "Predict", wire.PredictResponse)(
        wire.PredictRequest(parts=[part]), timeout=60
    ).parts
    (tensor,) = result.outputs
    assert (tensor.datatype, list(tensor.shape), tensor.raw) == ("FP32", [4, 2], SPECIAL["FP32"])
    bad = wire.PredictPart(model="same_bf16", rows=4, features=SPECIAL["FP32"])
    (refused,) = stub(client.channel, "Predict", wire.PredictResponse)(
        wire.PredictRequest(parts=[bad]), timeout=60
    ).parts
    assert refused.status.message == "model 'same_bf16:1': input 'x0': expected BF16, came FP32"


def texts_of(raw: bytes) -> list[bytes]:
    """The elements of BYTES in its raw form."""
    texts = []
    while raw:
        length = struct.unpack_from("<I", raw)[0]
        texts.append(raw[4 : 4 + length])
        raw = raw[4 + length :]
    return texts
