"""The codec: what the wire says is what the array holds, or the error says what came."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from open_inference.v2 import inference_pb2 as oip

from inference_server.core.errors import InvalidRequestError
from inference_server.core.tensor import NUMPY_DTYPES
from inference_server.rpc.codec import decode_inputs, decode_rows, encode_raw


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
            "contents and raw_input_contents together",
        ),
        (oip.ModelInferRequest(inputs=[tensor(), tensor()]), "expected 2 elements"),
        (
            oip.ModelInferRequest(inputs=[tensor(fp32_contents=[1, 2]), tensor(fp32_contents=[1, 2])]),
            "input 'x' stands twice",
        ),
        (oip.ModelInferRequest(inputs=[tensor(datatype="FP31")]), "unknown datatype 'FP31'"),
        (oip.ModelInferRequest(inputs=[tensor(shape=(-1, 2))]), "negative size"),
        (oip.ModelInferRequest(inputs=[tensor(shape=(2**31, 2))]), "more than"),
        (oip.ModelInferRequest(inputs=[tensor(datatype="FP16")]), "no typed field"),
        (oip.ModelInferRequest(inputs=[tensor(fp64_contents=[1, 2])]), "travels in fp32_contents"),
        (
            oip.ModelInferRequest(inputs=[tensor(datatype="INT8", int_contents=[1, 300])]),
            "does not fit INT8",
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


@given(st.binary(max_size=200))
def test_random_messages_never_do_worse_than_an_invalid_request(raw: bytes) -> None:
    """Whatever bytes parse as a request, decoding gives arrays or InvalidRequestError (D14)."""
    try:
        request = oip.ModelInferRequest.FromString(raw)
    except Exception:  # noqa: BLE001 - protobuf's own parse error; the transport answers it
        return
    try:
        arrays = decode_inputs(request)
    except InvalidRequestError:
        return
    assert set(arrays) == {entry.name for entry in request.inputs}


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
