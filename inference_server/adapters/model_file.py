"""The outermost layer of an ONNX file, read without building the graph.

An ONNX file is one protobuf message (onnx.proto, `ModelProto`). Its top-level fields are walked by their
lengths alone, which is quick at any size and notices a file that was cut off.
"""

from typing import Final

MODEL_VERSION_FIELD: Final = 5
GRAPH_FIELD: Final = 7
MAX_VERSION: Final = 2**63 - 1

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED_SIZES: Final = {_FIXED64: 8, _FIXED32: 4}


class IncompleteError(Exception):
    """Bytes that are no whole ONNX file, or not yet; the text says where they end or stop making sense."""


def read_model_version(model: bytes) -> int:
    """Return the `model_version` field, 0 when it is absent; IncompleteError unless the file is whole."""
    if not model:
        raise IncompleteError("the file is empty")
    position, version, has_graph = 0, 0, False
    while position < len(model):
        tag, position = _varint(model, position)
        field, wire_type = tag >> 3, tag & 7
        if wire_type == _VARINT:
            value, position = _varint(model, position)
            if field == MODEL_VERSION_FIELD:
                version = value if value <= MAX_VERSION else value - 2**64
            continue
        if wire_type == _BYTES:
            size, position = _varint(model, position)
        elif wire_type in _FIXED_SIZES:
            size = _FIXED_SIZES[wire_type]
        else:
            raise IncompleteError(f"not an ONNX file: byte {position - 1} is no field of one")
        has_graph = has_graph or field == GRAPH_FIELD
        position += size
        if position > len(model):
            raise IncompleteError(f"the file is cut off: {position} bytes are announced, {len(model)} came")
    if not has_graph:
        raise IncompleteError("not a whole ONNX file: it holds no graph")
    return version


def _varint(model: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position == len(model):
            raise IncompleteError(f"the file is cut off after {len(model)} bytes")
        byte = model[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (2**64 - 1), position
    raise IncompleteError(f"not an ONNX file: byte {position - 1} is no field of one")
