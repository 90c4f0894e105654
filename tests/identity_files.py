"""Small real ONNX files that answer what they are asked, of every element type and several shapes."""

from collections.abc import Sequence
from typing import Final

from onnx import TensorProto, helper
from onnx_files import make_model

ONNX_TYPES: Final = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BF16": TensorProto.BFLOAT16,
    "BYTES": TensorProto.STRING,
}


def identity_model(*tensors: tuple[str, Sequence[int | None]]) -> bytes:
    """Return a file with inputs `x0`, `x1`, ... and outputs `y0`, `y1`, ... of these datatypes and shapes."""
    numbered = list(enumerate(tensors))
    graph = helper.make_graph(
        [helper.make_node("Identity", [f"x{number}"], [f"y{number}"]) for number, _ in numbered],
        "identity",
        *(
            [
                helper.make_tensor_value_info(f"{letter}{number}", ONNX_TYPES[datatype], shape)
                for number, (datatype, shape) in numbered
            ]
            for letter in "xy"
        ),
    )
    return make_model(graph).SerializeToString()
