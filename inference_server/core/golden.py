"""Golden vectors: rows with the answers that the fitted estimator gave, and the comparison with a model's."""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self, cast

import numpy as np
from numpy.typing import NDArray

from inference_server.core.errors import ContractError
from inference_server.core.tensor import NUMPY_DTYPES, Array

WORST_ROWS: Final = 5


@dataclass(frozen=True, slots=True, eq=False)
class GoldenOutput:
    """What the fitted estimator answered to the golden rows.

    A served value v fits an expected value e when |v - e| <= atol + rtol * |e|, or both are the same NaN
    or infinity. Labels carry atol = rtol = 0.
    """

    name: str
    expected: Array
    atol: float
    rtol: float


@dataclass(frozen=True, slots=True)
class GoldenMismatch:
    """One golden row on which a model does not answer as the estimator did."""

    row: int
    output: str
    expected: tuple[float | str, ...]
    came: tuple[float | str, ...]
    error: float

    def __str__(self) -> str:
        return (
            f"golden row {self.row}: output {self.output!r} is {_numbers(self.came)}, "
            f"the estimator answered {_numbers(self.expected)} (off by {self.error:.3g})"
        )


@dataclass(frozen=True, slots=True, eq=False)
class GoldenVectors:
    """Inputs, float32, shape (rows, n_features), and what the estimator answered to them."""

    inputs: NDArray[np.float32]
    outputs: tuple[GoldenOutput, ...]

    def mismatches(self, answers: Mapping[str, Array]) -> list[GoldenMismatch]:
        """Return the rows that do not fit, the worst first, at most five an output."""
        found: list[GoldenMismatch] = []
        for golden in self.outputs:
            came = answers[golden.name]
            if (came.dtype == np.object_) != (golden.expected.dtype == np.object_):
                raise ContractError(
                    f"output {golden.name!r} is of dtype {came.dtype} on the golden rows, "
                    f"expected {golden.expected.dtype}"
                )
            if came.shape != golden.expected.shape:
                raise ContractError(
                    f"output {golden.name!r} has shape {came.shape} on the golden rows, "
                    f"expected {golden.expected.shape}"
                )
            found += _compare(golden, came)
        return found

    def check(self, n_features: int) -> None:
        """Raise ContractError unless the rows are float32 of this width, each with its answers."""
        if self.inputs.ndim != 2 or self.inputs.shape[1] != n_features:
            raise ContractError(
                f"golden.inputs: expected shape (rows, {n_features}), came {self.inputs.shape}"
            )
        if self.inputs.dtype != np.float32:
            raise ContractError(f"golden.inputs: expected float32, came {self.inputs.dtype}")
        if not len(self.inputs):
            raise ContractError("golden.inputs: expected at least one row")
        for golden in self.outputs:
            if not (0 <= golden.atol < math.inf and 0 <= golden.rtol < math.inf):
                raise ContractError(
                    f"golden.outputs[{golden.name!r}]: expected tolerances of 0 or more, "
                    f"came atol {golden.atol}, rtol {golden.rtol}"
                )
            if len(golden.expected) != len(self.inputs):
                raise ContractError(
                    f"golden.outputs[{golden.name!r}]: expected {len(self.inputs)} rows, "
                    f"came {len(golden.expected)}"
                )

    def to_document(self) -> dict[str, Any]:
        """Write them as what JSON can hold; arrays as base64 of their little-endian bytes."""
        return {
            "inputs": _write_array(self.inputs),
            "outputs": [
                {
                    "name": golden.name,
                    "expected": _write_array(golden.expected),
                    "atol": golden.atol,
                    "rtol": golden.rtol,
                }
                for golden in self.outputs
            ],
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """Read them back; KeyError, TypeError, ValueError or ContractError where the form is wrong."""
        return cls(
            inputs=cast("NDArray[np.float32]", _read_array(document["inputs"])),
            outputs=tuple(
                GoldenOutput(
                    name=_text(output["name"], "golden.outputs.name"),
                    expected=_read_array(output["expected"]),
                    atol=float(output["atol"]),
                    rtol=float(output["rtol"]),
                )
                for output in document["outputs"]
            ),
        )


def _text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise ContractError(f"{name}: expected a text, came {value!r}")
    return value


def _write_array(array: Array) -> dict[str, Any]:
    if array.dtype == np.object_:
        return {
            "datatype": "BYTES",
            "shape": list(array.shape),
            "texts": [str(v) for v in array.flat],
        }
    for datatype, dtype in NUMPY_DTYPES.items():
        if array.dtype == dtype:
            raw = np.ascontiguousarray(array).tobytes()
            return {
                "datatype": datatype,
                "shape": list(array.shape),
                "base64": base64.b64encode(raw).decode("ascii"),
            }
    raise ContractError(f"an array of dtype {array.dtype} cannot be written")


def _read_array(document: Mapping[str, Any]) -> Array:
    shape = tuple(document["shape"])
    if not all(type(size) is int and size >= 0 for size in shape):
        raise ContractError(f"shape: expected integers of 0 or more, came {document['shape']!r}")
    if document["datatype"] == "BYTES":
        return np.array([_text(value, "texts") for value in document["texts"]], dtype=np.object_).reshape(
            shape
        )
    raw = base64.b64decode(document["base64"], validate=True)
    return np.frombuffer(raw, dtype=NUMPY_DTYPES[document["datatype"]]).reshape(shape)


def _compare(golden: GoldenOutput, came: Array) -> list[GoldenMismatch]:
    rows = len(golden.expected)
    if golden.expected.dtype == np.object_:
        error = np.array(
            [float(str(a) != str(b)) for a, b in zip(golden.expected.flat, came.flat, strict=True)]
        )
        bad = error > 0
    else:
        expected = golden.expected.astype(np.float64)
        values = came.astype(np.float64)
        with np.errstate(invalid="ignore"):
            same = (expected == values) | (np.isnan(expected) & np.isnan(values))
            error = np.where(same, 0.0, np.abs(values - expected))
            allowed = golden.atol + golden.rtol * np.abs(expected)
            # Written so that a NaN on one side only, whose error is NaN, is bad.
            bad = ~(same | (error <= np.where(np.isfinite(allowed), allowed, 0.0)))
        error = np.where(np.isnan(error), np.inf, error)
    row_error = np.where(bad, error, 0.0).reshape(rows, -1).max(axis=1)
    worst = np.argsort(-row_error, kind="stable")[:WORST_ROWS]
    return [
        GoldenMismatch(
            row=int(row),
            output=golden.name,
            expected=tuple(np.atleast_1d(golden.expected[row]).ravel().tolist()),
            came=tuple(np.atleast_1d(came[row]).ravel().tolist()),
            error=float(row_error[row]),
        )
        for row in worst
        if row_error[row] > 0
    ]


def _numbers(values: Sequence[float | str]) -> str:
    parts = [f"{v:.6g}" if isinstance(v, float) else str(v) for v in values]
    return parts[0] if len(parts) == 1 else f"[{', '.join(parts)}]"
