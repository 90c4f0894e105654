"""The bound on the fields of a message, held before parsing makes objects of them."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from open_inference.v2 import inference_pb2 as oip
from tickserve.v1 import predictor_pb2 as wire

from inference_server.core.errors import InvalidRequestError
from inference_server.rpc.codec import MAX_TEXTS, MAX_TYPED_INTEGERS
from inference_server.rpc.fields import MAX_FIELDS, SMALL_BYTES, FieldBound

INFER = FieldBound(oip.ModelInferRequest)
EMPTY_INPUT, EMPTY_RAW = b"\x2a\x00", b"\x3a\x00"


@pytest.mark.parametrize("field", [EMPTY_INPUT, EMPTY_RAW, b"\x0a\x00", b"\xa0\x3f\x00", b"\x5b\x5c"])
def test_fields_without_end_are_refused_quickly(field: bytes) -> None:
    """D14: 64 MiB of empty fields, known or not, are refused before they become gigabytes."""
    raw = field * ((64 << 20) // len(field))
    began = time.thread_time()
    with pytest.raises(
        InvalidRequestError, match=r"at most 65536 fields in one inference\.ModelInferRequest"
    ):
        INFER.check(raw)
    assert time.thread_time() - began < 2


def test_fields_of_submessages_count() -> None:
    """The parameters of one input count as the message's own fields do."""
    inner = b"\x22\x00" * MAX_FIELDS
    with pytest.raises(InvalidRequestError, match="fields"):
        INFER.check(b"\x2a" + _sized(inner))


def test_texts_and_packed_integers_have_bounds_of_their_own() -> None:
    """Empty texts and small integers in typed contents, and sizes of a shape, are refused unparsed too."""
    for begin, content, most in (
        (b"\x2a", b"\x42\x00" * (MAX_TEXTS + 1), f"{MAX_TEXTS} elements"),
        (b"\x2a", b"\x12" + _sized(b"\x01" * (MAX_TYPED_INTEGERS + 1)), f"{MAX_TYPED_INTEGERS} integers"),
        (b"", b"\x1a" + _sized(b"\x01" * (MAX_TYPED_INTEGERS + 1)), f"{MAX_TYPED_INTEGERS} integers"),
    ):
        tensor = begin + _sized(content) if begin else content
        with pytest.raises(InvalidRequestError, match=most):
            INFER.check(b"\x2a" + _sized(tensor))
    fine = oip.InferTensorContents(int_contents=[300] * MAX_TYPED_INTEGERS, bytes_contents=[b""] * 9)
    INFER.check(oip.ModelInferRequest(inputs=[{"contents": fine}]).SerializeToString())


def test_a_parameter_is_looked_into_where_it_is_long() -> None:
    """D14: what a value holds beside itself is counted too: to parse millions of such fields takes long."""
    value = b"\xf8\x3f\x01"
    entry = b"\x0a\x01a" + b"\x12" + _sized(value * (MAX_TEXTS + 1))
    with pytest.raises(InvalidRequestError, match=f"{MAX_TEXTS} elements"):
        INFER.check(b"\x22" + _sized(entry))
    INFER.check(b"\x22" + _sized(b"\x0a\x01a" + b"\x12" + _sized(value * MAX_TEXTS)))


def test_more_bytes_than_so_many_integers_have_are_not_counted() -> None:
    """D14: packed integers that cannot be within the bound are refused, whatever the bytes are."""
    for count, fits in ((MAX_TYPED_INTEGERS * 10, True), (MAX_TYPED_INTEGERS * 10 + 1, False)):
        raw = b"\x2a" + _sized(b"\x1a" + _sized(b"\x80" * count))
        if fits:
            INFER.check(raw)
            continue
        with pytest.raises(InvalidRequestError, match=f"{MAX_TYPED_INTEGERS} integers"):
            INFER.check(raw)


def test_the_bound_is_exact() -> None:
    """As many fields as are allowed pass, one more does not; also where empty parts are counted."""
    bound = FieldBound(wire.PredictRequest)
    bound.check(b"\x12\x00" * MAX_FIELDS)
    with pytest.raises(InvalidRequestError):
        bound.check(b"\x12\x00" * (MAX_FIELDS + 1))


def test_names_of_a_message_of_names_are_fields() -> None:
    """A message that holds nothing but texts has the bound on fields: each is walked."""
    bound = FieldBound(wire.DescribeModelsRequest)
    bound.check(b"\x0a\x00" * MAX_FIELDS)
    with pytest.raises(InvalidRequestError, match="at most 65536 fields"):
        bound.check(b"\x0a\x00" * (MAX_FIELDS + 1))


def test_a_large_good_message_passes() -> None:
    """Bytes, numbers and texts of any count are no fields; they have bounds of their own."""
    request = oip.ModelInferRequest(raw_input_contents=[bytes(1 << 20)])
    tensor = request.inputs.add(name="x", shape=[1] * 64)
    tensor.contents.bytes_contents.extend([b""] * (MAX_FIELDS * 2))
    request.inputs.add().contents.int_contents.extend(range(MAX_FIELDS * 2))
    raw = request.SerializeToString()
    assert len(raw) > SMALL_BYTES
    INFER.check(raw)


@given(st.binary(max_size=300), st.integers(1, 400))
@settings(derandomize=True, deadline=None, max_examples=50)
def test_bytes_that_cannot_be_parsed_are_somebody_elses(raw: bytes, times: int) -> None:
    """D14: the count ends on any bytes, whatever lengths they claim, with nothing but its own error."""
    try:
        INFER.check(raw * times + EMPTY_RAW[:1] + _sized(bytes(SMALL_BYTES)))
    except InvalidRequestError as error:
        assert "expected at most" in str(error)  # noqa: PT017 - either way is right


def _sized(raw: bytes) -> bytes:
    """Bytes behind their length as a varint."""
    number, out = len(raw), bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number]) + raw
