"""The file that an export writes: its place, its bytes, its contract."""

import hashlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from fixtures_export import FEATURES, TRAIN_ROWS, answers, feature_matrix, sides, with_gaps
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from inference_server.adapters.vetting import vet
from inference_server.core.contract import METADATA_KEY, Contract, NanPolicy, OutputKind
from model_export import export_model
from model_export.artefact import write

TRAINED = datetime(2024, 8, 9, 12, 30, 15, 250, tzinfo=UTC)
AGAIN = """
import sys, joblib, numpy
from datetime import datetime
from model_export import export_model
report = export_model(
    joblib.load(sys.argv[1]), name="same", models=sys.argv[3], samples=numpy.load(sys.argv[2]),
    feature_names=sys.argv[4].split(","), trained_at=datetime.fromisoformat(sys.argv[5]),
)
print(report.digest)
"""


def forest(gaps: bool = True) -> tuple[RandomForestClassifier, np.ndarray]:
    features, returns = feature_matrix("walk")
    train = with_gaps(features[:TRAIN_ROWS]) if gaps else features[:TRAIN_ROWS]
    estimator = RandomForestClassifier(10, max_depth=6, random_state=0)
    return estimator.fit(train, np.array(["SELL", "HOLD", "BUY"])[sides(returns, 3)[:TRAIN_ROWS]]), train


def contract_of(path: Path) -> Contract:
    texts = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    return Contract.from_json(texts[METADATA_KEY])


def test_contract_says_what_was_given(tmp_path: Path) -> None:
    """The contract in the file holds what was given and what was learned from the samples."""
    estimator, train = forest()
    report = export_model(
        estimator,
        name="momentum",
        models=tmp_path,
        samples=train,
        feature_names=FEATURES,
        version=7,
        window=20,
        includes_current_tick=False,
        trained_at=TRAINED,
    )
    contract = contract_of(report.path)
    assert report.path == tmp_path / "momentum.onnx"
    assert report.digest == hashlib.sha256(report.path.read_bytes()).hexdigest()
    assert (contract.model, contract.version, onnx.load(report.path).model_version) == ("momentum", 7, 7)
    assert contract.feature_names == FEATURES
    assert (contract.window, contract.includes_current_tick) == (20, False)
    assert contract.nan_policy is NanPolicy.ACCEPT
    assert contract.estimator == "RandomForestClassifier"
    assert [library for library, _ in contract.libraries] == ["numpy", "onnx", "scikit-learn", "skl2onnx"]
    assert contract.trained_at_ns == 1_723_206_615_000_250_000
    narrow = train.astype(np.float32)
    assert [span.low for span in contract.training_ranges] == np.nanmin(narrow, axis=0).tolist()
    assert [span.high for span in contract.training_ranges] == np.nanmax(narrow, axis=0).tolist()
    assert contract.hash == report.contract.hash


def test_golden_rows_hold_every_kind(tmp_path: Path) -> None:
    """At most 512 golden rows travel, with samples, threshold rows and NaN; the file answers them."""
    estimator, train = forest()
    report = export_model(estimator, name="golden", models=tmp_path, samples=train, feature_names=FEATURES)
    golden = contract_of(report.path).golden
    assert 256 < len(golden.inputs) <= 512
    assert len({row.tobytes() for row in golden.inputs}) > 250
    assert np.isnan(golden.inputs).any()
    known = {row.tobytes() for row in train.astype(np.float32)}
    assert 96 <= sum(row.tobytes() in known for row in golden.inputs) < 400
    assert golden.mismatches(answers(report.path, golden.inputs)) == []
    best = np.sort(estimator.predict_proba(golden.inputs.astype(np.float64)), axis=1)
    assert (best[:, -1] - best[:, -2] > 2e-5).all()


def test_golden_answers_are_the_estimators(tmp_path: Path) -> None:
    """The golden answers are the estimator's own to the last float32, not those of the file."""
    features, returns = feature_matrix("walk")
    train = features[:TRAIN_ROWS]
    estimator = RandomForestRegressor(30, max_depth=6, random_state=0).fit(train, returns[:TRAIN_ROWS])
    report = export_model(estimator, name="m", models=tmp_path, samples=train, feature_names=FEATURES)
    golden = contract_of(report.path).golden
    own = estimator.predict(golden.inputs.astype(np.float64)).astype(np.float32)[:, None]
    assert not np.array_equal(answers(report.path, golden.inputs)["value"], own)
    assert np.array_equal(golden.outputs[0].expected, own)


def test_tolerance_is_by_the_answers_to_the_samples(tmp_path: Path) -> None:
    """Rows far beyond the training range do not widen the tolerance of a value."""
    features, returns = feature_matrix("walk")
    train = features[:TRAIN_ROWS]
    estimator = LinearRegression().fit(train, returns[:TRAIN_ROWS])
    report = export_model(estimator, name="line", models=tmp_path, samples=train, feature_names=FEATURES)
    golden, spread = report.contract.golden.outputs[0], np.ptp(estimator.predict(train))
    assert np.ptp(golden.expected) > 1.5 * spread
    assert golden.atol == pytest.approx(1e-5 * spread, rel=5e-3)


def test_no_golden_row_is_a_tie(tmp_path: Path) -> None:
    """Rows whose label is decided by rounding alone never travel, though half of the trees say so often."""
    features, returns = feature_matrix("walk")
    train = features[:TRAIN_ROWS]
    estimator = RandomForestClassifier(2, random_state=0).fit(train, sides(returns, 2)[:TRAIN_ROWS])
    report = export_model(estimator, name="ties", models=tmp_path, samples=train, feature_names=FEATURES)
    assert report.parity.undecided > 100
    golden = contract_of(report.path).golden.inputs.astype(np.float64)
    assert (estimator.predict_proba(golden)[:, 0] != 0.5).all()


def test_nan_is_accepted_in_every_feature_or_refused(tmp_path: Path) -> None:
    """An imputer for one column of two does not make NaN welcome: the contract refuses it."""
    rows = np.random.default_rng(0).random((200, 2))
    columns = ColumnTransformer([("fill", SimpleImputer(), [0])], remainder="passthrough")
    estimator = make_pipeline(columns, LogisticRegression()).fit(rows, (rows[:, 0] > 0.5).astype(int))
    report = export_model(estimator, name="m", models=tmp_path, samples=rows, feature_names=("a", "b"))
    assert report.contract.nan_policy is NanPolicy.REFUSE


@pytest.mark.parametrize("steps", [[], [StandardScaler()]], ids=["bare", "scaled"])
def test_a_region_that_is_off_by_a_hundredth_is_refused(steps: list[Any], tmp_path: Path) -> None:
    """C5: whichever leaf of a forest answers 0.01 off, the golden rows in the file show it to the sidecar."""
    features, returns = feature_matrix("walk")
    train = features[:TRAIN_ROWS]
    estimator = make_pipeline(*steps, RandomForestClassifier(8, max_depth=6, random_state=0))
    estimator.fit(train, sides(returns, 2)[:TRAIN_ROWS])
    report = export_model(estimator, name="f", models=tmp_path, samples=train, feature_names=FEATURES)
    model = onnx.load(report.path)
    trees = next(node for node in model.graph.node if node.op_type == "TreeEnsembleClassifier")
    weights = next(found for found in trees.attribute if found.name == "class_weights").floats
    assert len(weights) > 200
    for leaf in range(len(weights)):
        right = weights[leaf]
        weights[leaf] = right + 0.01
        assert "it does not answer as the estimator did" in vet(model.SerializeToString(), "f").refusal, leaf
        weights[leaf] = right


def test_sidecar_takes_the_file(tmp_path: Path) -> None:
    """The sidecar's own vetting passes the file under its name, and refuses it under another."""
    estimator, train = forest()
    report = export_model(estimator, name="good", models=tmp_path, samples=train, feature_names=FEATURES)
    assert vet(report.path.read_bytes(), "good").refusal == ""
    assert "the file's place says 'other'" in vet(report.path.read_bytes(), "other").refusal


def test_two_processes_write_the_same_bytes(tmp_path: Path) -> None:
    """The same estimator, samples and training time give the same file, in another process too."""
    estimator, train = forest()
    joblib.dump(estimator, tmp_path / "forest.joblib")
    np.save(tmp_path / "train.npy", train)
    digests = set()
    for seed in ("1", "2"):
        arguments = ["forest.joblib", "train.npy", f"models{seed}", ",".join(FEATURES), TRAINED.isoformat()]
        finished = subprocess.run(
            [sys.executable, "-c", AGAIN, *arguments],
            cwd=tmp_path,
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        digests.add(finished.stdout.strip())
    here = export_model(
        estimator,
        name="same",
        models=tmp_path,
        samples=train,
        feature_names=FEATURES,
        trained_at=TRAINED,
    )
    assert digests == {here.digest}


def test_signature(tmp_path: Path) -> None:
    """One float32 input `features`, any number of rows; label and float32 probabilities; no zipmap."""
    estimator, train = forest()
    report = export_model(estimator, name="sig", models=tmp_path, samples=train, feature_names=FEATURES)
    session = ort.InferenceSession(report.path.read_bytes(), providers=["CPUExecutionProvider"])
    assert [(i.name, i.type, i.shape) for i in session.get_inputs()] == [
        ("features", "tensor(float)", ["rows", 5])
    ]
    assert [(o.name, o.type, o.shape) for o in session.get_outputs()] == [
        ("label", "tensor(string)", ["rows"]),
        ("probabilities", "tensor(float)", ["rows", 3]),
    ]


def test_scores_stand_for_missing_probabilities(tmp_path: Path) -> None:
    """A classifier without probabilities answers its label and its decision scores, as a value."""
    features, returns = feature_matrix("walk")
    train = features[:TRAIN_ROWS]
    estimator = make_pipeline(StandardScaler(), LinearSVC(random_state=0, max_iter=20_000))
    estimator.fit(train, sides(returns, 2)[:TRAIN_ROWS])
    report = export_model(estimator, name="svc", models=tmp_path, samples=train, feature_names=FEATURES)
    assert [(o.name, o.kind) for o in report.contract.outputs] == [
        ("label", OutputKind.LABEL),
        ("scores", OutputKind.VALUE),
    ]
    assert answers(report.path, features[:3])["scores"].shape == (3, 1)
    assert report.contract.estimator == "Pipeline(StandardScaler, LinearSVC)"


@pytest.mark.parametrize(
    ("meanings", "expected"),
    [(None, ("", "")), ({1: "BUY", 0: "SELL"}, ("SELL", "BUY")), ({1: "BUY"}, ("", "BUY"))],
)
def test_side_of_a_number_is_never_guessed(
    meanings: dict[int, str] | None, expected: tuple[str, str], tmp_path: Path
) -> None:
    """Classes 0 and 1 mean nothing until they are given a meaning."""
    features, returns = feature_matrix("walk")
    estimator = make_pipeline(StandardScaler(), LogisticRegression())
    estimator.fit(features[:TRAIN_ROWS], sides(returns, 2)[:TRAIN_ROWS])
    report = export_model(
        estimator,
        name="m",
        models=tmp_path,
        samples=features[:TRAIN_ROWS],
        feature_names=FEATURES,
        meanings=meanings,
    )
    assert report.contract.outputs[1].classes == ("0", "1")
    assert report.contract.outputs[1].meanings == expected


@pytest.mark.parametrize("kind", [bool, np.float64])
def test_meanings_are_given_by_the_classes_themselves(kind: type, tmp_path: Path) -> None:
    """Labels that are True and False, or 0.0 and 1.0, are given their meaning as they stand."""
    rows = np.random.default_rng(0).random((50, 2))
    estimator = LogisticRegression().fit(rows, (rows[:, 0] > 0.5).astype(kind))
    report = export_model(
        estimator,
        name="m",
        models=tmp_path,
        samples=rows,
        feature_names=("a", "b"),
        meanings={kind(0): "SELL", estimator.classes_[1]: "BUY"},
    )
    assert report.contract.outputs[0].classes == ("0", "1")
    assert report.contract.outputs[0].meanings == ("SELL", "BUY")


def test_a_step_fitted_with_names_says_nothing(tmp_path: Path) -> None:
    """A pipeline that was fitted on a data frame is exported without a warning for every look into it."""
    features, returns = feature_matrix("walk")
    train = features[:TRAIN_ROWS]
    estimator = make_pipeline(StandardScaler(), RandomForestClassifier(2, max_depth=3, random_state=0))
    estimator.fit(train, sides(returns, 2)[:TRAIN_ROWS])
    # As scikit-learn keeps the names of a data frame's columns.
    estimator[0].feature_names_in_ = np.array(FEATURES, dtype=object)
    report = export_model(estimator, name="m", models=tmp_path, samples=train)
    assert report.contract.feature_names == FEATURES


def test_columns_chosen_by_name(tmp_path: Path) -> None:
    """A column transformer that was fitted on a data frame, with columns by name, is exported too."""
    features, returns = feature_matrix("walk")
    train = features[:TRAIN_ROWS]
    estimator = make_pipeline(
        ColumnTransformer([("s", StandardScaler(), [3, 0])], remainder="passthrough"), LogisticRegression()
    )
    estimator.fit(train, sides(returns, 2)[:TRAIN_ROWS])
    expected = estimator.predict_proba(features[:500])
    columns = estimator[0]
    # As scikit-learn keeps them where it is given a data frame; the tests have none.
    columns.feature_names_in_ = np.array(FEATURES, dtype=object)
    columns.transformers_ = [
        (name, step, [FEATURES[column] for column in chosen]) for name, step, chosen in columns.transformers_
    ]
    with pytest.raises(ValueError, match="only supported for dataframes"):
        estimator.predict(train[:1])
    report = export_model(estimator, name="m", models=tmp_path, samples=train)
    assert np.abs(answers(report.path, features[:500])["probabilities"] - expected).max() < 1e-6
    assert columns.transformers_[0][2] == ["price", "total_return"]


def test_two_threads_write_one_model(tmp_path: Path) -> None:
    """Writers of one model at once never share a file: one of them wins, whole, and nothing else is left."""
    contents = [bytes([number]) * 200_000 * (number + 1) for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda content: write(content, tmp_path / "m.onnx"), contents * 4))
    assert (tmp_path / "m.onnx").read_bytes() in contents
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


def test_who_reads_the_older_file_reads_it_to_the_end(tmp_path: Path) -> None:
    """A model is replaced, never written over: a reader in the middle of the old file stays there."""
    write(b"old" * 10, tmp_path / "m.onnx")
    with (tmp_path / "m.onnx").open("rb") as reader:
        write(b"new" * 10, tmp_path / "m.onnx")
        assert reader.read() == b"old" * 10
    assert (tmp_path / "m.onnx").read_bytes() == b"new" * 10


def test_an_interrupted_write_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Ctrl-C in mid-write leaves neither the file nor its part."""

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write(b"half", tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


def test_class_named_for_a_side_means_it(tmp_path: Path) -> None:
    """Classes that are called BUY, HOLD and SELL mean that."""
    estimator, train = forest()
    report = export_model(estimator, name="m", models=tmp_path, samples=train, feature_names=FEATURES)
    assert report.contract.outputs[0].meanings == ("BUY", "HOLD", "SELL")


def test_versions_stand_side_by_side(tmp_path: Path) -> None:
    """Layout `versions` writes NAME/VERSION/model.onnx and leaves nothing else behind."""
    features, returns = feature_matrix("walk")
    train = features[:TRAIN_ROWS]
    estimator = LinearRegression().fit(train, returns[:TRAIN_ROWS])
    for version in (1, 2):
        export_model(
            estimator,
            name="line",
            models=tmp_path,
            samples=train,
            feature_names=FEATURES,
            version=version,
            layout="versions",
        )
    files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert files == ["line/1/model.onnx", "line/2/model.onnx"]
    answer = answers(tmp_path / "line/2/model.onnx", features[:4])["value"]
    assert answer.shape == (4, 1)
    assert answer.dtype == np.float32
