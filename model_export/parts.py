"""The parts of an estimator: steps, members, folds, at any depth."""

from collections.abc import Callable
from typing import Any

from sklearn.base import BaseEstimator

from model_export.trees import FAMILIES


def has_parts(part: Any) -> bool:
    """Tell whether an object may hold estimators; a family of trees is whole."""
    estimates = isinstance(part, BaseEstimator) and type(part) not in FAMILIES
    # What calibration keeps for a fold is no estimator to scikit-learn.
    return estimates or type(part).__name__ == "_CalibratedClassifier"


def changed(part: Any, change: Callable[[Any], Any]) -> Any:
    """Return what `change` makes of `part`, whose own parts are then replaced in the same way."""
    if type(part) in (list, tuple):
        return type(part)(changed(item, change) for item in part)
    part = change(part)
    if has_parts(part):
        for key, value in list(vars(part).items()):
            setattr(part, key, changed(value, change))
    return part
