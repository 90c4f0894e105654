"""Trees decide as scikit-learn's do, to the last float32, and NaN goes the way that was learned."""

from pathlib import Path

import numpy as np
import pytest
from fixtures_export import FEATURES, TRAIN_ROWS, answers, around, feature_matrix, sides, with_gaps
from hypothesis import example, given
from hypothesis import strategies as st
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.tree import DecisionTreeClassifier

from model_export import ExportError, export_model
from model_export.converters import floor_float32
from model_export.trees import FAMILIES, read_ensemble

float32 = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(threshold=st.floats(allow_nan=False, allow_infinity=False), value=float32)
@example(threshold=3.402823364973241e38, value=0.0)
def test_floor_decides_every_float32_alike(threshold: float, value: float) -> None:
    """For any float64 threshold and any float32 x, x <= threshold is x <= floor_float32(threshold)."""
    with np.errstate(over="ignore"):
        floor = floor_float32(np.array([threshold]))[0]
        nearest = np.float32(threshold)
        above = np.nextafter(nearest, np.float32(np.inf))
    for x in (np.float32(value), nearest, above, floor):
        if np.isfinite(x):
            assert (float(x) <= threshold) == bool(x <= floor)


def test_visitors_come_by() -> None:
    """Each node's visitor is a row whose decision path holds the node; a node without one has none."""
    features, returns = feature_matrix("walk")
    train = with_gaps(features[:TRAIN_ROWS])
    estimator = DecisionTreeClassifier(max_depth=7, random_state=0).fit(train, sides(returns, 2)[:TRAIN_ROWS])
    rows = train[:300].astype(np.float32)
    visitors = read_ensemble(estimator).trees[0].visitors(rows)
    paths = estimator.decision_path(rows).toarray().astype(bool)
    assert ((visitors >= 0) == paths.any(axis=0)).all()
    assert all(paths[row, node] for node, row in enumerate(visitors) if row >= 0)


def test_leaves_are_those_of_the_tree() -> None:
    """Each row reaches the leaf that scikit-learn leads it to, NaN included."""
    features, returns = feature_matrix("walk")
    train = with_gaps(features[:TRAIN_ROWS])
    estimator = DecisionTreeClassifier(max_depth=7, random_state=0).fit(train, sides(returns, 2)[:TRAIN_ROWS])
    rows = with_gaps(features, seed=1).astype(np.float32)
    assert (read_ensemble(estimator).trees[0].leaves(rows) == estimator.apply(rows)).all()


def test_rows_at_thresholds(tmp_path: Path) -> None:
    """G1: at, just below and just above every threshold of a forest the file answers as the forest does."""
    features, returns = feature_matrix("walk")
    estimator = RandomForestClassifier(10, max_depth=8, random_state=0)
    estimator.fit(features[:TRAIN_ROWS], sides(returns, 2)[:TRAIN_ROWS])
    report = export_model(
        estimator, name="f", models=tmp_path, samples=features[:TRAIN_ROWS], feature_names=FEATURES
    )
    trees = [member.tree_ for member in estimator.estimators_]
    cuts = [
        (int(feature), float(threshold))
        for tree in trees
        for feature, threshold in zip(tree.feature, tree.threshold, strict=True)
        if feature >= 0
    ]
    rows = around(features, cuts)
    assert len(rows) > 1_000
    assert np.abs(answers(report.path, rows)["probabilities"] - estimator.predict_proba(rows)).max() < 1e-6


def test_boosting_without_a_negative_leaf_keeps_its_labels(tmp_path: Path) -> None:
    """Where no leaf is negative ONNX Runtime moves the line between two classes: the labels stay right."""
    random = np.random.default_rng(0)
    features = random.random((400, 2)).astype(np.float32).astype(np.float64)
    labels = (features[:, 0] > 0.5).astype(np.int64)
    estimator = GradientBoostingClassifier(n_estimators=4, learning_rate=0.3, init="zero", random_state=0)
    estimator.fit(features, labels)
    for stage in estimator.estimators_.ravel():
        # Lift the leaves: the sums of most rows then lie between 0 and 0.5.
        stage.tree_.value[:, 0, 0] = np.abs(stage.tree_.value[:, 0, 0]) * 0.1
    expected = estimator.predict(features)
    assert (expected == 1).all()
    report = export_model(estimator, name="up", models=tmp_path, samples=features, feature_names=("a", "b"))
    assert (answers(report.path, features)["label"] == expected).all()


@pytest.mark.parametrize(
    ("estimator", "reason"),
    [
        (GradientBoostingClassifier(n_estimators=2, loss="exponential"), "loss='exponential'"),
        (GradientBoostingClassifier(n_estimators=2, init=DecisionTreeClassifier(max_depth=1)), "init="),
        (HistGradientBoostingClassifier(max_iter=2, categorical_features=[1]), "categorical features"),
    ],
    ids=["loss", "init", "categories"],
)
def test_options_without_a_conversion_are_named(estimator: object, reason: str, tmp_path: Path) -> None:
    """An option of a family that cannot be converted is named, and nothing is written."""
    random = np.random.default_rng(0)
    features = np.column_stack([random.random(200), random.integers(0, 3, 200)])
    estimator.fit(features, (features[:, 0] > 0.5).astype(int))
    with pytest.raises(ExportError, match=reason):
        export_model(estimator, name="x", models=tmp_path, samples=features, feature_names=("a", "b"))
    assert list(tmp_path.iterdir()) == []


def test_families_are_read_whole() -> None:
    """Every family in the table sums its leaves to the estimator's own raw answer."""
    features, returns = feature_matrix("walk")
    train, labels = features[:300], sides(returns, 2)[:300]
    for family in FAMILIES:
        limits = {"max_iter": 3} if family.__name__.startswith("Hist") else {}
        estimator = family(random_state=0, **limits).fit(train, labels)
        ensemble = read_ensemble(estimator)
        rows = features[300:340].astype(ensemble.compares)
        sums = np.tile(ensemble.base, (len(rows), 1))
        for tree in ensemble.trees:
            for number, row in enumerate(rows):
                node = 0
                while not tree.leaf[node]:
                    goes_left = row[tree.feature[node]] <= tree.threshold[node]
                    node = tree.left[node] if goes_left else tree.right[node]
                sums[number, list(tree.targets)] += tree.weights[node]
        if hasattr(estimator, "decision_function"):
            expected = estimator.decision_function(rows)
        elif hasattr(estimator, "predict_proba"):
            expected = estimator.predict_proba(rows)[:, 1]
        else:
            expected = estimator.predict(rows)
        assert np.abs(sums[:, 0] - expected).max() < 1e-12, family.__name__
