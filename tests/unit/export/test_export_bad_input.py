"""Bad input is one clear line that names what, where and what was expected."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.multioutput import MultiOutputRegressor
from sklearn.neighbors import RadiusNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from model_export import ExportError, export_model
from model_export.samples import MAX_ROWS, check_samples, read_samples

ROWS = np.random.default_rng(0).random((50, 2))
LABELS = (ROWS[:, 0] > 0.5).astype(int)
FITTED = LogisticRegression().fit(ROWS, LABELS)


@dataclass(frozen=True)
class Frame:
    """What a data frame shows of itself: names of its columns, and numbers."""

    columns: tuple[str, ...]
    rows: np.ndarray

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.rows.astype(dtype or self.rows.dtype)


def nowhere(rows: np.ndarray) -> np.ndarray:
    return rows.no_such_column


def broken_pipeline() -> Any:
    estimator = make_pipeline(FunctionTransformer(), LinearRegression()).fit(ROWS, LABELS)
    return estimator.set_params(functiontransformer__func=nowhere)


def gap() -> np.ndarray:
    rows = ROWS.copy()
    rows[3, 1] = np.nan
    return rows


def huge() -> np.ndarray:
    rows = ROWS.copy()
    rows[3, 1] = 1e39
    return rows


CASES: dict[str, tuple[dict[str, Any], str]] = {
    "not_fitted": ({"estimator": LogisticRegression()}, "LogisticRegression is not fitted"),
    "no_estimator": ({"estimator": "model"}, "expected a fitted scikit-learn estimator, came str"),
    "scaler": ({"estimator": StandardScaler().fit(ROWS)}, "StandardScaler: expected a classifier or a regr"),
    "clusters": ({"estimator": KMeans(2, n_init=1).fit(ROWS)}, "KMeans: expected a classifier or"),
    "two_targets": ({"estimator": LinearRegression().fit(ROWS, ROWS)}, "the regressor has 2 targets"),
    "many_targets": (
        {"estimator": MultiOutputRegressor(LinearRegression()).fit(ROWS, ROWS)},
        "the regressor has 2 targets, expected one",
    ),
    "two_labels": (
        {"estimator": RandomForestClassifier(2).fit(ROWS, np.column_stack([LABELS, LABELS]))},
        "several targets, expected one",
    ),
    "one_class": (
        {"estimator": RandomForestClassifier(2).fit(ROWS, np.zeros(50))},
        "knows one class, 0.0: expected two or more",
    ),
    "names_missing": ({"feature_names": None}, "fitted without names, so they must be given"),
    "names_few": ({"feature_names": ["a"]}, "takes 2 features, came 1 names"),
    "names_text": ({"feature_names": "ab"}, "expected a list of texts, came 'ab'"),
    "names_twice": ({"feature_names": ["a", "a"]}, "'a' stands twice"),
    "width": ({"samples": ROWS[:, :1]}, r"expected shape \(rows, 2\) for the features a, b; came \(50, 1\)"),
    "rank": ({"samples": ROWS[0]}, r"came \(2,\)"),
    "no_rows": ({"samples": ROWS[:0]}, "expected at least one row"),
    "columns_moved": (
        {"samples": Frame(("b", "a"), ROWS)},
        "expected the columns a, b, in this order; came b, a",
    ),
    "complex": ({"samples": ROWS + 1j}, "samples: expected numbers"),
    "text_numbers": ({"samples": ROWS.astype(str)}, "samples: expected numbers"),
    "texts": ({"samples": [["1", "x"]]}, "samples: expected numbers"),
    "infinite": ({"samples": huge()}, "row 3, feature 'b': 1e\\+39 is not a finite float32"),
    "nan_refused": ({"samples": gap()}, "row 3 has NaN in 'b', and LogisticRegression does not take NaN"),
    "empty_column": ({"samples": ROWS * [1.0, np.nan]}, "feature 'b' holds no number at all"),
    "name": ({"name": "../up"}, "model name '../up'"),
    "version": ({"version": 0}, "version: expected an integer from 1 to 9223372036854775807, came 0"),
    "version_wide": ({"version": 2**63}, "version: expected an integer from 1 to 9223372036854775807"),
    "window": ({"window": -1}, "window: expected an integer from 1 to 4294967295, came -1"),
    "window_wide": ({"window": 2**32}, "window: expected an integer from 1 to 4294967295, came 4294967296"),
    "seed": ({"seed": -1}, "seed: expected an integer from 0 to"),
    "time_as_text": ({"trained_at": "2024-01-01"}, "trained_at: expected a time with a time zone, came 2024"),
    "own_code": (
        {"estimator": broken_pipeline()},
        "predict refuses the rows: .*no_such_column",
    ),
    "answer_of_another_shape": (
        {"estimator": QuadraticDiscriminantAnalysis().fit(ROWS, LABELS)},
        r"output 'label' has shape \(1, \d+\) for \d+ rows",
    ),
    "runtime_fails": (
        {"estimator": RadiusNeighborsRegressor(0.5).fit(ROWS, LABELS)},
        "the converted model does not run: .*out of range",
    ),
    "layout": ({"layout": "deep"}, "layout: expected one of flat, versions, came 'deep'"),
    "meaning": ({"meanings": {1: "LONG"}}, "'LONG' is not one of BUY, SELL, HOLD"),
    "meaning_kind": ({"meanings": {0.5: "BUY"}}, "'0.5' is not a class of the estimator; expected 0, 1"),
    "meaning_class": ({"meanings": {2: "BUY"}}, "'2' is not a class of the estimator; expected 0, 1"),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input(case: str, tmp_path: Path) -> None:
    """Each wrong argument is named with what was expected, and nothing is written."""
    changed, message = CASES[case]
    arguments = {"estimator": FITTED, "name": "m", "samples": ROWS, "feature_names": ["a", "b"], **changed}
    estimator = arguments.pop("estimator")
    with pytest.raises(ExportError, match=message) as refusal:
        export_model(estimator, models=tmp_path / "models", **arguments)
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "models").exists()


def test_time_without_a_zone(tmp_path: Path) -> None:
    """A training time must say its zone."""
    with pytest.raises(ExportError, match="trained_at: expected a time with a time zone"):
        export_model(
            FITTED,
            name="m",
            models=tmp_path,
            samples=ROWS,
            feature_names=["a", "b"],
            trained_at=datetime(2024, 1, 1),  # noqa: DTZ001 - the case
        )


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """A models folder that is a file is named, and the file stays as it is."""
    (tmp_path / "models").write_text("mine")
    with pytest.raises(ExportError, match=r"cannot write .*models"):
        export_model(FITTED, name="m", models=tmp_path / "models", samples=ROWS, feature_names=["a", "b"])
    assert (tmp_path / "models").read_text() == "mine"


CSV_CASES = {
    "a,b\n1,2\n3,x\n": "line 3, column 'b': expected a number, came 'x'",
    "a,b\n1,2\n3\n": "line 3: expected 2 fields, came 1",
    "": "line 1: expected the feature names, came an empty file",
    "a,c\n1,2\n": "line 1: no column 'b'; it has a, c",
    "a,b,b\n1,2,3\n": "line 1: column 'b' stands twice",
}


@pytest.mark.parametrize("text", CSV_CASES, ids=["text", "short", "empty", "column", "twice"])
def test_bad_csv(text: str, tmp_path: Path) -> None:
    """A wrong line of a CSV is named with its file, line and column."""
    path = tmp_path / "samples.csv"
    path.write_text(text)
    with pytest.raises(ExportError) as refusal:
        read_samples(path, ["a", "b"])
    assert str(refusal.value).startswith(f"{path}: {CSV_CASES[text]}")


def test_csv_columns_are_chosen_by_name(tmp_path: Path) -> None:
    """Columns come in the order that was asked, an empty field is NaN, and the header is the default."""
    path = tmp_path / "samples.csv"
    path.write_text("a,b,c\n1,2,3\n4,,6\n", encoding="utf-8-sig")
    rows, names = read_samples(path, ["c", "b"])
    assert names == ("c", "b")
    assert np.array_equal(rows, [[3, 2], [6, np.nan]], equal_nan=True)
    assert read_samples(path, None)[1] == ("a", "b", "c")


def test_many_samples_are_thinned_evenly() -> None:
    """More samples than are compared are thinned over their whole length, both ends kept."""
    rows = check_samples(np.arange(2 * MAX_ROWS)[:, None], ["a"])[:, 0]
    assert (len(rows), rows[0], rows[-1]) == (MAX_ROWS, 0, 2 * MAX_ROWS - 1)
    assert set(np.diff(rows)) <= {1, 2, 3}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.npy", b"no array", "expected one array of numbers"),
        ("x.txt", b"", "ends in .npy or .csv"),
        ("x.csv", b"a,b\n\xff\xfe,1\n", "not a CSV text"),
    ],
)
def test_bad_sample_files(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    """A samples file of another kind is refused by name."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ExportError, match=message):
        read_samples(tmp_path / name, None)
