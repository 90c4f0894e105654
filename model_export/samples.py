"""Sample rows: from an array, a .npy file or a .csv file, checked, as float32."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model_export.errors import ExportError

# More rows than this are thinned out evenly before they are compared.
MAX_ROWS: Final = 50_000
# The kinds of numpy's dtypes that hold numbers; the last one holds anything.
NUMBERS: Final = "biufO"


def read_samples(
    path: Path, features: Sequence[str] | None
) -> tuple[NDArray[np.float64], tuple[str, ...] | None]:
    """Read sample rows and, where the file tells them, the feature names.

    A .csv file has a header; `features` chooses columns by name, and an empty field is NaN. A .npy file holds
    one array, shape (rows, n_features), and `features` names all its columns. Raises ExportError naming the
    file, the place and what was expected.
    """
    try:
        if path.suffix == ".npy":
            return _read_npy(path), tuple(features) if features is not None else None
        if path.suffix == ".csv":
            return _read_csv(path, features)
    except OSError as error:
        raise ExportError(f"{path}: {error.strerror or error}") from error
    raise ExportError(f"{path}: expected a file that ends in .npy or .csv")


def check_samples(samples: Any, feature_names: Sequence[str]) -> NDArray[np.float32]:
    """Return the samples as float32, shape (rows, n_features), thinned to `MAX_ROWS`, or raise ExportError.

    NaN may stand in them; whether it may is the estimator's to say. A data frame's columns must be
    `feature_names`, in this order.
    """
    try:
        given = np.asarray(samples)
        rows = given.astype(np.float64) if given.dtype.kind in NUMBERS else None
    except (TypeError, ValueError):
        rows = None
    if rows is None:
        raise ExportError("samples: expected numbers, shape (rows, n_features)")
    n_features = len(feature_names)
    columns = list(getattr(samples, "columns", ()))
    if columns != list(feature_names) and any(isinstance(column, str) for column in columns):
        raise ExportError(
            f"samples: expected the columns {', '.join(feature_names)}, in this order; "
            f"came {', '.join(map(str, columns))}"
        )
    if rows.ndim != 2 or rows.shape[1] != n_features:
        raise ExportError(
            f"samples: expected shape (rows, {n_features}) for the features {', '.join(feature_names)}; "
            f"came {rows.shape}"
        )
    if len(rows) == 0:
        raise ExportError("samples: expected at least one row, came none")
    with np.errstate(over="ignore"):
        narrow = rows.astype(np.float32)
    infinite = np.argwhere(np.isinf(narrow))
    if len(infinite):
        row, feature = infinite[0]
        raise ExportError(
            f"samples: row {row}, feature {feature_names[feature]!r}: "
            f"{rows[row, feature]} is not a finite float32 number"
        )
    empty = np.flatnonzero(np.isnan(narrow).all(axis=0))
    if len(empty):
        raise ExportError(f"samples: feature {feature_names[empty[0]]!r} holds no number at all")
    if len(narrow) > MAX_ROWS:
        narrow = narrow[np.linspace(0, len(narrow) - 1, MAX_ROWS).astype(np.int64)]
    return np.ascontiguousarray(narrow)


def _read_npy(path: Path) -> NDArray[np.float64]:
    try:
        return np.asarray(np.load(path, allow_pickle=False), dtype=np.float64)
    except (TypeError, ValueError, EOFError) as error:
        raise ExportError(f"{path}: expected one array of numbers in the .npy format: {error}") from None


def _read_csv(path: Path, features: Sequence[str] | None) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        lines = csv.reader(file)
        try:
            header = [name.strip() for name in next(lines, [])]
            names = tuple(features) if features is not None else tuple(header)
            if not header:
                raise ExportError(f"{path}: line 1: expected the feature names, came an empty file")
            missing = [name for name in names if name not in header]
            if missing:
                raise ExportError(f"{path}: line 1: no column {missing[0]!r}; it has {', '.join(header)}")
            twice = [name for name in names if header.count(name) > 1]
            if twice:
                raise ExportError(f"{path}: line 1: column {twice[0]!r} stands twice")
            columns = [header.index(name) for name in names]
            rows = [_numbers(path, lines.line_num, fields, header, columns) for fields in lines if fields]
        except (UnicodeDecodeError, csv.Error) as error:
            raise ExportError(f"{path}: line {lines.line_num + 1}: not a CSV text: {error}") from None
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(names)), names


def _numbers(
    path: Path, line: int, fields: Sequence[str], header: Sequence[str], columns: Sequence[int]
) -> list[float]:
    if len(fields) != len(header):
        raise ExportError(f"{path}: line {line}: expected {len(header)} fields, came {len(fields)}")
    numbers = []
    for column in columns:
        text = fields[column].strip()
        try:
            numbers.append(float(text) if text else np.nan)
        except ValueError:
            raise ExportError(
                f"{path}: line {line}, column {header[column]!r}: expected a number, came {text!r}"
            ) from None
    return numbers
