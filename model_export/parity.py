"""Whether a converted model answers as the estimator does.

Tolerances. A number v fits an expected e when |v - e| <= atol + rtol * |e|:

- probabilities: atol 1e-5. The answers are float32, and a forest's sum of n float32 leaves is off by up to
  n * 6e-8: 1e-5 holds for 150 trees at their worst, and lies far below a step in confidence that a
  strategy acts on. A wrong turn in one tree of a forest of 100 is off by 1e-3 or so.
- values and scores: rtol 1e-5, and atol 1e-5 of the spread (largest less smallest) of the estimator's own
  answers to the samples, as sums that nearly cancel have no relative precision.
- labels: equal. Rows on which the two best classes lie within `reference.UNDECIDED` are not asked for
  their label, as rounding chooses it; they are never golden rows.

An export must keep within half of each tolerance. The golden vectors in the file carry the whole, so that
another processor's rounding does not refuse a good file.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from inference_server.adapters.onnx_session import OnnxSession, plain
from inference_server.core.tensor import Array
from inference_server.serving.loader import LoadError
from model_export.conversion import FEATURES
from model_export.errors import Difference, ExportError
from model_export.reference import LABEL, PROBABILITIES

TOLERANCE: Final = 1e-5
MARGIN: Final = 0.5
BATCH_ROWS: Final = 1000
WORST_ROWS: Final = 5


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far a served number may be from the estimator's: atol + rtol * |expected|."""

    atol: float
    rtol: float


@dataclass(frozen=True, slots=True)
class OutputParity:
    """The largest absolute difference seen on one output, and its tolerance."""

    name: str
    worst: float
    tolerance: Tolerance


@dataclass(frozen=True, slots=True)
class ParityFigures:
    """What was compared: numbers of rows, and the worst of each output.

    `undecided` counts the rows that were not asked for their label.
    """

    samples: int
    thresholds: int
    extremes: int
    nan: int
    undecided: int
    outputs: tuple[OutputParity, ...]

    @property
    def rows(self) -> int:
        """All rows that were compared."""
        return self.samples + self.thresholds + self.extremes + self.nan


class ConvertedModel:
    """A converted model, run as the sidecar runs it. Raises ExportError where it does not load."""

    def __init__(self, content: bytes, outputs: Sequence[str]) -> None:
        try:
            self._session = OnnxSession(content)
        except LoadError as error:
            raise ExportError(f"the converted model does not load: {error}") from error
        self._outputs = tuple(outputs)

    def answer(self, rows: NDArray[np.float32], batch_rows: int = BATCH_ROWS) -> dict[str, Array]:
        """Return one array for each output. At most `batch_rows` rows are run at once.

        Raises ExportError where the model does not run, or does not give a row of answers for each row.
        """
        batches = [
            self._run(np.ascontiguousarray(rows[at : at + batch_rows]))
            for at in range(0, len(rows), batch_rows)
        ]
        return {
            name: np.concatenate(parts)
            for name, parts in zip(self._outputs, zip(*batches, strict=True), strict=True)
        }

    def _run(self, batch: NDArray[np.float32]) -> list[Array]:
        try:
            answers = self._session.run({FEATURES: batch}, self._outputs)
        except Exception as error:
            # ONNX Runtime's errors share no other base.
            raise ExportError(f"the converted model does not run: {plain(error)}") from error
        for name, answer in zip(self._outputs, answers, strict=True):
            if answer.ndim == 0 or len(answer) != len(batch):
                raise ExportError(
                    f"the converted model's output {name!r} has shape {answer.shape} for {len(batch)} rows"
                )
        return answers


def tolerances(answers: Mapping[str, Array]) -> dict[str, Tolerance]:
    """Return the tolerance for each output, from the estimator's answers to the samples."""
    found = {}
    for name, answer in answers.items():
        if name == LABEL:
            found[name] = Tolerance(0.0, 0.0)
        elif name == PROBABILITIES:
            found[name] = Tolerance(TOLERANCE, 0.0)
        else:
            # To three digits, so that another processor's rounding writes the same file.
            found[name] = Tolerance(float(f"{TOLERANCE * np.ptp(answer):.3g}"), TOLERANCE)
    return found


class Comparison:
    """Compares answers, output by output, and keeps the worst rows."""

    def __init__(self, allowed: Mapping[str, Tolerance], feature_names: Sequence[str]) -> None:
        self._allowed = allowed
        self._feature_names = tuple(feature_names)

    def worst(self, expected: Mapping[str, Array], came: Mapping[str, Array]) -> tuple[OutputParity, ...]:
        """Return the largest difference of each numeric output."""
        return tuple(
            OutputParity(name, float(_errors(expected[name], came[name]).max(initial=0.0)), tolerance)
            for name, tolerance in self._allowed.items()
            if name != LABEL
        )

    def failures(
        self, expected: Mapping[str, Array], came: Mapping[str, Array], undecided: NDArray[np.bool_]
    ) -> dict[str, NDArray[np.float64]]:
        """Return for each output the error of every row that does not fit, 0 where it fits.

        Raises ExportError where an output's shape is not the estimator's.
        """
        failures = {}
        for name, tolerance in self._allowed.items():
            if expected[name].shape != came[name].shape:
                raise ExportError(
                    f"the converted model's output {name!r} has shape {came[name].shape}, "
                    f"the estimator's {expected[name].shape}"
                )
            if name == LABEL:
                bad = (expected[name] != came[name]) & ~undecided
                failures[name] = bad.astype(np.float64)
            else:
                errors = _errors(expected[name], came[name])
                allowed = MARGIN * (tolerance.atol + tolerance.rtol * np.abs(expected[name]))
                over = errors > np.where(np.isfinite(allowed), allowed, 0.0)
                failures[name] = np.where(over, errors, 0.0).reshape(len(errors), -1).max(axis=1)
        return failures

    def differences(
        self,
        rows: NDArray[np.float32],
        origins: Sequence[str],
        expected: Mapping[str, Array],
        came: Mapping[str, Array],
        failures: Mapping[str, NDArray[np.float64]],
    ) -> list[Difference]:
        """Return the worst rows, at most five an output, the worst first."""
        found = []
        for name, errors in failures.items():
            for row in np.argsort(-errors, kind="stable")[:WORST_ROWS]:
                if errors[row] == 0:
                    break
                values = zip(self._feature_names, rows[row].tolist(), strict=True)
                found.append(
                    Difference(
                        origin=origins[row],
                        output=name,
                        features=tuple(values),
                        expected=tuple(np.atleast_1d(expected[name][row]).tolist()),
                        came=tuple(np.atleast_1d(came[name][row]).tolist()),
                        error=float(errors[row]),
                    )
                )
        return sorted(found, key=lambda difference: -difference.error)


def _errors(expected: Array, came: Array) -> NDArray[np.float64]:
    """Absolute differences from the float32 nearest to what was expected.

    0 between equal infinities or two NaN, infinite when one side alone is NaN.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        wanted = expected.astype(np.float32).astype(np.float64)
        same = (wanted == came) | (np.isnan(wanted) & np.isnan(came))
        errors = np.where(same, 0.0, np.abs(came.astype(np.float64) - wanted))
    return np.where(np.isnan(errors), np.inf, errors)
