"""Rows built to hurt lie where they should."""

import numpy as np
import pytest
from fixtures_export import TRAIN_ROWS, feature_matrix, sides
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from model_export.adversary import Adversary, AdversaryOptions, HurtingRows

TREE = DecisionTreeClassifier(max_depth=5, random_state=0)
HOMES = {
    "alone": TREE,
    "scaled": make_pipeline(StandardScaler(), TREE),
    "twice": make_pipeline(MinMaxScaler(), make_pipeline(StandardScaler(), TREE)),
    "rotated": make_pipeline(StandardScaler(), PCA(3, random_state=0), TREE),
    "columns": make_pipeline(ColumnTransformer([("s", StandardScaler(), [3, 0])], remainder="drop"), TREE),
    "voting": VotingClassifier([("tree", make_pipeline(StandardScaler(), TREE))], voting="soft"),
    "bagging": BaggingClassifier(TREE, 3, max_features=2, random_state=0),
    "stacking": StackingClassifier([("tree", TREE)], final_estimator=LogisticRegression(), cv=2),
    "stacked_on": StackingClassifier(
        [("line", make_pipeline(StandardScaler(), LogisticRegression()))], final_estimator=TREE, cv=2
    ),
    "search": GridSearchCV(TREE, {"max_depth": [5]}, cv=2),
}


def hurting(home: str, seed: int = 0, nan: bool = False) -> tuple[object, HurtingRows, np.ndarray]:
    features, returns = feature_matrix("walk")
    estimator = HOMES[home].fit(features[:TRAIN_ROWS], sides(returns, 2)[:TRAIN_ROWS])
    samples = features[:TRAIN_ROWS].astype(np.float32)
    adversary = Adversary(estimator, AdversaryOptions(seed=seed))
    return estimator, adversary.rows(samples, samples.min(axis=0), samples.max(axis=0), nan=nan), samples


@pytest.mark.parametrize("home", HOMES)
def test_rows_lie_on_both_sides_of_a_turn(home: str) -> None:
    """Wherever a tree sits, its rows come in fours that differ in one feature by one float32 step each."""
    estimator, rows, _ = hurting(home)
    fours = rows.thresholds.reshape(-1, 4, rows.thresholds.shape[1])
    assert len(fours) > 10
    moved = (fours != fours[:, :1]).any(axis=1)
    assert (moved.sum(axis=1) == 1).all()
    steps = np.nextafter(fours[:, :-1], np.float32(np.inf)) == fours[:, 1:]
    assert (steps | ~moved[:, None, :]).all()
    answers = estimator.predict_proba(rows.thresholds.astype(np.float64)).reshape(len(fours), 4, -1)
    turns = (answers[:, 1] != answers[:, 2]).any(axis=1)
    outer = (answers[:, 0] != answers[:, 1]).any(axis=1) | (answers[:, 2] != answers[:, 3]).any(axis=1)
    # The two in the middle are the neighbours of the turn. A leaf may repeat its neighbour's answer.
    assert turns.mean() > 0.5
    assert outer.mean() < 0.1


def test_same_seed_same_rows() -> None:
    """The same estimator, samples and seed give the same rows; another seed gives others."""
    first, again, other = (hurting("alone", seed, nan=True)[1] for seed in (1, 1, 2))
    for kind in ("thresholds", "extremes", "nan"):
        assert np.array_equal(getattr(first, kind), getattr(again, kind), equal_nan=True)
    assert not np.array_equal(first.extremes, other.extremes)


def test_extremes_reach_the_ends_and_beyond() -> None:
    """Every feature is tried at both ends of its range and one range beyond, and every row is finite."""
    _, rows, samples = hurting("alone")
    low, high = samples.min(axis=0), samples.max(axis=0)
    for end in (low, high, low - (high - low), high + (high - low)):
        assert (rows.extremes == end).any(axis=0).all()
    assert np.isfinite(rows.extremes).all()


def test_nan_stands_in_each_feature_alone_and_in_all() -> None:
    """Rows with NaN have it in each feature alone, and everywhere; there are none where it is refused."""
    _, rows, _ = hurting("alone", nan=True)
    missing = np.isnan(rows.nan)
    assert (missing & (missing.sum(axis=1) == 1)[:, None]).any(axis=0).all()
    assert missing.all(axis=1).any()
    assert len(hurting("alone", nan=False)[1].nan) == 0
