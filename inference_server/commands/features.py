"""Rows of features as a person writes them: by position, by name, or as lines of a CSV file."""

import csv
import difflib
import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from tickserve.v1 import predictor_pb2 as wire

Rows = NDArray[np.float32]  # shape (rows, n_features), in the contract's order

# Beyond it a number would become infinite on its way.
MAX_FLOAT32: Final = float(np.finfo(np.float32).max)


class FeatureError(Exception):
    """Features that the model cannot take; the text names the feature, and where there is one the line."""


def by_position(values: Sequence[str]) -> Rows:
    """Return one row of the values as they stand; the sidecar says whether there are as many as it takes."""
    row = []
    for number, value in enumerate(values, start=1):
        try:
            row.append(_number(value))
        except FeatureError as error:
            raise FeatureError(f"value {number}: {error}") from None
    return np.array([row], dtype=np.float32)


def by_name(values: Sequence[str], contract: wire.Contract) -> Rows:
    """Return one row of values written as NAME=VALUE, in any order."""
    said: dict[str, float] = {}
    for value in values:
        name, separator, text = value.partition("=")
        if not separator:
            raise FeatureError(f"{value}: expected NAME=VALUE, as the others are")
        if name not in contract.feature_names:
            raise FeatureError(f"{name}: no such feature; {nearest(name, contract.feature_names)}")
        if name in said:
            raise FeatureError(f"{name}: stands twice")
        said[name] = _feature(name, text, contract)
    if missing := [name for name in contract.feature_names if name not in said]:
        raise FeatureError(f"missing: {', '.join(missing)}")
    return np.array([[said[name] for name in contract.feature_names]], dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows that are asked for together, and of each the cells that only pass through."""

    rows: Rows
    kept: list[list[str]]


class FeatureTable:
    """A CSV file: a header with the features' names in any order, then a row a line.

    `keep` names other columns, whose cells are handed on. A column that is neither is refused, since it may
    be a feature under another name. FeatureError names file and line.
    """

    def __init__(self, name: str, lines: Iterable[str], contract: wire.Contract, keep: Sequence[str]) -> None:
        self._name = name
        self._contract = contract
        self._cells = csv.reader(lines, strict=True)
        header = next(self._lines(), None)
        if header is None:
            raise FeatureError(f"{name}: empty; expected a header with the names of the features")
        self._width = len(header)
        self._check_header(header, keep)
        self._features = [header.index(feature) for feature in contract.feature_names]
        self._kept = [header.index(column) for column in keep]

    def batches(self, max_rows: int) -> Iterator[Batch]:
        """Yield the rows in order, at most so many at once; those before a bad line come before its error."""
        rows: list[list[float]] = []
        kept: list[list[str]] = []
        wrong = None
        try:
            for cells in self._lines():
                rows.append(self._row(cells))
                kept.append([cells[column] for column in self._kept])
                if len(rows) == max_rows:
                    yield Batch(np.array(rows, dtype=np.float32), kept)
                    rows, kept = [], []
        except FeatureError as error:
            wrong = error
        if rows:
            yield Batch(np.array(rows, dtype=np.float32), kept)
        if wrong:
            raise wrong

    def _lines(self) -> Iterator[list[str]]:
        try:
            yield from self._cells
        except csv.Error as error:
            raise FeatureError(f"{self._place()}: not CSV: {error}") from None
        except UnicodeDecodeError as error:
            raise FeatureError(f"{self._name}: not UTF-8: {error.reason} at byte {error.start}") from None

    def _row(self, cells: Sequence[str]) -> list[float]:
        if len(cells) != self._width:
            raise FeatureError(f"{self._place()}: expected {self._width} cells, came {len(cells)}")
        try:
            return [
                _feature(name, cells[column], self._contract)
                for name, column in zip(self._contract.feature_names, self._features, strict=True)
            ]
        except FeatureError as error:
            raise FeatureError(f"{self._place()}: {error}") from None

    def _check_header(self, header: Sequence[str], keep: Sequence[str]) -> None:
        features = self._contract.feature_names
        told = [f"no column {name!r}; {nearest(name, header)}" for name in features if name not in header]
        told += [
            f"no column {name!r} to keep; {nearest(name, header)}" for name in keep if name not in header
        ]
        told += [
            f"column {name!r} stands {header.count(name)} times"
            for name in dict.fromkeys(header)
            if header.count(name) > 1
        ]
        others = [name for name in header if name not in features and name not in keep]
        if others and not told:
            shown = ", ".join(map(repr, others))
            told.append(f"no feature of the model: {shown}; --keep NAME hands a column on to the answers")
        if told:
            raise FeatureError(f"{self._name}:1: {told[0]}")

    def _place(self) -> str:
        return f"{self._name}:{self._cells.line_num}"


def nearest(name: str, known: Collection[str]) -> str:
    """Return the hint for a name that is not known: the nearest one, or all."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"there are {', '.join(map(repr, known)) or 'none'}"


def _feature(name: str, text: str, contract: wire.Contract) -> float:
    try:
        value = _number(text)
    except FeatureError as error:
        raise FeatureError(f"{name}: {error}") from None
    takes_nan = contract.nan_policy == wire.Contract.ACCEPT
    if math.isinf(value) or (math.isnan(value) and not takes_nan):
        takes = "a finite number or nan" if takes_nan else "a finite number"
        raise FeatureError(f"{name}: expected {takes}, came {text!r}")
    return value


def _number(text: str) -> float:
    try:
        value = float(text.replace("_", "?"))  # 1_000 is Python's own liberty
    except ValueError:
        raise FeatureError(f"expected a number, came {text!r}") from None
    if MAX_FLOAT32 < abs(value) < math.inf:
        raise FeatureError(f"expected a float32, up to {MAX_FLOAT32:g}, came {text!r}")
    return value
