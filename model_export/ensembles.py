"""The ensembles of trees inside an estimator, and the rows that each of them sees."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import BaggingClassifier, BaggingRegressor, StackingClassifier, StackingRegressor
from sklearn.pipeline import Pipeline

from model_export.trees import FAMILIES, Ensemble, read_ensemble

View = Callable[[NDArray[np.float64]], NDArray[np.floating[Any]]]


def find_ensembles(estimator: Any) -> Iterator[tuple[View, Ensemble]]:
    """Yield each ensemble inside pipelines, searches and wrappers, with what turns rows into those it sees.

    Raises ExportError where an ensemble cannot be read.
    """
    yield from _find(estimator, _itself)


def _find(estimator: Any, view: View) -> Iterator[tuple[View, Ensemble]]:
    if type(estimator) in FAMILIES:
        yield view, read_ensemble(estimator)
    elif isinstance(estimator, Pipeline):
        seen = _after(view, estimator[:-1].transform) if len(estimator) > 1 else view
        yield from _find(estimator.steps[-1][1], seen)
    elif isinstance(estimator, BaggingClassifier | BaggingRegressor):
        for member, columns in zip(estimator.estimators_, estimator.estimators_features_, strict=True):
            yield from _find(member, _after(view, _taking(columns)))
    else:
        for member in _members(estimator):
            yield from _find(member, view)
        if isinstance(estimator, StackingClassifier | StackingRegressor):
            yield from _find(estimator.final_estimator_, _after(view, estimator.transform))


def _members(estimator: Any) -> Sequence[Any]:
    if hasattr(estimator, "best_estimator_"):
        return [estimator.best_estimator_]
    if hasattr(estimator, "calibrated_classifiers_"):
        return [calibrated.estimator for calibrated in estimator.calibrated_classifiers_]
    if hasattr(estimator, "estimators_"):
        return list(estimator.estimators_)
    frozen = getattr(estimator, "estimator", None)
    return [] if frozen is None else [frozen]


def _itself(rows: NDArray[np.float64]) -> NDArray[np.floating[Any]]:
    return rows


def _after(first: View, second: View) -> View:
    return lambda rows: second(np.asarray(first(rows), dtype=np.float64))


def _taking(columns: Any) -> View:
    return lambda rows: rows[:, columns]
