"""Decision trees as arrays, read from every scikit-learn family that is made of them.

Both the conversion and the search for rows near thresholds work on this one form.
"""

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.tree import (
    DecisionTreeClassifier,
    DecisionTreeRegressor,
    ExtraTreeClassifier,
    ExtraTreeRegressor,
)

from model_export.errors import ExportError


class Link(enum.Enum):
    """What turns the sum of the leaves into the answer."""

    IDENTITY = "NONE"
    LOGISTIC = "LOGISTIC"
    SOFTMAX = "SOFTMAX"
    EXP = "EXP"


@dataclass(frozen=True, slots=True, eq=False)
class Tree:
    """One tree; every array has one entry a node, the root first, children after their parent.

    A row goes left when `row[feature] <= threshold`, or when the value is NaN and `nan_left` is set.
    `weights` is float64, shape (nodes, len(targets)): what a leaf adds to the sums numbered `targets`.
    """

    feature: NDArray[np.int64]
    threshold: NDArray[np.float64]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    nan_left: NDArray[np.bool_]
    leaf: NDArray[np.bool_]
    weights: NDArray[np.float64]
    targets: tuple[int, ...]

    def visitors(self, rows: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
        """Return for each node the number of one of the rows that comes by; -1 where none does.

        `rows` has shape (rows, features) and the dtype in which the estimator compares.
        """
        seen = np.full(len(self.feature), -1, dtype=np.int64)
        reached = [(0, np.arange(len(rows)))]
        while reached:
            node, here = reached.pop()
            if len(here) == 0:
                continue
            seen[node] = here[0]
            if self.leaf[node]:
                continue
            values = rows[here, self.feature[node]]
            goes_left = np.where(np.isnan(values), self.nan_left[node], values <= self.threshold[node])
            reached += [(int(self.left[node]), here[goes_left]), (int(self.right[node]), here[~goes_left])]
        return seen

    def leaves(self, rows: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
        """Return for each row, of the form that `visitors` takes, the node of the leaf that it reaches."""
        at = np.zeros(len(rows), dtype=np.int64)
        on_the_way = np.arange(len(rows))
        while len(on_the_way := on_the_way[~self.leaf[at[on_the_way]]]):
            node = at[on_the_way]
            values = rows[on_the_way, self.feature[node]]
            goes_left = np.where(np.isnan(values), self.nan_left[node], values <= self.threshold[node])
            at[on_the_way] = np.where(goes_left, self.left[node], self.right[node])
        return at


@dataclass(frozen=True, slots=True, eq=False)
class Ensemble:
    """Trees whose leaves are summed onto `base`, shape (n_sums,), and passed through `link`.

    `compares` is the dtype to which the estimator rounds a row before it compares with a float64
    threshold: float32 for the families on scikit-learn's `tree_`, float64 for histogram gradient boosting.
    A binary classifier has one sum, that of the second class.
    """

    trees: tuple[Tree, ...]
    base: NDArray[np.float64]
    link: Link
    compares: np.dtype[Any]


def read_ensemble(estimator: Any) -> Ensemble:
    """Read a fitted estimator whose type is in `FAMILIES`; ExportError names what is not supported in it."""
    return FAMILIES[type(estimator)](estimator)


def _read_forest(estimator: Any) -> Ensemble:
    members: Sequence[Any] = getattr(estimator, "estimators_", [estimator])
    if estimator.n_outputs_ != 1:
        raise ExportError(f"{type(estimator).__name__} has {estimator.n_outputs_} targets, expected one")
    classifies = hasattr(estimator, "classes_")
    trees = []
    for member in members:
        values = member.tree_.value[:, 0, :]
        if classifies:
            values = values / values.sum(axis=1, keepdims=True)
            values = values[:, 1:] if values.shape[1] == 2 else values
        trees.append(_read_tree(member.tree_, values / len(members), tuple(range(values.shape[1]))))
    base = np.zeros(len(trees[0].targets))
    return Ensemble(tuple(trees), base, Link.IDENTITY, np.dtype(np.float32))


def _read_gradient_boosting(estimator: Any) -> Ensemble:
    if estimator.init not in (None, "zero"):
        raise ExportError(f"{type(estimator).__name__} with init={estimator.init!r}: expected None or 'zero'")
    trees = tuple(
        _read_tree(member.tree_, estimator.learning_rate * member.tree_.value[:, 0, :], (target,))
        for stage in estimator.estimators_
        for target, member in enumerate(stage)
    )
    # The initial prediction does not depend on the row when `init` is None or 'zero'.
    base = estimator._raw_predict_init(np.zeros((1, estimator.n_features_in_), dtype=np.float32))  # noqa: SLF001 - no public way
    link = Link.IDENTITY
    if isinstance(estimator, GradientBoostingClassifier):
        if estimator.loss != "log_loss":
            raise ExportError(f"{type(estimator).__name__} with loss={estimator.loss!r}: expected 'log_loss'")
        link = Link.LOGISTIC if estimator.estimators_.shape[1] == 1 else Link.SOFTMAX
    return Ensemble(trees, np.asarray(base, dtype=np.float64).ravel(), link, np.dtype(np.float32))


def _read_hist_gradient_boosting(estimator: Any) -> Ensemble:
    predictors = estimator._predictors  # noqa: SLF001 - no public way
    if estimator.is_categorical_ is not None:
        raise ExportError(f"{type(estimator).__name__} with categorical features: expected numbers only")
    trees = []
    for stage in predictors:
        for target, predictor in enumerate(stage):
            nodes = predictor.nodes
            trees.append(
                Tree(
                    feature=nodes["feature_idx"].astype(np.int64),
                    threshold=nodes["num_threshold"].astype(np.float64),
                    left=nodes["left"].astype(np.int64),
                    right=nodes["right"].astype(np.int64),
                    nan_left=nodes["missing_go_to_left"].astype(np.bool_),
                    leaf=nodes["is_leaf"].astype(np.bool_),
                    weights=nodes["value"].astype(np.float64)[:, None],
                    targets=(target,),
                )
            )
    base = np.asarray(estimator._baseline_prediction, dtype=np.float64).ravel()  # noqa: SLF001 - no public way
    if isinstance(estimator, HistGradientBoostingClassifier):
        link = Link.LOGISTIC if len(predictors[0]) == 1 else Link.SOFTMAX
    else:
        link = Link.EXP if estimator.loss in ("poisson", "gamma") else Link.IDENTITY
    return Ensemble(tuple(trees), base, link, np.dtype(np.float64))


def _read_tree(tree: Any, weights: NDArray[np.float64], targets: tuple[int, ...]) -> Tree:
    leaf = tree.children_left < 0
    return Tree(
        feature=np.where(leaf, 0, tree.feature).astype(np.int64),
        threshold=np.where(leaf, 0.0, tree.threshold),
        left=np.where(leaf, 0, tree.children_left).astype(np.int64),
        right=np.where(leaf, 0, tree.children_right).astype(np.int64),
        nan_left=np.asarray(tree.missing_go_to_left).astype(np.bool_),
        leaf=leaf,
        weights=weights,
        targets=targets,
    )


FAMILIES: Final[dict[type, Callable[[Any], Ensemble]]] = {
    DecisionTreeClassifier: _read_forest,
    DecisionTreeRegressor: _read_forest,
    ExtraTreeClassifier: _read_forest,
    ExtraTreeRegressor: _read_forest,
    RandomForestClassifier: _read_forest,
    RandomForestRegressor: _read_forest,
    ExtraTreesClassifier: _read_forest,
    ExtraTreesRegressor: _read_forest,
    GradientBoostingClassifier: _read_gradient_boosting,
    GradientBoostingRegressor: _read_gradient_boosting,
    HistGradientBoostingClassifier: _read_hist_gradient_boosting,
    HistGradientBoostingRegressor: _read_hist_gradient_boosting,
}
