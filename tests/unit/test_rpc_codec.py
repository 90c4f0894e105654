"""The codec: what the wire says is what the array holds, or the error says what came."""

import math
import random
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from open_inference.v2 import inference_pb2 as oip

from inference_server.core.errors import InvalidRequestError
from inference_server.core.tensor import NUMPY_DTYPES
from inference_server.rpc.codec import TYPED_FIELDS, decode_inputs, decode_rows, encode_raw, encoded_view

# What stands before the elements of these in their typed field.
TAGS = {"FP32": b"\x32", "FP64": b"\x3a"}


def tensor(name: str = "x", datatype: str = "FP32", shape: tuple[int, ...] = (1, 2), **contents: list):
    """Return an input tensor, with typed contents where given."""
    message = oip.ModelInferRequest.InferInputTensor(name=name, datatype=datatype, shape=shape)
    for field, values in contents.items():
        getattr(message.contents, field).extend(values)
    return message


@pytest.mark.parametrize("datatype", sorted(set(NUMPY_DTYPES) - {"BYTES"}))
def test_raw_is_little_endian_row_major(datatype: str) -> None:
    """Every fixed-size datatype goes out and comes back the same (D9 for FP16 and BF16)."""
    dtype = NUMPY_DTYPES[datatype]
    array = np.array([[0, 1, 2], [3, 4, 5]]).astype(dtype)
    request = oip.ModelInferRequest(
        inputs=[tensor(datatype=datatype, shape=(2, 3))], raw_input_contents=[encode_raw(array)]
    )
    np.testing.assert_array_equal(decode_inputs(request)["x"], array)


def test_a_view_copies_nothing_that_lies_right() -> None:
    """Row-major little-endian elements are viewed where they are; any others are put in order."""
    right = np.arange(6, dtype="<f4").reshape(2, 3)
    view = encoded_view(right)
    right[0, 0] = 7
    assert view == right.tobytes()
    for other in (
        right.T,
        right[:, ::2],
        right.astype(">f4"),
        right.astype(">f4").T,
        right[0, 0, None, None],
    ):
        assert encoded_view(other) == encode_raw(other) == other.astype("<f4").tobytes()


def test_an_array_tells_its_datatype() -> None:
    """No two datatypes share a dtype, so what was declared is what is checked: BF16 is no UINT16 (D3, D9)."""
    assert len(set(NUMPY_DTYPES.values())) == len(NUMPY_DTYPES)


def test_big_endian_and_strided_arrays_are_put_in_order() -> None:
    """What a runtime hands over in another order leaves little-endian and row-major."""
    array = np.arange(6, dtype=">f4").reshape(2, 3).T
    assert encode_raw(array) == struct.pack("<6f", 0, 3, 1, 4, 2, 5)


@pytest.mark.parametrize(
    ("datatype", "field", "values"),
    [
        ("BOOL", "bool_contents", [True, False]),
        ("INT8", "int_contents", [-128, 127]),
        ("INT64", "int64_contents", [-(2**63), 2**63 - 1]),
        ("UINT16", "uint_contents", [0, 65535]),
        ("UINT64", "uint64_contents", [0, 2**64 - 1]),
        ("FP32", "fp32_contents", [0.5, -1.5]),
        ("FP64", "fp64_contents", [0.1, 1e300]),
        ("BYTES", "bytes_contents", [b"a", b""]),
    ],
)
def test_typed_contents_are_read(datatype: str, field: str, values: list) -> None:
    """Each datatype travels in its own typed field."""
    request = oip.ModelInferRequest(inputs=[tensor(datatype=datatype, **{field: values})])
    array = decode_inputs(request)["x"]
    assert array.dtype == NUMPY_DTYPES[datatype]
    assert array.tolist() == [values]


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=6))
def test_bytes_elements_keep_their_lengths(elements: list[bytes]) -> None:
    """BYTES elements of any length, empty ones too, come back as they were."""
    array = np.empty(len(elements), dtype=object)
    array[:] = elements
    request = oip.ModelInferRequest(
        inputs=[tensor(datatype="BYTES", shape=(len(elements),))], raw_input_contents=[encode_raw(array)]
    )
    assert decode_inputs(request)["x"].tolist() == elements


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (oip.ModelInferRequest(inputs=[tensor()], raw_input_contents=[b"1234567"]), "expected 8 bytes"),
        (oip.ModelInferRequest(inputs=[tensor()], raw_input_contents=[b"1" * 9]), "came 9"),
        (
            oip.ModelInferRequest(inputs=[tensor()], raw_input_contents=[b"", b""]),
            "one entry for each of the 1",
        ),
        (
            oip.ModelInferRequest(inputs=[tensor(fp32_contents=[1, 2])], raw_input_contents=[b"1" * 8]),
            "came both together",
        ),
        (oip.ModelInferRequest(inputs=[tensor(), tensor()]), "expected 2 elements"),
        (
            oip.ModelInferRequest(inputs=[tensor(fp32_contents=[1, 2]), tensor(fp32_contents=[1, 2])]),
            "input 'x' stands twice",
        ),
        (oip.ModelInferRequest(inputs=[tensor(datatype="FP31")]), "unknown datatype 'FP31'"),
        (oip.ModelInferRequest(inputs=[tensor(shape=(-1, 2))]), "expected no negative size, came shape"),
        (oip.ModelInferRequest(inputs=[tensor(shape=(2**31, 2))]), "at most 2147483648 elements, came"),
        (
            oip.ModelInferRequest(inputs=[tensor(datatype="FP16")]),
            "expected FP16 in raw_input_contents, for no typed field",
        ),
        (
            oip.ModelInferRequest(inputs=[tensor(fp64_contents=[1, 2])]),
            "expected FP32 in fp32_contents, came fp64_contents",
        ),
        (
            oip.ModelInferRequest(inputs=[tensor(datatype="INT8", int_contents=[1, 300])]),
            "expected INT8 from -128 to 127, came 300",
        ),
        (
            oip.ModelInferRequest(
                inputs=[tensor(datatype="BYTES")], raw_input_contents=[struct.pack("<I", 9) + b"abc"]
            ),
            "runs past the end",
        ),
        (
            oip.ModelInferRequest(inputs=[tensor(datatype="BYTES")], raw_input_contents=[b"ab"]),
            "runs past the end",
        ),
        (
            oip.ModelInferRequest(
                inputs=[tensor(datatype="BYTES")], raw_input_contents=[struct.pack("<I", 1) + b"a"]
            ),
            "expected 2 elements",
        ),
    ],
)
def test_a_wrong_wire_form_is_named(request_: oip.ModelInferRequest, text: str) -> None:
    """Sizes, counts, types and lengths that do not fit say what was expected (D5 to D10)."""
    with pytest.raises(InvalidRequestError, match=text):
        decode_inputs(request_)


@st.composite
def requests(draw: st.DrawFn) -> oip.ModelInferRequest:
    """A request whose tensors are right, nearly right, or anything."""
    request = oip.ModelInferRequest()
    shapes = st.lists(st.sampled_from([0, 1, 2, 3, -1, 2**31, 2**62]), max_size=4)
    small = st.lists(st.integers(1, 3), max_size=3)
    values = {"bool_contents": st.booleans(), "bytes_contents": st.binary(max_size=3)} | {
        field: st.floats(width=32) for field in ("fp32_contents", "fp64_contents")
    }
    for number in range(draw(st.integers(0, 3))):
        tensor = request.inputs.add(
            name=draw(st.sampled_from([f"x{number}", "x0", "", "\n\0", "\u202e" * 300])),
            datatype=draw(st.sampled_from([*NUMPY_DTYPES, "FP31"])),
            shape=draw(st.one_of(small, shapes)),
        )
        count = abs(math.prod(tensor.shape)) % 30
        if draw(st.booleans()):
            item = NUMPY_DTYPES.get(tensor.datatype, np.dtype("u1")).itemsize
            exact = st.binary(min_size=count * item, max_size=count * item)
            texts = st.lists(st.binary(max_size=4), min_size=count, max_size=count).map(encoded)
            request.raw_input_contents.append(
                draw(st.one_of(texts if tensor.datatype == "BYTES" else exact, st.binary(max_size=40)))
            )
        else:
            usual = TYPED_FIELDS.get(tensor.datatype, "uint_contents")
            field = draw(st.sampled_from([usual, usual, usual, "fp64_contents", "bytes_contents"]))
            item = values.get(field, st.integers(0, 300))
            size = draw(st.sampled_from([count, count, count, count + 1]))
            getattr(tensor.contents, field).extend(draw(st.lists(item, min_size=size, max_size=size)))
    return request


def encoded(texts: list[bytes]) -> bytes:
    """BYTES in raw form."""
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)


@given(requests())
@settings(derandomize=True, max_examples=500, deadline=None)
def test_what_is_decoded_is_what_was_declared(request_: oip.ModelInferRequest) -> None:
    """D14: a request becomes arrays of its datatypes, shapes and bytes, or an error in words."""
    try:
        arrays = decode_inputs(request_)
    except InvalidRequestError as error:
        text = str(error)
        assert "expected" in text
        assert text.isprintable()
        assert len(text) < 680
        return
    assert list(arrays) == [tensor.name for tensor in request_.inputs]
    for index, tensor in enumerate(request_.inputs):
        array = arrays[tensor.name]
        assert array.dtype == NUMPY_DTYPES[tensor.datatype]
        assert list(array.shape) == list(tensor.shape)
        assert array.flags.c_contiguous
        if request_.raw_input_contents:
            assert encode_raw(array) == request_.raw_input_contents[index]
        else:
            values = getattr(tensor.contents, TYPED_FIELDS[tensor.datatype])
            np.testing.assert_array_equal(array.ravel().tolist(), list(values))


@given(st.sampled_from(sorted(NUMPY_DTYPES)), st.lists(st.integers(0, 2), max_size=3), st.randoms())
@settings(derandomize=True, max_examples=300, deadline=None)
def test_any_array_comes_back_the_same(datatype: str, shape: list[int], chance: random.Random) -> None:
    """D11: raw and typed forms of any bytes of any datatype decode to arrays that encode to the same."""
    count = math.prod(shape)
    if datatype == "BYTES":
        texts = [chance.randbytes(chance.randrange(5)) for _ in range(count)]
        raw = encoded(texts)
    else:
        raw = chance.randbytes(count * NUMPY_DTYPES[datatype].itemsize)
        raw = bytes(byte & 1 for byte in raw) if datatype == "BOOL" else raw
    message = tensor(datatype=datatype, shape=tuple(shape))
    array = decode_inputs(oip.ModelInferRequest(inputs=[message], raw_input_contents=[raw]))["x"]
    assert encode_raw(array) == encoded_view(array) == raw
    if datatype not in TYPED_FIELDS or not count:
        return
    if datatype in TAGS:  # as other languages send it: Python's floats lose a NaN's own bits
        contents = oip.InferTensorContents.FromString(TAGS[datatype] + bytes([len(raw)]) + raw)
    else:
        contents = oip.InferTensorContents(**{TYPED_FIELDS[datatype]: array.ravel().tolist()})
    message.contents.CopyFrom(contents)
    assert encode_raw(decode_inputs(oip.ModelInferRequest(inputs=[message]))["x"]) == raw


def test_fields_that_are_not_known_change_nothing() -> None:
    """D15: typed floats beside a field of another protocol's version are read all the same, to the bit."""
    raw = struct.pack("<2I", 0x7FA00001, 0xC0200000)  # a NaN that Python's floats would change, and -2.5
    for unknown in (b"\xa2\x1f\x03abc", b"\x50\x07"):
        for content in (unknown + b"\x32\x08" + raw, b"\x32\x08" + raw + unknown):
            message = tensor(shape=(2,))
            message.contents.CopyFrom(oip.InferTensorContents.FromString(content))
            assert decode_inputs(oip.ModelInferRequest(inputs=[message]))["x"].tobytes() == raw


def test_an_input_that_lies_elsewhere_takes_no_entry() -> None:
    """A tensor whose bytes come from elsewhere has no slot among the raw entries and no contents."""
    request = oip.ModelInferRequest(
        inputs=[tensor("a"), tensor("b"), tensor("c")], raw_input_contents=[b"a" * 8, b"c" * 8]
    )
    arrays = decode_inputs(request, {1: b"b" * 8})
    assert [encode_raw(arrays[name]) for name in "abc"] == [b"a" * 8, b"b" * 8, b"c" * 8]
    with pytest.raises(InvalidRequestError, match="one entry for each of the 1 inputs, came 2"):
        decode_inputs(request, {1: b"b" * 8, 2: b"c" * 8})


def test_rows_are_a_view_of_the_message() -> None:
    """Decoding rows copies nothing and has the shape (rows, n_features)."""
    raw = np.arange(6, dtype="<f4").tobytes()
    array = decode_rows(raw, 2)
    assert array.shape == (2, 3)
    assert array.base is not None
    assert not array.flags.owndata


@pytest.mark.parametrize(("raw", "rows"), [(b"", 1), (b"12345", 1), (b"1234" * 3, 2), (b"1234", 0)])
def test_rows_that_do_not_divide_are_refused(raw: bytes, rows: int) -> None:
    """No rows, no bytes, or bytes that do not make whole rows are an invalid request (D5, D6)."""
    with pytest.raises(InvalidRequestError, match="expected"):
        decode_rows(raw, rows)
