"""What a served model answers: to rows in a batch and alone (G2), and against the fitted estimator (G1)."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from strategy_client.binding import Bound, Wanted
from strategy_client.configuration import describe_error
from strategy_client.parity.finding import Finding
from strategy_client.parity.series import Series
from strategy_client.predictor.port import Prediction, Predictor, Question, Refusal

BATCH_ROWS: Final = 250
DEADLINE_NS: Final = 60_000_000_000
ALONE: Final = "served model: batch = rows alone"
FITTED: Final = "estimator = served model"
# By which an export makes the tolerances of a contract (model_export/parity.py); they are not on the wire.
TOLERANCE: Final = 1e-5
# Two best classes closer than this leave the label to rounding; see model_export/reference.py.
UNDECIDED: Final = 2e-5

Arrays = Mapping[str, NDArray[Any]]


class NotAnsweredError(Exception):
    """The sidecar did not answer a row, and why."""


class EstimatorError(Exception):
    """What an estimator does not answer as a fitted one does, and why."""


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """All rows that a model is asked over some ticks, float32, shape (rows, n_features), and their places."""

    rows: NDArray[np.float32]
    places: Sequence[tuple[Series, int]]

    @classmethod
    def of(cls, series: Sequence[Series], wanted: Wanted, bound: Bound) -> "Rows":
        """Work the rows out; those that the model is never asked, with NaN or infinity, are left out."""
        features = wanted.features
        parts = []
        places: list[tuple[Series, int]] = []
        for each in series:
            matrix = features.matrix(each.prices)[features.first_valid_row :]
            asked = ~np.isinf(matrix).any(axis=1) if bound.accepts_nan else np.isfinite(matrix).all(axis=1)
            parts.append(matrix[asked])
            places.extend((each, features.first_valid_row + int(row)) for row in np.flatnonzero(asked))
        empty = np.empty((0, len(features)), dtype=np.float32)
        return cls(np.ascontiguousarray(np.concatenate([empty, *parts])), places)

    def place(self, row: int) -> str:
        """Name the tick of a row."""
        series, index = self.places[row]
        return series.place(index)


class Served:
    """A served model's answers to all rows, asked a batch at a time, together or each alone."""

    def __init__(self, predictor: Predictor, wanted: Wanted, bound: Bound) -> None:
        self._predictor = predictor
        self._model = wanted.model
        self._hash = bound.contract_hash
        self._digest = ""

    def answer(self, rows: NDArray[np.float32], *, alone: bool) -> Arrays:
        """Return each output over all rows. Raises NotAnsweredError, also for another file midway."""
        answers: list[Prediction] = []
        for start in range(0, len(rows), BATCH_ROWS):
            batch = rows[start : start + BATCH_ROWS]
            parts = [batch[row : row + 1] for row in range(len(batch))] if alone else [batch]
            questions = [Question(self._model.name, part, self._model.version, self._hash) for part in parts]
            for answer in self._predictor.submit(questions, time.monotonic_ns() + DEADLINE_NS).result():
                if isinstance(answer, Refusal):
                    raise NotAnsweredError(f"{answer.reason.value}: {answer.detail}")
                if self._digest and answer.digest != self._digest:
                    raise NotAnsweredError("the model was replaced while it was compared")
                self._digest = answer.digest
                answers.append(answer)
        names = answers[0].outputs
        return {name: np.concatenate([each.outputs[name] for each in answers]) for name in names}


def compare_batch(subject: str, rows: Rows, alone: Arrays, together: Arrays) -> Finding:
    """Compare the answers to batches with those to rows alone, bit for bit."""
    worst, first, text = 0.0, len(rows.rows), ""
    for name, ours in alone.items():
        theirs = together[name]
        differs = np.flatnonzero(_differs(ours, theirs))
        if len(differs) and ours.dtype != object:
            worst = max(
                worst, float(np.abs(ours[differs].astype(float) - theirs[differs].astype(float)).max())
            )
        if len(differs) and differs[0] < first:
            first = int(differs[0])
            text = (
                f"{rows.place(first)}: {name} is {_shown(ours[first])} alone, "
                f"{_shown(theirs[first])} among {BATCH_ROWS} rows"
            )
    return Finding(subject, ALONE, len(rows.rows), worst, text)


def compare_estimator(subject: str, rows: Rows, served: Arrays, estimator: Any, bound: Bound) -> Finding:
    """Compare the served answers with the fitted estimator's `predict` and `predict_proba`.

    A probability may be off by 1e-5; a value by 1e-5 of itself and of the spread of the estimator's; a label
    is equal, where the two best classes are not closer than rounding can tell. What the estimator raises is
    the difference.
    """
    try:
        return _compare_estimator(subject, rows, served, estimator, bound)
    except EstimatorError as error:
        return Finding(subject, FITTED, len(rows.rows), math.nan, f"the estimator: {error}")


def _compare_estimator(subject: str, rows: Rows, served: Arrays, estimator: Any, bound: Bound) -> Finding:
    features = rows.rows.astype(np.float64)
    differences: list[tuple[int, str]] = []
    worst = 0.0
    decided = np.ones(len(features), dtype=np.bool_)

    def note(name: str, wrong: NDArray[np.bool_], ours: NDArray[Any], theirs: NDArray[Any]) -> None:
        row = _first(rows, wrong)
        if row is not None:
            text = f"{name} is {_shown(ours[row])} by the estimator, {_shown(theirs[row])} served"
            differences.append((row, f"{rows.place(row)}: {text}"))

    def compare(name: str, ours: NDArray[Any], allowed: NDArray[np.float64] | float) -> None:
        nonlocal worst
        theirs = np.asarray(served[name], dtype=np.float64).reshape(ours.shape)
        apart = np.where(ours == theirs, 0.0, np.abs(ours - theirs))
        worst = max(worst, float(apart.max(initial=0.0)))
        note(name, ~(apart <= allowed), ours, theirs)

    classes = _classes_of(estimator)
    if bound.meanings is not None and classes is not None and classes != bound.meanings.classes:
        text = f"the estimator's classes are {classes}, the contract's {bound.meanings.classes}"
        return Finding(subject, FITTED, len(features), 0.0, text)
    if bound.probabilities:
        columns = served[bound.probabilities].shape[1]
        ours = _ask(estimator, "predict_proba", features, columns, float)
        best = np.sort(ours, axis=1)
        decided = best[:, -1] - best[:, -2] > UNDECIDED if columns > 1 else decided
        compare(bound.probabilities, ours, TOLERANCE)
    if bound.value:
        ours = _ask(estimator, "predict", features, 1, float)
        compare(bound.value, ours, TOLERANCE * (np.ptp(ours) + np.abs(ours)))
    if bound.label:
        said = _ask(estimator, "predict", features, 1, object)
        labels = np.array([str(label) for label in said.ravel()], dtype=object)
        theirs = np.array([str(label) for label in served[bound.label].ravel()], dtype=object)
        note(bound.label, (labels != theirs) & decided, labels, theirs)
    return Finding(subject, FITTED, len(features), worst, min(differences)[1] if differences else "")


def _ask(
    estimator: Any, method: str, features: NDArray[np.float64], columns: int, kind: type
) -> NDArray[Any]:
    """Return what an estimator answers, shape (rows, columns); EstimatorError for anything else."""
    try:
        # A copy: what it does to its rows is not to be done to those of the next question.
        said: NDArray[Any] = np.asarray(getattr(estimator, method)(features.copy()), dtype=kind)
    except (Exception, SystemExit) as error:  # whatever somebody's estimator raises
        raise EstimatorError(f"{method}: {describe_error(error)}") from error
    expected = (len(features), columns)
    if said.shape not in ((expected, expected[:1]) if columns == 1 else (expected,)):
        raise EstimatorError(f"{method}: expected shape {expected}, came {said.shape}")
    return said.reshape(expected)


def _classes_of(estimator: Any) -> tuple[str, ...] | None:
    try:
        return tuple(map(str, estimator.classes_)) if hasattr(estimator, "classes_") else None
    except (Exception, SystemExit) as error:  # whatever somebody's estimator raises
        raise EstimatorError(f"classes_: {describe_error(error)}") from error


def _first(rows: Rows, wrong: NDArray[np.bool_]) -> int | None:
    found = np.flatnonzero(wrong.reshape(len(rows.rows), -1).any(axis=1))
    return int(found[0]) if len(found) else None


def _differs(ours: NDArray[Any], theirs: NDArray[Any]) -> NDArray[np.bool_]:
    if ours.dtype == object:
        wrong = ours != theirs
    else:
        wrong = np.array(ours).view(np.uint8) != np.array(theirs).view(np.uint8)
    return np.asarray(wrong.reshape(len(ours), -1).any(axis=1))


def _shown(value: Any) -> str:
    return str(value.tolist() if hasattr(value, "tolist") else value)
