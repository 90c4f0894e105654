"""Messages to numpy and back. The form on the wire is checked here and nowhere else.

Whether a tensor fits a model is the data plane's question; whether the bytes are what the message says they
are is this module's. Encoding as in the Open Inference Protocol: raw, row-major, little-endian, no padding;
BYTES elements each with a 4-byte little-endian length before them.
"""

import math
import struct
from collections.abc import Sequence
from typing import Final

import numpy as np
from open_inference.v2 import inference_pb2 as oip

from inference_server.core.errors import InvalidRequestError
from inference_server.core.tensor import NUMPY_DTYPES, Array
from inference_server.serving.signature import shown

MAX_ELEMENTS: Final = 1 << 31
MAX_RANK: Final = 64  # numpy's own
LENGTH: Final = struct.Struct("<I")

# Open Inference datatype → the field of InferTensorContents that holds it. FP16 and BF16 have none.
TYPED_FIELDS: Final[dict[str, str]] = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


def decode_rows(raw: bytes, rows: int) -> Array:
    """Return float32, shape (rows, n_features), as a view of `raw`."""
    if rows < 1:
        raise InvalidRequestError(f"rows: expected at least 1, came {rows}")
    if not raw or len(raw) % (4 * rows):
        raise InvalidRequestError(
            f"features: expected float32 rows, a multiple of {4 * rows} bytes for {rows} rows, "
            f"came {len(raw)} bytes"
        )
    return np.frombuffer(raw, dtype="<f4").reshape(rows, -1)


def decode_inputs(request: oip.ModelInferRequest) -> dict[str, Array]:
    """Return every input of the request by name, raw or typed."""
    raws: Sequence[bytes] = request.raw_input_contents
    inputs = request.inputs
    if raws and len(raws) != len(inputs):
        raise InvalidRequestError(
            f"raw_input_contents: expected one entry for each of the {len(inputs)} inputs, came {len(raws)}"
        )
    arrays: dict[str, Array] = {}
    for index, tensor in enumerate(inputs):
        if tensor.name in arrays:
            raise InvalidRequestError(f"input {shown(tensor.name)} stands twice")
        shape = _shape(tensor)
        if not raws:
            arrays[tensor.name] = _decode_typed(tensor, shape)
        elif tensor.HasField("contents"):
            raise InvalidRequestError(
                f"input {shown(tensor.name)}: contents and raw_input_contents together; expected one of them"
            )
        else:
            arrays[tensor.name] = decode_raw(tensor.name, tensor.datatype, shape, raws[index])
    return arrays


def decode_raw(name: str, datatype: str, shape: tuple[int, ...], raw: bytes) -> Array:
    """Return the array that `raw` holds; its size must be shape times dtype exactly."""
    dtype = NUMPY_DTYPES[datatype]
    if datatype == "BYTES":
        return _decode_bytes(name, shape, raw)
    expected = math.prod(shape) * dtype.itemsize
    if len(raw) != expected:
        raise InvalidRequestError(
            f"input {shown(name)}: expected {expected} bytes for {datatype}{list(shape)}, came {len(raw)}"
        )
    return np.frombuffer(raw, dtype=dtype).reshape(shape)


def encode_raw(array: Array) -> bytes:
    """Return the array's elements, row-major and little-endian."""
    if array.dtype == np.object_:
        parts = (element if isinstance(element, bytes) else str(element).encode() for element in array.flat)
        return b"".join(LENGTH.pack(len(part)) + part for part in parts)
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("<"))
    return array.tobytes()


def _shape(tensor: oip.ModelInferRequest.InferInputTensor) -> tuple[int, ...]:
    if tensor.datatype not in NUMPY_DTYPES:
        raise InvalidRequestError(
            f"input {shown(tensor.name)}: unknown datatype {shown(tensor.datatype)}; "
            f"expected one of {', '.join(NUMPY_DTYPES)}"
        )
    if len(tensor.shape) > MAX_RANK:
        raise InvalidRequestError(
            f"input {shown(tensor.name)}: expected at most {MAX_RANK} dimensions, came {len(tensor.shape)}"
        )
    shape = tuple(tensor.shape)
    if any(size < 0 for size in shape):
        raise InvalidRequestError(f"input {shown(tensor.name)}: shape {list(shape)} has a negative size")
    if math.prod(size or 1 for size in shape) > MAX_ELEMENTS:  # numpy refuses other sizes beside a 0 too
        raise InvalidRequestError(
            f"input {shown(tensor.name)}: shape {list(shape)} has more than {MAX_ELEMENTS} elements"
        )
    return shape


def _decode_typed(tensor: oip.ModelInferRequest.InferInputTensor, shape: tuple[int, ...]) -> Array:
    field = TYPED_FIELDS.get(tensor.datatype)
    if field is None:
        raise InvalidRequestError(
            f"input {shown(tensor.name)}: {tensor.datatype} has no typed field; send it raw"
        )
    filled = [descriptor.name for descriptor, _ in tensor.contents.ListFields()]
    if filled and filled != [field]:
        raise InvalidRequestError(
            f"input {shown(tensor.name)}: {tensor.datatype} travels in {field}, came {', '.join(filled)}"
        )
    values = getattr(tensor.contents, field)
    if len(values) != math.prod(shape):
        raise InvalidRequestError(
            f"input {shown(tensor.name)}: expected {math.prod(shape)} elements for shape {list(shape)}, "
            f"came {len(values)}"
        )
    dtype = NUMPY_DTYPES[tensor.datatype]
    try:
        return np.array(values, dtype=dtype).reshape(shape)
    except OverflowError:
        raise InvalidRequestError(
            f"input {shown(tensor.name)}: an element does not fit {tensor.datatype}"
        ) from None


def _decode_bytes(name: str, shape: tuple[int, ...], raw: bytes) -> Array:
    elements: list[bytes] = []
    expected = math.prod(shape)
    at = 0
    while at < len(raw):
        start = at + LENGTH.size
        end = start + LENGTH.unpack_from(raw, at)[0] if start <= len(raw) else len(raw) + 1
        if end > len(raw):
            raise InvalidRequestError(
                f"input {shown(name)}: element {len(elements)} runs past the end of the bytes"
            )
        elements.append(raw[start:end])
        at = end
    if len(elements) != expected:
        raise InvalidRequestError(
            f"input {shown(name)}: expected {expected} elements for BYTES{list(shape)}, came {len(elements)}"
        )
    array = np.empty(expected, dtype=np.object_)
    array[:] = elements
    return array.reshape(shape)
