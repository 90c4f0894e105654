"""Every family that can be exported: parity over a real feature matrix, or a refusal that shows the rows."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures_export import FEATURES, SOURCES, TRAIN_ROWS, answers, feature_matrix, present, sides, with_gaps
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    BaggingClassifier,
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Lasso, LinearRegression, LogisticRegression, Ridge, RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, RobustScaler, StandardScaler
from sklearn.svm import SVC, SVR, LinearSVC, LinearSVR
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from model_export import ParityError, export_model

Make = Callable[[], Any]

UNSEEN_ROWS = 10_500
ALONE_EVERY = 50

# scikit-learn 1.9 deprecates what many fitted estimators still have.
pytestmark = pytest.mark.filterwarnings("ignore:The `probability` parameter was deprecated:FutureWarning")


def scaled(estimator: Any) -> Any:
    return make_pipeline(StandardScaler(), estimator)


def by_column(estimator: Any) -> Any:
    columns = ColumnTransformer(
        [("scaled", StandardScaler(), [0, 1, 2]), ("robust", RobustScaler(), [3])], remainder="passthrough"
    )
    return make_pipeline(columns, SimpleImputer(strategy="median"), estimator)


def members() -> list[tuple[str, Any]]:
    forest = RandomForestClassifier(10, max_depth=6, random_state=0)
    return [("linear", scaled(LogisticRegression())), ("forest", forest)]


def regressing_members() -> list[tuple[str, Any]]:
    return [("ridge", scaled(Ridge())), ("forest", RandomForestRegressor(10, max_depth=6, random_state=0))]


CLASSIFIERS: dict[str, Make] = {
    "logistic": lambda: LogisticRegression(max_iter=5_000),
    "logistic_scaled": lambda: scaled(LogisticRegression()),
    "ridge_classifier": lambda: scaled(RidgeClassifier()),
    "svc": lambda: scaled(SVC()),
    "linear_svc": lambda: scaled(LinearSVC(max_iter=20_000, random_state=0)),
    "naive_bayes": GaussianNB,
    "mlp": lambda: scaled(MLPClassifier((16,), max_iter=1_000, tol=1e-2, random_state=0)),
    "voting_soft": lambda: VotingClassifier(members(), voting="soft"),
    "voting_hard": lambda: VotingClassifier([*members(), ("bayes", GaussianNB())], voting="hard"),
    "stacking": lambda: StackingClassifier(members(), cv=2),
    "calibrated_svc": lambda: scaled(
        CalibratedClassifierCV(LinearSVC(max_iter=20_000, random_state=0), cv=2)
    ),
    "svc_probability": lambda: scaled(SVC(probability=True, random_state=0)),
    "calibrated_logistic": lambda: CalibratedClassifierCV(scaled(LogisticRegression()), cv=2),
    "calibrated_linear": lambda: CalibratedClassifierCV(
        scaled(LinearSVC(max_iter=20_000, random_state=0)), cv=2
    ),
    "voting_calibrated": lambda: VotingClassifier(
        [("calibrated", CalibratedClassifierCV(scaled(LogisticRegression()), cv=2)), ("bayes", GaussianNB())],
        voting="soft",
        weights=[2, 1],
    ),
    "columns": lambda: by_column(LogisticRegression()),
    "search": lambda: GridSearchCV(scaled(LogisticRegression()), {"logisticregression__C": [0.1, 1.0]}, cv=2),
}

TREE_CLASSIFIERS: dict[str, Make] = {
    "tree": lambda: DecisionTreeClassifier(max_depth=8, random_state=0),
    "forest": lambda: RandomForestClassifier(30, max_depth=8, random_state=0),
    "extra_trees": lambda: ExtraTreesClassifier(30, max_depth=8, random_state=0),
    "boosting": lambda: GradientBoostingClassifier(n_estimators=20, random_state=0),
    "hist_boosting": lambda: HistGradientBoostingClassifier(max_iter=20, random_state=0),
    "forest_scaled": lambda: scaled(RandomForestClassifier(10, max_depth=8, random_state=0)),
    "hist_boosting_scaled": lambda: scaled(HistGradientBoostingClassifier(max_iter=20, random_state=0)),
    "boosting_min_max": lambda: make_pipeline(
        MinMaxScaler(), GradientBoostingClassifier(n_estimators=10, random_state=0)
    ),
    "forest_by_column": lambda: by_column(RandomForestClassifier(10, max_depth=8, random_state=0)),
    "bagging": lambda: BaggingClassifier(DecisionTreeClassifier(max_depth=6), max_features=3, random_state=0),
    "calibrated_forest": lambda: CalibratedClassifierCV(
        RandomForestClassifier(10, max_depth=6, random_state=0), cv=2
    ),
}

REGRESSORS: dict[str, Make] = {
    "linear": LinearRegression,
    "ridge": Ridge,
    "lasso": lambda: scaled(Lasso(1e-3)),
    "svr_rbf": lambda: scaled(SVR()),
    "svr_poly": lambda: scaled(SVR(kernel="poly", degree=2, coef0=1.0)),
    "svr_linear": lambda: scaled(SVR(kernel="linear")),
    "svr_sigmoid": lambda: scaled(SVR(kernel="sigmoid", coef0=0.1, gamma=0.01)),
    "linear_svr": lambda: scaled(LinearSVR(max_iter=20_000, random_state=0)),
    "mlp": lambda: scaled(MLPRegressor(hidden_layer_sizes=(16,), max_iter=1_000, tol=1e-2, random_state=0)),
    "voting": lambda: VotingRegressor(regressing_members()),
    "stacking": lambda: StackingRegressor(regressing_members(), cv=2),
}

TREE_REGRESSORS: dict[str, Make] = {
    "tree": lambda: DecisionTreeRegressor(max_depth=8, random_state=0),
    "forest": lambda: RandomForestRegressor(30, max_depth=8, random_state=0),
    "extra_trees": lambda: ExtraTreesRegressor(30, max_depth=8, random_state=0),
    "boosting": lambda: GradientBoostingRegressor(n_estimators=20, random_state=0),
    "hist_boosting": lambda: HistGradientBoostingRegressor(max_iter=20, random_state=0),
    "hist_boosting_scaled": lambda: scaled(HistGradientBoostingRegressor(max_iter=20, random_state=0)),
    "hist_boosting_gamma": lambda: HistGradientBoostingRegressor(max_iter=10, loss="gamma", random_state=0),
    "hist_boosting_poisson": lambda: HistGradientBoostingRegressor(
        max_iter=10, loss="poisson", random_state=0
    ),
}

TAKES_NAN = ("tree", "forest", "extra_trees", "hist_boosting", "hist_boosting_scaled", "forest_by_column")


@pytest.fixture(params=SOURCES)
def source(request: pytest.FixtureRequest) -> str:
    if not present(request.param):
        pytest.skip("no recorded ticks here")
    name: str = request.param
    return name


def targets(kind: str, returns: np.ndarray) -> np.ndarray:
    if kind == "binary":
        return sides(returns, 2)
    if kind == "texts":
        return np.array(["SELL", "HOLD", "BUY"])[sides(returns, 3)]
    # Above 0, as a gamma loss asks.
    return (returns - returns.min()) * 1e4 + 1.0


def check(estimator: Any, path: Path, features: np.ndarray) -> None:
    """Compare the file with the estimator by onnxruntime and numpy alone, and rows alone with the batch's."""
    came = answers(path, features)
    for row in range(0, len(features), ALONE_EVERY):
        for name, alone in answers(path, features[row : row + 1]).items():
            batched = came[name][row : row + 1]
            # Sums over members may come in another order: not every family agrees to the last bit.
            close = alone == batched if name == "label" else np.isclose(alone, batched, rtol=1e-6, atol=1e-6)
            assert close.all(), (name, row)
    if "value" in came:
        expected = estimator.predict(features).reshape(-1, 1)
        assert np.abs(came["value"] - expected).max() <= 2e-5 * np.ptp(expected)
        return
    decided = np.ones(len(features), dtype=bool)
    if "probabilities" in came:
        expected = estimator.predict_proba(features)
        assert came["probabilities"].dtype == np.float32
        assert np.abs(came["probabilities"] - expected).max() <= 1e-5
        best = np.sort(expected, axis=1)
        decided = best[:, -1] - best[:, -2] > 2e-5
    if "scores" in came:
        scores = estimator.decision_function(features).reshape(len(features), -1)
        assert np.abs(came["scores"] - scores).max() <= 2e-5 * np.ptp(scores)
        ranked = np.sort(np.hstack([-scores, scores]) if scores.shape[1] == 1 else scores, axis=1)
        decided = ranked[:, -1] - ranked[:, -2] > 1e-3
    assert decided.mean() > 0.95
    assert (came["label"] == estimator.predict(features))[decided].all()


@pytest.mark.parametrize("kind", ["binary", "texts"])
@pytest.mark.parametrize("family", CLASSIFIERS)
def test_classifier_parity(family: str, kind: str, source: str, tmp_path: Path) -> None:
    """G1, G2: each family of classifiers answers as in the notebook, a row alone as among others."""
    features, returns = feature_matrix(source)
    labels = targets(kind, returns)
    estimator = CLASSIFIERS[family]().fit(features[:TRAIN_ROWS], labels[:TRAIN_ROWS])
    report = export_model(
        estimator, name=family, models=tmp_path, samples=features[:TRAIN_ROWS], feature_names=FEATURES
    )
    check(estimator, report.path, features[-UNSEEN_ROWS:])


@pytest.mark.parametrize("kind", ["binary", "texts"])
@pytest.mark.parametrize("family", TREE_CLASSIFIERS)
def test_tree_classifier_parity(family: str, kind: str, source: str, tmp_path: Path) -> None:
    """G1, G2: each family of tree classifiers keeps parity on more than 10,000 rows, and on rows with NaN."""
    features, returns = feature_matrix(source)
    labels = targets(kind, returns)
    takes_nan = family in TAKES_NAN
    train = with_gaps(features[:TRAIN_ROWS]) if takes_nan else features[:TRAIN_ROWS]
    estimator = TREE_CLASSIFIERS[family]().fit(train, labels[:TRAIN_ROWS])
    report = export_model(estimator, name=family, models=tmp_path, samples=train, feature_names=FEATURES)
    assert report.parity.thresholds > 100
    assert (report.contract.nan_policy.value == "accept") or not takes_nan
    assert len(features) > 10_000
    check(estimator, report.path, features)
    if takes_nan:
        check(estimator, report.path, with_gaps(features, seed=1))


@pytest.mark.parametrize("family", REGRESSORS)
def test_regressor_parity(family: str, source: str, tmp_path: Path) -> None:
    """G1, G2: each family of regressors answers as in the notebook, a row alone as among others."""
    features, returns = feature_matrix(source)
    values = targets("values", returns)
    estimator = REGRESSORS[family]().fit(features[:TRAIN_ROWS], values[:TRAIN_ROWS])
    report = export_model(
        estimator, name=family, models=tmp_path, samples=features[:TRAIN_ROWS], feature_names=FEATURES
    )
    check(estimator, report.path, features[-UNSEEN_ROWS:])


@pytest.mark.parametrize("family", TREE_REGRESSORS)
def test_tree_regressor_parity(family: str, source: str, tmp_path: Path) -> None:
    """G1, G2: each family of tree regressors keeps parity on more than 10,000 rows, and on rows with NaN."""
    features, returns = feature_matrix(source)
    values = targets("values", returns)
    takes_nan = family in TAKES_NAN
    train = with_gaps(features[:TRAIN_ROWS]) if takes_nan else features[:TRAIN_ROWS]
    estimator = TREE_REGRESSORS[family]().fit(train, values[:TRAIN_ROWS])
    report = export_model(estimator, name=family, models=tmp_path, samples=train, feature_names=FEATURES)
    check(estimator, report.path, features)
    if takes_nan:
        check(estimator, report.path, with_gaps(features, seed=1))


@pytest.mark.parametrize("nearest", [KNeighborsClassifier, KNeighborsRegressor])
def test_neighbours_parity(nearest: type, tmp_path: Path) -> None:
    """G1, G2: nearest neighbours keep parity where no two neighbours are equally far."""
    features, returns = feature_matrix("walk")
    distinct = features + 0.0
    distinct[:, 4] = np.random.default_rng(3).random(len(features)).astype(np.float32)
    labels = sides(returns, 2) if nearest is KNeighborsClassifier else returns * 1e4
    estimator = scaled(nearest()).fit(distinct[:500], labels[:500])
    report = export_model(
        estimator, name="near", models=tmp_path, samples=distinct[:500], feature_names=FEATURES
    )
    check(estimator, report.path, distinct[-UNSEEN_ROWS:])


def test_neighbours_that_tie_are_refused_with_their_rows(tmp_path: Path) -> None:
    """Neighbours that lie equally far are chosen by chance: the export shows the rows and writes nothing."""
    random = np.random.default_rng(0)
    grid = random.integers(0, 4, size=(400, 2)).astype(np.float64)
    estimator = KNeighborsClassifier(5).fit(grid, random.integers(0, 2, size=400))
    with pytest.raises(ParityError) as refusal:
        export_model(estimator, name="ties", models=tmp_path, samples=grid, feature_names=("a", "b"))
    assert refusal.value.failed > 0
    assert [name for name, _ in refusal.value.differences[0].features] == ["a", "b"]
    assert list(tmp_path.iterdir()) == []


def test_isotonic_calibration_is_refused_with_its_rows(tmp_path: Path) -> None:
    """skl2onnx 1.20.0 converts isotonic calibration to steps where scikit-learn draws lines: refused."""
    features, returns = feature_matrix("walk")
    estimator = CalibratedClassifierCV(GaussianNB(), method="isotonic", cv=2)
    estimator.fit(features[:TRAIN_ROWS], sides(returns, 2)[:TRAIN_ROWS])
    with pytest.raises(ParityError, match="probabilities is"):
        export_model(
            estimator, name="steps", models=tmp_path, samples=features[:TRAIN_ROWS], feature_names=FEATURES
        )
    assert list(tmp_path.iterdir()) == []
