"""BF16 in and out of ONNX Runtime, bit for bit.

numpy has no such dtype, so the runtime takes and gives it only as values of its own (`OrtValue`), which its
Python binding makes of any array but of texts. Reading one back is left to whoever knows its address.
"""

import ctypes
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from onnxruntime import OrtValue

from inference_server.core.tensor import NUMPY_DTYPES, Array

BF16: Final = NUMPY_DTYPES["BF16"]
BF16_TYPE: Final = 16  # ONNX's TensorProto.BFLOAT16


def bf16_wrapped(inputs: Mapping[str, Array]) -> dict[str, Any]:
    """Return the inputs, those of BF16 as values of the runtime, which share the arrays' memory."""
    return {name: _wrapped(array) if array.dtype == BF16 else array for name, array in inputs.items()}


def all_wrapped(inputs: Mapping[str, Any]) -> dict[str, OrtValue]:
    """Return every input as a value of the runtime; none may be an array of texts."""
    return {
        name: value
        if isinstance(value, OrtValue)
        else OrtValue.ortvalue_from_numpy(np.asarray(value, order="C"))
        for name, value in inputs.items()
    }


def unwrapped(values: Sequence[OrtValue]) -> list[Array]:
    """Return an array for each value, which needs no value any more; texts are `str` in object arrays."""
    return [_bf16_array(value) if value.element_type() == BF16_TYPE else value.numpy() for value in values]


def _wrapped(array: Array) -> OrtValue:
    return OrtValue.ortvalue_from_numpy_with_onnx_type(np.asarray(array, order="C"), BF16_TYPE)


def _bf16_array(value: OrtValue) -> Array:
    shape = tuple(value.shape())
    size_bytes = math.prod(shape) * BF16.itemsize
    # An empty value may have no address.
    raw = ctypes.string_at(value.data_ptr(), size_bytes) if size_bytes else b""
    return np.frombuffer(raw, BF16).reshape(shape)
