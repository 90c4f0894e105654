"""`strategy-client parity`: what it proves, and the first difference that it names."""

import itertools
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import joblib
import numpy as np
import pytest
from fixtures_session import (
    MOMENTUM_LOOKBACK,
    OPENED,
    csv_lines,
    momentum_features,
    walk,
    write_csv,
    write_models,
    write_strategies,
)
from real_ticks import binance_trades, needs_real_ticks
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression
from typer.testing import CliRunner

from model_export import export_model
from strategy_client.binding import Bound, Wanted
from strategy_client.commands.command_line import app
from strategy_client.features import FeatureSet
from strategy_client.parity.feature_parity import compare_features, relative
from strategy_client.parity.model_parity import Rows, Served, compare_batch, compare_estimator
from strategy_client.parity.series import Series, read_series
from strategy_client.processors.ml_momentum import momentum_features as names_of
from strategy_client.processors.model import ClassMeanings, ModelReference
from strategy_client.sources.bad_line import BadLines
from strategy_client.sources.tick_file import open_ticks
from strategy_client.store.strategy_file import TicksConfig
from strategy_client.testing import FakeModel, FakePredictor

COLUMNS = TicksConfig("time", "price", None, "token")
BOUND = Bound(
    "hash", accepts_nan=False, meanings=ClassMeanings(), label="label", probabilities="probabilities"
)


def series_of(path: Path) -> dict[int, Series]:
    """Read a file."""
    return read_series(open_ticks(path, COLUMNS, None, BadLines()))


class Leaves:
    """Ends the process that loads it, as it seems, with success."""

    def __reduce__(self) -> tuple[object, ...]:
        return sys.exit, (0,)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write ticks, strategies, models, and the estimators behind them."""
    folder = tmp_path_factory.mktemp("parity")
    lines = [csv_lines(token, walk(500, start, token)) for token, start in ((1, 95.0), (2, 60_000.0))]
    write_csv(folder / "t.csv", [line for pair in zip(*lines, strict=True) for line in pair])
    write_strategies(folder / "s.yaml", [1, 2])
    write_models(folder / "models")
    features = FeatureSet(names_of(MOMENTUM_LOOKBACK))
    prices = walk(1_200, 100.0, 3)
    rows = features.matrix(prices)[features.first_valid_row : -1]
    up = (np.diff(prices)[features.first_valid_row :] > 0).astype(int)
    forest = RandomForestClassifier(20, max_depth=5, random_state=0).fit(rows, up)
    joblib.dump(forest, folder / "forest.joblib")
    joblib.dump(
        RandomForestClassifier(20, max_depth=5, random_state=1).fit(rows, up), folder / "other.joblib"
    )
    joblib.dump({"no": "estimator"}, folder / "no.joblib")
    joblib.dump(Leaves(), folder / "leaves.joblib")
    (folder / "empty.joblib").touch()
    (folder / "models" / "up_momentum.onnx").unlink()
    export_model(
        forest,
        name="up_momentum",
        models=folder / "models",
        samples=rows,
        feature_names=features.names,
        window=features.window,
        meanings={0: "SELL", 1: "BUY"},
        trained_at=OPENED,
    )
    return folder


def run(session: Path, *flags: str) -> tuple[int, str]:
    """Run the command; return its exit code and what it printed, blanks put together."""
    arguments = ["parity", str(session / "t.csv"), "--strategies", str(session / "s.yaml")]
    done = CliRunner().invoke(app, [*arguments, "--models", str(session / "models"), *flags])
    return done.exit_code, " ".join((done.stdout + done.stderr).split())


def test_a_file_is_proved(session: Path) -> None:
    """G1, G2, G3: features, batches and the estimator over a whole file; what was not compared is told."""
    code, text = run(session, "--estimator", f"up_momentum={session / 'forest.joblib'}")
    assert code == 0, text
    assert text.count("equal") == 4 + 2 + 1
    assert "up_reversion estimator = served model 0 - not compared: no estimator given" in text
    assert "--estimator up_reversion=FILE.joblib" in text


def test_another_estimator_is_told_by_its_first_row(session: Path) -> None:
    """G1: a model that is not the estimator's: exit 1, with tick, instrument, output and both values."""
    code, text = run(session, "--estimator", f"up_momentum={session / 'other.joblib'}")
    assert code == 1
    assert "probabilities is [" in text
    assert "by the estimator, [" in text
    assert "tick 38 at 2024-08-08T03:45:19+00:00 of instrument 1: " in text


@pytest.mark.parametrize(
    ("flag", "text"),
    [
        ("up_momentun=forest.joblib", "no strategy asks 'up_momentun' (did you mean 'up_momentum'?)"),
        ("up_momentum=gone.joblib", "gone.joblib: expected a joblib file, there is none"),
        ("up_momentum=no.joblib", "no.joblib: expected a fitted estimator, came dict"),
        ("up_momentum=t.csv", "t.csv: cannot be loaded"),
        ("up_momentum", "'up_momentum': expected MODEL=FILE.joblib"),
        ("up_momentum=empty.joblib", "empty.joblib: cannot be loaded: EOFError"),
        ("up_momentum=leaves.joblib", "leaves.joblib: cannot be loaded: SystemExit: 0"),
    ],
)
def test_an_estimator_that_cannot_be_used_is_one_line(
    session: Path, monkeypatch: pytest.MonkeyPatch, flag: str, text: str
) -> None:
    """H9: a wrong --estimator: exit 2, before anything is started."""
    monkeypatch.chdir(session)
    code, came = run(session, "--estimator", flag)
    assert code == 2
    assert text in came


def test_two_estimators_of_one_model_are_refused(session: Path) -> None:
    """H9: which of them was meant is not guessed."""
    given = f"up_momentum={session / 'forest.joblib'}"
    code, text = run(session, "--estimator", given, "--estimator", given)
    assert code == 2
    assert "'up_momentum' has one already" in text


class Fitted:
    """Answers as it is told to."""

    classes_ = (0, 1)

    def __init__(self, probabilities: Callable[[np.ndarray], object], labels: object = None) -> None:
        self._probabilities = probabilities
        self._labels = labels

    def predict_proba(self, rows: np.ndarray) -> object:
        return self._probabilities(rows)

    def predict(self, rows: np.ndarray) -> object:
        return np.zeros(len(rows), int) if self._labels is None else self._labels


class Unreadable(Fitted):
    """Has classes that cannot be read."""

    @property
    def classes_(self) -> int:  # type: ignore[override]
        return 5


def leave(_rows: np.ndarray) -> object:
    """End the process."""
    raise SystemExit(0)


def halves(rows: np.ndarray) -> np.ndarray:
    """Answer the same to each row, and spoil the rows themselves."""
    rows[:] = np.nan
    return np.full((len(rows), 2), 0.5)


@pytest.mark.parametrize(
    ("estimator", "told"),
    [
        (LinearRegression(), "predict_proba: AttributeError: "),
        (RandomForestClassifier(), "predict_proba: NotFittedError: "),
        (Fitted(lambda rows: 1 / 0), "predict_proba: ZeroDivisionError: "),
        (Fitted(leave), "predict_proba: SystemExit: 0"),
        (Fitted(lambda rows: "x"), "predict_proba: ValueError: "),
        (Fitted(lambda rows: None), "predict_proba: "),
        (Fitted(lambda rows: rows[1:, :2]), "predict_proba: expected shape (962, 2), came (961, 2)"),
        (Fitted(lambda rows: rows[:, :3]), "predict_proba: expected shape (962, 2), came (962, 3)"),
        (Fitted(lambda rows: rows[:, 0]), "predict_proba: expected shape (962, 2), came (962,)"),
        (Fitted(lambda rows: rows[:, :2].T), "predict_proba: expected shape (962, 2), came (2, 962)"),
        (Fitted(halves, [1, 2]), "predict: expected shape (962, 1), came (2,)"),
        (Unreadable(halves), "classes_: TypeError: "),
    ],
    ids=itertools.count(),
)
def test_what_an_estimator_does_not_answer_is_the_difference(
    session: Path, estimator: object, told: str
) -> None:
    """G1: one that raises, ends the process, or answers in another shape is told in one line."""
    rows, served = asked(session)
    before = rows.rows.copy()
    found = compare_estimator("m", rows, served, estimator, BOUND)
    assert found.result.startswith(f"the estimator: {told}")
    assert "\n" not in found.result
    assert np.array_equal(rows.rows, before)


def asked(session: Path) -> tuple[Rows, dict[str, np.ndarray]]:
    """Return all rows of the momentum strategy, and the same answer to each."""
    wanted = Wanted("s", ModelReference("m"), FeatureSet(momentum_features(MOMENTUM_LOOKBACK)))
    rows = Rows.of(list(series_of(session / "t.csv").values()), wanted, BOUND)
    probabilities = np.full((len(rows.rows), 2), 0.5)
    return rows, {"probabilities": probabilities, "label": np.zeros((len(rows.rows), 1), object)}


def test_an_estimator_that_spoils_its_rows_is_asked_the_next_question_of_the_same(session: Path) -> None:
    """G1: what one method does to the rows that it was given is not done to the other's."""
    rows, served = asked(session)
    whole = []

    class Looks(Fitted):
        def predict(self, given: np.ndarray) -> object:
            whole.append(np.array_equal(given, rows.rows.astype(np.float64)))
            return super().predict(given)

    assert compare_estimator("m", rows, served, Looks(halves), BOUND).result == "equal"
    assert whole == [True]


def test_a_classifier_of_one_class_is_compared(session: Path) -> None:
    """G1: with a single column there is no second best, and every label is decided."""
    rows, served = asked(session)
    bound = replace(BOUND, meanings=ClassMeanings(("0",), ("SELL",)))
    estimator = Fitted(lambda rows: np.ones(len(rows)))
    estimator.classes_ = (0,)  # type: ignore[assignment]
    served["probabilities"] = np.ones((len(rows.rows), 1))
    assert compare_estimator("m", rows, served, estimator, bound).result == "equal"
    served["label"][3] = 1
    assert compare_estimator("m", rows, served, estimator, bound).result.startswith(rows.place(3))


@pytest.mark.parametrize("lines", [[], ["2024-08-08T03:45:00+00:00,1,95.0"]])
def test_ticks_that_give_no_row_prove_nothing(session: Path, tmp_path: Path, lines: list[str]) -> None:
    """A file without ticks, or too few of them: exit 3, and not a table of equals."""
    write_csv(tmp_path / "t.csv", lines)
    for name in ("s.yaml", "models"):
        (tmp_path / name).symlink_to(session / name)
    code, text = run(tmp_path)
    assert code == 3
    # Of each instrument without a tick, two sets of features; and of each model.
    assert text.count("not compared: ") == 4 - 2 * len(lines) + 2
    assert text.count(" equal") == 2 * len(lines)


class Stream:
    """The last price."""

    def update(self, price: float) -> None:
        self._price = price

    def value(self) -> float:
        return self._price


class Broken:
    """A feature whose batch is short, or raises."""

    window = 1

    def __init__(self, short: bool) -> None:
        self._short = short

    def stream(self) -> "Stream":
        return Stream()

    def batch(self, prices: np.ndarray) -> np.ndarray:
        if not self._short:
            raise RuntimeError("two\nlines")
        return prices[:-1]


@pytest.mark.parametrize(("short", "told"), [(True, "zip() argument 2 is shorter"), (False, "two lines")])
def test_a_feature_that_raises_is_named(
    session: Path, monkeypatch: pytest.MonkeyPatch, short: bool, told: str
) -> None:
    """G3: a user's own feature that raises, or leaves ticks out, is the difference, in one line."""
    series = series_of(session / "t.csv")[1]
    features = FeatureSet(["price"])
    monkeypatch.setattr(features, "features", (Broken(short),))
    found = compare_features(series, features)
    assert told in found.result
    assert "\n" not in found.result
    assert found.worst == np.inf


class Late:
    """A feature whose stream is a tick late from its 50th price on."""

    window = 1

    def stream(self) -> "LateStream":
        return LateStream()

    def batch(self, prices: np.ndarray) -> np.ndarray:
        return prices.copy()


class LateStream:
    """The stream."""

    def __init__(self) -> None:
        self._prices: list[float] = []

    def update(self, price: float) -> None:
        self._prices.append(price)

    def value(self) -> float:
        return self._prices[-1 if len(self._prices) < 50 else -2]


def test_a_feature_that_streams_otherwise_is_named(session: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """G3: the first tick, its time and instrument, the feature and both values."""
    series = series_of(session / "t.csv")[2]
    features = FeatureSet(["price", "return_3"])
    assert compare_features(series, features).result == "equal"
    monkeypatch.setattr(features, "features", (Late(), features.features[1]))
    found = compare_features(series, features)
    prices = series.prices.tolist()
    row = next(row for row in range(49, 500) if prices[row] != prices[row - 1])
    assert found.difference == (
        f"{series.place(row)}: price is {prices[row - 1]!r} streamed, {prices[row]!r} in the batch"
    )
    assert series.place(row).startswith(f"tick {2 * row + 1} at 2024-08-08T03:45:{row}")


@pytest.mark.parametrize(
    ("ours", "theirs", "apart"),
    [(1.0, 1.0 + 2e-9, True), (1.0, 1.0 + 5e-10, False), (np.nan, np.nan, False), (np.nan, 1.0, True)],
)
def test_features_are_compared_relatively(ours: float, theirs: float, apart: bool) -> None:
    """G3: to 1e-9 of their size; NaN is like NaN alone."""
    assert (relative(ours, theirs) > 1e-9) == apart


def wide(_rows: np.ndarray) -> np.ndarray:
    """Answer the tenth row of a batch by one bit otherwise than that row alone."""
    came = np.full((len(_rows), 2), 0.5, dtype=np.float32)
    came[9:10, 0] = np.nextafter(np.float32(0.5), np.float32(1))
    return came


def test_a_model_that_answers_a_batch_otherwise_is_named(session: Path) -> None:
    """G2: a difference in one bit is told, with the row's tick and both values."""
    series = list(series_of(session / "t.csv").values())
    wanted = Wanted("s", ModelReference("m"), FeatureSet(momentum_features(MOMENTUM_LOOKBACK)))
    with FakePredictor({"m": FakeModel(wanted.features.names, wide)}) as predictor:
        bound = Bound("", accepts_nan=False, meanings=ClassMeanings(), probabilities="probabilities")
        rows = Rows.of(series, wanted, bound)
        served = Served(predictor, wanted, bound)
        alone, together = (served.answer(rows.rows, alone=alone) for alone in (True, False))
    assert compare_batch("m", rows, alone, alone).result == "equal"
    found = compare_batch("m", rows, alone, together)
    assert found.rows == len(rows.rows) == 2 * (500 - wanted.features.first_valid_row)
    assert found.difference.startswith(f"{rows.place(9)}: probabilities is [0.5, 0.5] alone, [0.5000000")


def test_rows_that_are_never_asked_are_left_out() -> None:
    """NaN where the contract refuses it, and infinity, are no rows; places stay those of the ticks."""
    series = Series(1)
    wanted = Wanted("s", ModelReference("m"), FeatureSet(["price"]))
    rows = Rows.of([series], wanted, BOUND)
    assert rows.rows.shape == (0, 1)


@pytest.mark.parametrize(("off", "equal"), [(0.4e-5, True), (2.0, False)])
def test_a_value_may_be_off_by_its_tolerance(session: Path, off: float, equal: bool) -> None:
    """G1: a regressor's answer within 1e-5 of itself and of its spread is the estimator's."""
    series = list(series_of(session / "t.csv").values())
    bound = Bound("", accepts_nan=False, meanings=None, value="value")
    wanted = Wanted("s", ModelReference("m"), FeatureSet(["return_3"]))
    rows = Rows.of(series, wanted, bound)
    estimator = LinearRegression().fit(rows.rows, rows.rows[:, 0] * 3 + 1)
    answers = estimator.predict(rows.rows.astype(np.float64)).astype(np.float32)
    served = {"value": (answers * (1 + off)).reshape(-1, 1)}
    assert (compare_estimator("m", rows, served, estimator, bound).result == "equal") == equal


@needs_real_ticks
def test_recorded_trades_are_proved(session: Path, tmp_path: Path) -> None:
    """G1, G2, G3: 1,500 recorded trades of two symbols."""
    ticks = [
        trade
        for name in ("spot_btcusdt_20240808", "spot_ethusdt_20240808")
        for trade in itertools.islice(binance_trades(name), 750)
    ]
    lines = [f"{each.timestamp.isoformat()},{each.token},{each.price}" for each in ticks]
    write_csv(tmp_path / "t.csv", lines)
    for name in ("s.yaml", "models", "forest.joblib"):
        (tmp_path / name).symlink_to(session / name)
    code, text = run(tmp_path, "--estimator", f"up_momentum={session / 'forest.joblib'}")
    assert code == 0, text
    assert text.count("equal") == 7
