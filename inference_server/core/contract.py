"""The contract: what a model promises, kept in the ONNX file's own metadata.

One JSON document under the metadata key `tickserve.contract`. It is written by `model_export`, read and
enforced by the sidecar, and handed to clients when they bind. `Contract.hash` covers exactly what must
match between client and server: the features (names in order, dtype, window, whether the current tick is
part of the history, the NaN policy) and the outputs (names, kinds, classes and their meaning). Training
range, golden vectors and provenance may differ between two versions of one contract.
"""

import base64
import enum
import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self, cast

import numpy as np
from numpy.typing import NDArray

from inference_server.core.tensor import NUMPY_DTYPES, Array

METADATA_KEY: Final = "tickserve.contract"
FORMAT: Final = 1
FEATURES_DTYPE: Final = "FP32"
MODEL_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
MEANINGS: Final = ("BUY", "SELL", "HOLD", "")
WORST_ROWS: Final = 5
# What the wire's integers hold.
MAX_INT64: Final = 2**63 - 1
MAX_WINDOW: Final = 2**32 - 1


class ContractError(ValueError):
    """A contract that cannot be read or contradicts itself; the text names the field."""


class NanPolicy(enum.Enum):
    """What happens to a row that holds NaN."""

    REFUSE = "refuse"
    ACCEPT = "accept"


class OutputKind(enum.Enum):
    """What the numbers of an output are."""

    LABEL = "label"
    PROBABILITIES = "probabilities"
    VALUE = "value"


@dataclass(frozen=True, slots=True)
class OutputMeaning:
    """One output: its kind and, for a classifier, what each class means.

    `classes` are the estimator's classes as text in column order; `meanings` has one entry a class: BUY,
    SELL, HOLD, or empty where the class means none of them. Both are empty for a value.
    """

    name: str
    kind: OutputKind
    classes: tuple[str, ...] = ()
    meanings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FeatureRange:
    """Smallest and largest finite value of one feature in the training data."""

    low: float
    high: float


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


@dataclass(frozen=True, slots=True)
class Contract:
    """What one version of a model promises. See the module's text for what the hash covers."""

    model: str
    version: int
    feature_names: tuple[str, ...]
    window: int
    includes_current_tick: bool
    nan_policy: NanPolicy
    outputs: tuple[OutputMeaning, ...]
    training_ranges: tuple[FeatureRange, ...]
    golden: GoldenVectors = field(repr=False, compare=False)
    estimator: str
    libraries: tuple[tuple[str, str], ...]
    trained_at_ns: int
    # SHA-256 of the canonical JSON of what must match, 64 lower-case hexadecimal digits.
    hash: str = field(init=False)

    def __post_init__(self) -> None:
        text = json.dumps(_must_match(self), sort_keys=True, separators=(",", ":"))
        object.__setattr__(self, "hash", hashlib.sha256(text.encode("ascii")).hexdigest())
        check_model_name(self.model)
        n_features = len(self.feature_names)
        rules: Sequence[tuple[bool, str]] = (
            (
                0 < self.version <= MAX_INT64,
                f"version: expected an integer above 0, of 64 bits, came {self.version}",
            ),
            (n_features > 0, "features.names: expected at least one"),
            (len(set(self.feature_names)) == n_features, "features.names: a name stands twice"),
            (
                0 < self.window <= MAX_WINDOW,
                f"features.window: expected 1 to {MAX_WINDOW} ticks, came {self.window}",
            ),
            (
                abs(self.trained_at_ns) <= MAX_INT64,
                f"trained_at_ns: expected an integer of 64 bits, came {self.trained_at_ns}",
            ),
            (
                len(self.training_ranges) == n_features,
                f"features.training_range: expected {n_features} entries, came {len(self.training_ranges)}",
            ),
            (
                all(-math.inf < span.low <= span.high < math.inf for span in self.training_ranges),
                "features.training_range: expected finite numbers, the smaller one first",
            ),
            (len(self.outputs) > 0, "outputs: expected at least one"),
            (
                len({output.name for output in self.outputs}) == len(self.outputs),
                "outputs: a name stands twice",
            ),
            (
                self.golden.inputs.ndim == 2 and self.golden.inputs.shape[1] == n_features,
                f"golden.inputs: expected shape (rows, {n_features}), came {self.golden.inputs.shape}",
            ),
            (
                self.golden.inputs.dtype == np.float32,
                f"golden.inputs: expected float32, came {self.golden.inputs.dtype}",
            ),
            (len(self.golden.inputs) > 0, "golden.inputs: expected at least one row"),
            (
                sorted(output.name for output in self.outputs)
                == sorted(golden.name for golden in self.golden.outputs),
                "golden.outputs: expected exactly the names of outputs",
            ),
        )
        for holds, text in rules:
            if not holds:
                raise ContractError(text)
        for output in self.outputs:
            _check_output(output)
        _check_texts(self)
        for golden in self.golden.outputs:
            if not (0 <= golden.atol < math.inf and 0 <= golden.rtol < math.inf):
                raise ContractError(
                    f"golden.outputs[{golden.name!r}]: expected tolerances of 0 or more, "
                    f"came atol {golden.atol}, rtol {golden.rtol}"
                )
            if len(golden.expected) != len(self.golden.inputs):
                raise ContractError(
                    f"golden.outputs[{golden.name!r}]: expected {len(self.golden.inputs)} rows, "
                    f"came {len(golden.expected)}"
                )

    def to_json(self) -> str:
        """Write the document that goes under `METADATA_KEY`; the same contract gives the same text."""
        document = {
            "format": FORMAT,
            "model": self.model,
            "version": self.version,
            **_must_match(self),
            "training_range": [[span.low, span.high] for span in self.training_ranges],
            "golden": {
                "inputs": _write_array(self.golden.inputs),
                "outputs": [
                    {
                        "name": golden.name,
                        "expected": _write_array(golden.expected),
                        "atol": golden.atol,
                        "rtol": golden.rtol,
                    }
                    for golden in self.golden.outputs
                ],
            },
            "estimator": self.estimator,
            "libraries": dict(self.libraries),
            "trained_at_ns": self.trained_at_ns,
            "hash": self.hash,
        }
        return json.dumps(document, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read the document back; ContractError names the field that is missing or wrong."""
        try:
            document = json.loads(text)
        except ValueError as error:
            raise ContractError(f"not a JSON document: {error}") from None
        except RecursionError:
            raise ContractError("not a JSON document of ours: nested too deep") from None
        if not isinstance(document, dict):
            raise ContractError(f"expected a JSON object, came {type(document).__name__}")
        if document.get("format") != FORMAT:
            raise ContractError(f"format: expected {FORMAT}, came {document.get('format')!r}")
        try:
            contract = cls(**_read_fields(document))
        except ContractError:
            raise
        except KeyError as error:
            raise ContractError(f"field {error} is missing") from None
        except (TypeError, ValueError, AttributeError) as error:
            raise ContractError(f"a field has the wrong form: {error}") from None
        if document.get("hash") != contract.hash:
            raise ContractError(
                f"hash: the document says {document.get('hash')!r}, its fields give {contract.hash}"
            )
        return contract


def check_model_name(name: str) -> None:
    """Refuse, with ContractError, a name that could not be a file's name on every system."""
    if not MODEL_NAME.fullmatch(name):
        raise ContractError(
            f"model name {name!r}: expected up to 128 of A-Z a-z 0-9 . _ -, beginning with a letter or digit"
        )


def _must_match(contract: Contract) -> dict[str, Any]:
    return {
        "features": {
            "names": list(contract.feature_names),
            "dtype": FEATURES_DTYPE,
            "window": contract.window,
            "includes_current_tick": contract.includes_current_tick,
            "nan_policy": contract.nan_policy.value,
        },
        "outputs": [
            {
                "name": output.name,
                "kind": output.kind.value,
                "classes": list(output.classes),
                "meanings": list(output.meanings),
            }
            for output in contract.outputs
        ],
    }


def _read_fields(document: Mapping[str, Any]) -> dict[str, Any]:
    features = document["features"]
    if features["dtype"] != FEATURES_DTYPE:
        raise ContractError(f"features.dtype: expected {FEATURES_DTYPE}, came {features['dtype']!r}")
    golden = document["golden"]
    return {
        "model": _typed(document, "model", str),
        "version": _typed(document, "version", int),
        "feature_names": _texts(features["names"], "features.names"),
        "window": _typed(features, "window", int),
        "includes_current_tick": _typed(features, "includes_current_tick", bool),
        "nan_policy": NanPolicy(features["nan_policy"]),
        "outputs": tuple(
            OutputMeaning(
                name=_typed(output, "name", str),
                kind=OutputKind(output["kind"]),
                classes=_texts(output["classes"], "outputs.classes"),
                meanings=_texts(output["meanings"], "outputs.meanings"),
            )
            for output in document["outputs"]
        ),
        "training_ranges": tuple(
            FeatureRange(float(low), float(high)) for low, high in document["training_range"]
        ),
        "golden": GoldenVectors(
            inputs=cast("NDArray[np.float32]", _read_array(golden["inputs"])),
            outputs=tuple(
                GoldenOutput(
                    name=_typed(output, "name", str),
                    expected=_read_array(output["expected"]),
                    atol=float(output["atol"]),
                    rtol=float(output["rtol"]),
                )
                for output in golden["outputs"]
            ),
        ),
        "estimator": _typed(document, "estimator", str),
        "libraries": tuple(sorted((str(k), str(v)) for k, v in document["libraries"].items())),
        "trained_at_ns": _typed(document, "trained_at_ns", int),
    }


def _typed(document: Mapping[str, Any], name: str, kind: type) -> Any:
    value = document[name]
    if type(value) is not kind:
        raise ContractError(f"{name}: expected {kind.__name__}, came {value!r}")
    return value


def _texts(values: object, name: str) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ContractError(f"{name}: expected a list of texts, came {values!r}")
    return tuple(values)


def _check_output(output: OutputMeaning) -> None:
    classes = output.kind is not OutputKind.VALUE
    if bool(output.classes) != classes or len(output.meanings) != len(output.classes):
        raise ContractError(
            f"outputs[{output.name!r}]: a {output.kind.value} has "
            f"{'classes and one meaning a class' if classes else 'no classes'}"
        )
    for meaning in output.meanings:
        if meaning not in MEANINGS:
            raise ContractError(
                f"outputs[{output.name!r}].meanings: {meaning!r} is not one of BUY, SELL, HOLD"
            )


def _check_texts(contract: Contract) -> None:
    texts = [_must_match(contract), contract.estimator, contract.libraries]
    try:
        json.dumps(texts, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ContractError(
            f"a text that is not Unicode: {error.object[error.start : error.end]!r}"
        ) from None


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
        return np.array(_texts(document["texts"], "texts"), dtype=np.object_).reshape(shape)
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
