"""What a tensor looks like: name, datatype and shape, in the words of the Open Inference Protocol."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

# Open Inference datatype → numpy dtype, little-endian. BYTES elements are Python `bytes` in an object array.
# No two have the same dtype, so an array tells its datatype. BF16, which numpy has not, is a structure of the
# upper two bytes of a float32.
NUMPY_DTYPES: Final[dict[str, np.dtype[Any]]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BF16": np.dtype([("bf16", "<u2")]),
    "BYTES": np.dtype(np.object_),
}

VARIABLE: Final = -1


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, Open Inference datatype and shape of one input or output; -1 where the size varies."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.datatype not in NUMPY_DTYPES:
            raise ValueError(f"tensor {self.name!r}: unknown datatype {self.datatype!r}")

    @property
    def one_row(self) -> tuple[int, ...]:
        """The shape of one row: sizes that vary are 1."""
        return tuple(1 if size == VARIABLE else size for size in self.shape)

    def accepts(self, shape: tuple[int, ...]) -> bool:
        """Whether an array of `shape` fits: same rank, and equal wherever the size is fixed."""
        return len(shape) == len(self.shape) and all(
            want in (VARIABLE, came) for want, came in zip(self.shape, shape, strict=True)
        )

    def __str__(self) -> str:
        sizes = ", ".join("?" if size == VARIABLE else str(size) for size in self.shape)
        return f"{self.name}: {self.datatype}[{sizes}]"
