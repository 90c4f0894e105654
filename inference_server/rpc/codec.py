"""Messages to numpy and back. The form on the wire is checked here and nowhere else.

Whether a tensor fits a model is the data plane's question; whether the bytes are what the message says they
are is this module's. Encoding as in the Open Inference Protocol: raw, row-major, little-endian, no padding;
BYTES elements each with a 4-byte little-endian length before them.

Decoding runs on the event loop. Raw numbers are views and cost nothing; what costs by the element is bounded.
"""

import math
import struct
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

import numpy as np
from open_inference.v2 import inference_pb2 as oip

from inference_server.core.errors import InvalidRequestError
from inference_server.core.tensor import NUMPY_DTYPES, Array
from inference_server.serving.signature import shown

MAX_ELEMENTS: Final = 1 << 31
MAX_RANK: Final = 64  # numpy's own
MAX_TENSORS: Final = 4096
# Of all inputs of a request together: what is decoded element by element, for a tenth of a second at most.
MAX_TEXTS: Final = 1 << 18
MAX_TYPED_INTEGERS: Final = 1 << 20
MAX_ID_CHARACTERS: Final = 256
LENGTH: Final = struct.Struct("<I")
FLOAT32: Final = np.dtype("<f4")
NOWHERE_ELSE: Final[Mapping[int, bytes]] = MappingProxyType({})

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
# Those whose packed form on the wire is the array's own.
PACKED: Final = frozenset({"BOOL", "FP32", "FP64"})


def check_id(id_: str) -> None:
    """Refuse an id that would be echoed at any length."""
    if len(id_) > MAX_ID_CHARACTERS:
        raise InvalidRequestError(f"id: expected at most {MAX_ID_CHARACTERS} characters, came {len(id_)}")


def check_tensors(request: oip.ModelInferRequest) -> None:
    """Refuse more inputs or outputs than a request may name, before anything is done for each of them."""
    if len(request.inputs) > MAX_TENSORS or len(request.outputs) > MAX_TENSORS:
        raise InvalidRequestError(
            f"expected at most {MAX_TENSORS} inputs and as many outputs, "
            f"came {len(request.inputs)} inputs and {len(request.outputs)} outputs"
        )


def decode_rows(raw: bytes, rows: int) -> Array:
    """Return float32, shape (rows, n_features), as a view of `raw`."""
    if rows < 1:
        raise InvalidRequestError(f"rows: expected at least 1, came {rows}")
    if not raw or len(raw) % (4 * rows):
        raise InvalidRequestError(
            f"features: expected float32 rows, a multiple of {4 * rows} bytes for {rows} rows, "
            f"came {len(raw)} bytes"
        )
    return np.frombuffer(raw, FLOAT32).reshape(rows, -1)


def decode_inputs(
    request: oip.ModelInferRequest, elsewhere: Mapping[int, bytes] = NOWHERE_ELSE
) -> dict[str, Array]:
    """Return every input of the request by name, raw or typed.

    `elsewhere` holds, by its place in `inputs`, the raw bytes of an input that is not in the message: it has
    no contents, and no entry in `raw_input_contents`.
    """
    raws: Sequence[bytes] = request.raw_input_contents
    inputs = request.inputs
    count = len(inputs)
    if raws and len(raws) != count - len(elsewhere):
        raise InvalidRequestError(
            f"raw_input_contents: expected one entry for each of the {count - len(elsewhere)} inputs, "
            f"came {len(raws)}"
        )
    arrays: dict[str, Array] = {}
    slots = iter(raws)
    texts = integers = 0
    for index, tensor in enumerate(inputs):
        name, datatype = tensor.name, tensor.datatype
        if name in arrays:
            raise InvalidRequestError(f"input {shown(name)} stands twice; expected each input once")
        shape = _shape(name, datatype, tensor.shape)
        raw = elsewhere.get(index) if elsewhere else None
        if raw is None and raws:
            raw = next(slots)
        if datatype == "BYTES":
            texts += math.prod(shape)
            _check_bound("elements of BYTES", texts, MAX_TEXTS, "")
        if raw is not None:
            if tensor.HasField("contents"):
                raise InvalidRequestError(
                    f"input {shown(name)}: expected contents or raw bytes, came both together"
                )
            arrays[name] = decode_raw(name, datatype, shape, raw)
        else:
            if datatype not in PACKED and datatype != "BYTES":
                integers += math.prod(shape)
                _check_bound("integers in contents", integers, MAX_TYPED_INTEGERS, "; send them raw")
            arrays[name] = _decode_typed(name, datatype, shape, tensor.contents)
    return arrays


def decode_raw(name: str, datatype: str, shape: tuple[int, ...], raw: bytes) -> Array:
    """Return the array that `raw` holds; its size must be shape times dtype exactly."""
    dtype = NUMPY_DTYPES[datatype]
    if datatype == "BYTES":
        return _decode_bytes(name, shape, raw)
    expected = math.prod(shape) * dtype.itemsize
    if len(raw) != expected:
        raise InvalidRequestError(
            f"input {shown(name)}: expected {expected} bytes for {datatype}{_listed(shape)}, came {len(raw)}"
        )
    if datatype == "BOOL" and np.frombuffer(raw, np.uint8).max(initial=0) > 1:
        bad = raw.translate(None, b"\0\1")[0]
        raise InvalidRequestError(f"input {shown(name)}: expected BOOL bytes of 0 or 1, came {bad}")
    return np.frombuffer(raw, dtype=dtype).reshape(shape)


def encode_raw(array: Array) -> bytes:
    """Return the array's elements, row-major and little-endian."""
    if array.dtype.hasobject:
        parts = (element if isinstance(element, bytes) else str(element).encode() for element in array.flat)
        return b"".join(LENGTH.pack(len(part)) + part for part in parts)
    if array.dtype.byteorder == ">":
        array = _little_endian(array)
    return array.tobytes()


def encoded_view(array: Array) -> bytes | memoryview:
    """Return the same bytes, uncopied where they lie so already: good as long as nobody writes the array."""
    if array.dtype == np.object_:
        return encode_raw(array)
    return _little_endian(array).reshape(-1).view(np.uint8).data


def _little_endian(array: Array) -> Array:
    return array.astype(array.dtype.newbyteorder("<")) if array.dtype.byteorder == ">" else array


def _check_bound(what: str, came: int, bound: int, advice: str) -> None:
    if came > bound:
        raise InvalidRequestError(f"expected at most {bound} {what} in one request{advice}, came {came}")


def _shape(name: str, datatype: str, sizes: Sequence[int]) -> tuple[int, ...]:
    if datatype not in NUMPY_DTYPES:
        raise InvalidRequestError(
            f"input {shown(name)}: unknown datatype {shown(datatype)}; "
            f"expected one of {', '.join(NUMPY_DTYPES)}"
        )
    if len(sizes) > MAX_RANK:
        raise InvalidRequestError(
            f"input {shown(name)}: expected at most {MAX_RANK} dimensions, came {len(sizes)}"
        )
    shape = tuple(sizes)
    if shape and min(shape) < 0:
        raise InvalidRequestError(
            f"input {shown(name)}: expected no negative size, came shape {_listed(shape)}"
        )
    # numpy refuses sizes beyond its own also beside a 0.
    if math.prod(shape if 0 not in shape else filter(None, shape)) > MAX_ELEMENTS:
        raise InvalidRequestError(
            f"input {shown(name)}: expected at most {MAX_ELEMENTS} elements, came shape {_listed(shape)}"
        )
    return shape


def _listed(shape: Sequence[int]) -> str:
    """Return the shape, short: sizes of any length would push what matters out of a status text."""
    sizes = [str(size) for size in shape[:8]]
    return f"[{', '.join(sizes)}{', …' if len(shape) > 8 else ''}]"


def _decode_typed(
    name: str, datatype: str, shape: tuple[int, ...], contents: oip.InferTensorContents
) -> Array:
    field = TYPED_FIELDS.get(datatype)
    if field is None:
        raise InvalidRequestError(
            f"input {shown(name)}: expected {datatype} in raw_input_contents, for no typed field holds it"
        )
    filled = [descriptor.name for descriptor, _ in contents.ListFields()]
    if filled and filled != [field]:
        raise InvalidRequestError(
            f"input {shown(name)}: expected {datatype} in {field}, came {', '.join(filled)}"
        )
    values = getattr(contents, field)
    if len(values) != math.prod(shape):
        raise InvalidRequestError(
            f"input {shown(name)}: expected {math.prod(shape)} elements for shape {_listed(shape)}, "
            f"came {len(values)}"
        )
    dtype = NUMPY_DTYPES[datatype]
    if datatype == "BYTES":
        return _text_array(list(values), shape)
    if values and datatype in PACKED:
        # As bytes and not one by one: that is quick, and keeps a NaN's own bits, which Python's floats lose.
        # The field is the only one that is known, and so all that is left.
        contents.DiscardUnknownFields()
        packed = contents.SerializeToString()
        start = len(packed) - len(values) * dtype.itemsize
        return np.frombuffer(packed, dtype, offset=start).reshape(shape)
    try:
        return np.array(values, dtype=dtype).reshape(shape)
    except OverflowError:
        limits = np.iinfo(dtype)
        bad = next(value for value in values if not limits.min <= value <= limits.max)
        raise InvalidRequestError(
            f"input {shown(name)}: expected {datatype} from {limits.min} to {limits.max}, came {bad}"
        ) from None


def _decode_bytes(name: str, shape: tuple[int, ...], raw: bytes) -> Array:
    expected = math.prod(shape)
    elements: list[bytes] = []
    unpack, size = LENGTH.unpack_from, len(raw)
    start = 0
    while start < size and len(elements) <= expected:
        length = unpack(raw, start)[0] if start + 4 <= size else size
        end = start + 4 + length
        if end > size:
            came = f"length {length}" if start + 4 <= size else f"{size - start} bytes of a length"
            raise InvalidRequestError(
                f"input {shown(name)}: element {len(elements)} runs past the end of the bytes: "
                f"expected at most {max(0, size - start - 4)} bytes more, came {came}"
            )
        elements.append(raw[start + 4 : end])
        start = end
    if len(elements) != expected:
        more = "more" if len(elements) > expected else len(elements)
        raise InvalidRequestError(
            f"input {shown(name)}: expected {expected} elements for BYTES{_listed(shape)}, came {more}"
        )
    return _text_array(elements, shape)


def _text_array(elements: list[bytes], shape: tuple[int, ...]) -> Array:
    array = np.empty(len(elements), dtype=np.object_)
    array[:] = elements
    return array.reshape(shape)
