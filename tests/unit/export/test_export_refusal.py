"""A conversion that is wrong is refused, and nothing is left behind."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from fixtures_export import FEATURES, TRAIN_ROWS, feature_matrix, sides, with_gaps
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

import model_export.converters
import model_export.export
from model_export import ExportError, ParityError, export_model
from model_export.conversion import convert
from model_export.reference import Reference


def fitted(estimator: Any, *, gaps: bool = False) -> tuple[Any, np.ndarray]:
    features, returns = feature_matrix("walk")
    train = with_gaps(features[:TRAIN_ROWS]) if gaps else features[:TRAIN_ROWS]
    return estimator.fit(train, sides(returns, 2)[:TRAIN_ROWS]), train


def trees_of(model: onnx.ModelProto) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.op_type.startswith("TreeEnsemble"))


def attribute(node: onnx.NodeProto, name: str) -> onnx.AttributeProto:
    return next(found for found in node.attribute if found.name == name)


def refused(
    monkeypatch: pytest.MonkeyPatch, estimator: Any, samples: np.ndarray, models: Path, spoil: Any
) -> ParityError:
    """Export with a conversion that `spoil` changes; return the refusal."""

    def spoilt(reference: Reference, name: str, version: int, n_features: int) -> onnx.ModelProto:
        model = convert(reference, name, version, n_features)
        spoil(model)
        return model

    monkeypatch.setattr(model_export.export, "convert", spoilt)
    with pytest.raises(ParityError) as refusal:
        export_model(estimator, name="wrong", models=models, samples=samples, feature_names=FEATURES)
    assert not models.exists()
    return refusal.value


@pytest.mark.parametrize("steps", [[], [StandardScaler()]], ids=["bare", "scaled"])
def test_threshold_off_by_one_float_is_refused(
    steps: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """C5: thresholds moved to the next float32 below are found, also behind a scaler."""
    tree = DecisionTreeClassifier(max_depth=4, random_state=0)
    estimator, train = fitted(make_pipeline(*steps, tree))

    def spoil(model: onnx.ModelProto) -> None:
        values = attribute(trees_of(model), "nodes_values").floats
        values[:] = np.nextafter(np.array(values, dtype=np.float32), np.float32(-np.inf)).tolist()

    refusal = refused(monkeypatch, estimator, train, tmp_path / "models", spoil)
    assert refusal.differences[0].origin == "threshold"
    assert "threshold row (total_return=" in str(refusal)


def test_thresholds_rounded_to_nearest_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Trap: thresholds rounded to the nearest float32, as skl2onnx does, are refused."""
    estimator, train = fitted(HistGradientBoostingClassifier(max_iter=20, random_state=0))
    monkeypatch.setattr(model_export.converters, "floor_float32", lambda values: values.astype(np.float32))
    with pytest.raises(ParityError) as refusal:
        export_model(estimator, name="nearest", models=tmp_path, samples=train, feature_names=FEATURES)
    assert refusal.value.differences[0].origin == "threshold"
    assert list(tmp_path.iterdir()) == []


def test_lost_way_of_nan_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Trap: a forest that lost the learned way of NaN, as in skl2onnx, is refused on rows with NaN."""
    estimator, train = fitted(RandomForestClassifier(10, max_depth=6, random_state=0), gaps=True)

    def spoil(model: onnx.ModelProto) -> None:
        ways = attribute(trees_of(model), "nodes_missing_value_tracks_true").ints
        assert any(ways)
        ways[:] = [0] * len(ways)

    refusal = refused(monkeypatch, estimator, train, tmp_path / "models", spoil)
    assert all(any(np.isnan(value) for _, value in difference.features) for difference in refusal.differences)


def test_swapped_classes_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """C5: a file whose labels are swapped is refused, and the text names row, answer and expectation."""
    estimator, train = fitted(DecisionTreeClassifier(max_depth=4, random_state=0))

    def spoil(model: onnx.ModelProto) -> None:
        attribute(trees_of(model), "classlabels_int64s").ints[:] = [1, 0]

    refusal = refused(monkeypatch, estimator, train, tmp_path / "models", spoil)
    assert refusal.failed > refusal.checked / 2
    assert len(refusal.differences) == 5
    assert "label is" in str(refusal)
    assert "the estimator answers" in str(refusal)


def test_other_answers_to_single_rows_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """G2: a model that answers a batch rightly and a row alone wrongly is refused."""
    estimator, train = fitted(LinearRegression())
    answer = model_export.export.ConvertedModel.answer

    def drifting(self: Any, rows: np.ndarray, batch_rows: int = 1_000) -> dict[str, np.ndarray]:
        came = answer(self, rows, batch_rows)
        return {name: values + (batch_rows == 1) for name, values in came.items()}

    monkeypatch.setattr(model_export.export.ConvertedModel, "answer", drifting)
    with pytest.raises(ParityError):
        export_model(estimator, name="single", models=tmp_path, samples=train, feature_names=FEATURES)
    assert list(tmp_path.iterdir()) == []


def clipped(rows: np.ndarray, samples: np.ndarray) -> np.ndarray:
    return np.clip(rows, samples.min(axis=0).astype(np.float32), samples.max(axis=0).astype(np.float32))


def filled(rows: np.ndarray, samples: np.ndarray) -> np.ndarray:
    return np.nan_to_num(rows, nan=0.0)


@pytest.mark.parametrize(
    ("estimator", "seen", "origin"),
    [
        (LinearRegression(), clipped, "extreme"),
        (HistGradientBoostingClassifier(max_iter=10, random_state=0), filled, "NaN"),
    ],
    ids=["extreme", "nan"],
)
def test_a_model_that_is_right_on_all_samples_is_refused(
    estimator: Any, seen: Any, origin: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A model that is wrong beyond the training range only, or on NaN that no sample has, is refused."""
    estimator, train = fitted(estimator)
    answer = model_export.export.ConvertedModel.answer
    monkeypatch.setattr(
        model_export.export.ConvertedModel,
        "answer",
        lambda self, rows, batch_rows=1_000: answer(self, seen(rows, train), batch_rows),
    )
    with pytest.raises(ParityError) as refusal:
        export_model(estimator, name="far", models=tmp_path, samples=train, feature_names=FEATURES)
    assert {difference.origin for difference in refusal.value.differences} == {origin}
    assert list(tmp_path.iterdir()) == []


def test_a_label_is_asked_for_where_the_classes_differ_by_a_thousandth(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """C5: a model whose labels alone are wrong, and only where two classes are nearly even, is refused."""
    rows = np.linspace(-0.002, 0.002, 101)[:, None]
    estimator = LogisticRegression().fit([[-1.0], [1.0]], [0, 1])
    answer = model_export.export.ConvertedModel.answer

    def swapped(self: Any, rows: np.ndarray, batch_rows: int = 1_000) -> dict[str, np.ndarray]:
        came = answer(self, rows, batch_rows)
        near = np.abs(came["probabilities"][:, 0] - 0.5) < 0.001
        return came | {"label": np.where(near, 1 - came["label"], came["label"])}

    monkeypatch.setattr(model_export.export.ConvertedModel, "answer", swapped)
    with pytest.raises(ParityError, match="label is"):
        export_model(estimator, name="near", models=tmp_path, samples=rows, feature_names=("a",))


def test_refusal_leaves_the_older_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A refused export leaves the model that is already there untouched."""
    estimator, train = fitted(LogisticRegression(max_iter=5_000))
    report = export_model(estimator, name="kept", models=tmp_path, samples=train, feature_names=FEATURES)
    before = report.path.read_bytes()
    monkeypatch.setattr(
        model_export.export, "vet", lambda *_: type("Verdict", (), {"refusal": "the golden rows differ"})
    )
    with pytest.raises(ExportError, match="the sidecar would refuse the file: the golden rows differ"):
        export_model(estimator, name="kept", models=tmp_path, samples=train, feature_names=FEATURES)
    assert [path.name for path in tmp_path.iterdir()] == ["kept.onnx"]
    assert report.path.read_bytes() == before
