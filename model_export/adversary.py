"""Rows built to hurt: where a conversion that is nearly right answers wrongly.

- **Thresholds.** For many nodes of the trees, a sample row that comes by the node is taken, and one of its
  features is moved until the node's comparison turns. The turn is found by bisection over the float32
  numbers, on the value that the tree itself sees: behind a scaler, imputer, column transformer or any other
  preprocessing of a pipeline, inside voting, stacking, bagging and calibrated wrappers. Nothing is inverted.
  The two neighbouring float32 numbers on either side of the turn are kept, and one more on each side.
- **Extremes.** Each feature at the ends of its training range and one range beyond, alone and all together;
  and rows drawn evenly from the range.
- **NaN**, where the estimator takes it: in each feature alone, in random places, and everywhere.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model_export.ensembles import View, find_ensembles
from model_export.reference import by_position
from model_export.trees import Ensemble

Rows = NDArray[np.float32]
Seen = Callable[[Rows], NDArray[np.floating[Any]]]

# Every float32 from lowest to highest is reached in this many halvings.
HALVINGS: Final = 33


@dataclass(frozen=True, slots=True)
class AdversaryOptions:
    """How many rows of each kind, at most; how many samples are led through the trees; and the seed.

    `thresholds` counts comparisons; each gives four rows.
    """

    thresholds: int = 1024
    trees: int = 64
    guides: int = 512
    spread: int = 512
    nan: int = 512
    seed: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class HurtingRows:
    """Rows, float32, shape (rows, n_features), by what they try."""

    thresholds: Rows
    extremes: Rows
    nan: Rows


class Adversary:
    """Builds the rows for one fitted estimator; the same seed and samples give the same rows."""

    def __init__(self, estimator: Any, options: AdversaryOptions | None = None) -> None:
        self._estimator = estimator
        self._options = options or AdversaryOptions()

    def rows(self, samples: Rows, low: Rows, high: Rows, *, nan: bool) -> HurtingRows:
        """Build them around `samples`, shape (rows, n_features); `low` and `high`: shape (n_features,)."""
        random = np.random.default_rng(self._options.seed)
        empty = samples[:0]
        with by_position():
            thresholds = self._thresholds(samples, low, high, random)
        return HurtingRows(
            thresholds=thresholds,
            extremes=self._extremes(samples, low, high, random),
            nan=self._nan(samples, random) if nan else empty,
        )

    def _extremes(self, samples: Rows, low: Rows, high: Rows, random: np.random.Generator) -> Rows:
        span = high - low
        ends = np.stack([low, high, low - span, high + span])
        bases = samples[random.integers(len(samples), size=ends.size)]
        for row, (end, feature) in enumerate(np.ndindex(ends.shape)):
            bases[row, feature] = ends[end, feature]
        spread = low + span * random.random((self._options.spread, len(low)), dtype=np.float32)
        return _finite(np.concatenate([ends, bases, spread.astype(np.float32)]))

    def _nan(self, samples: Rows, random: np.random.Generator) -> Rows:
        n_features = samples.shape[1]
        alone = samples[random.integers(len(samples), size=n_features)]
        alone[np.arange(n_features), np.arange(n_features)] = np.nan
        mixed = samples[random.integers(len(samples), size=self._options.nan)]
        mixed[random.random(mixed.shape) < 0.3] = np.nan
        return np.concatenate([alone, mixed, np.full((1, n_features), np.nan, dtype=np.float32)])

    def _thresholds(self, samples: Rows, low: Rows, high: Rows, random: np.random.Generator) -> Rows:
        found = list(find_ensembles(self._estimator))
        if not found:
            return samples[:0]
        guides = samples[random.permutation(len(samples))[: self._options.guides]]
        share = max(1, self._options.thresholds // len(found))
        span = high - low
        parts = [
            _turning_rows(
                view,
                ensemble,
                guides,
                (low - span, high + span),
                random=random,
                max_trees=self._options.trees,
                max_turns=share,
            )
            for view, ensemble in found
        ]
        return np.concatenate(parts)[: 4 * self._options.thresholds]


def _turning_rows(
    view: View,
    ensemble: Ensemble,
    guides: Rows,
    bounds: tuple[Rows, Rows],
    *,
    random: np.random.Generator,
    max_trees: int,
    max_turns: int,
) -> Rows:
    """Find, for up to `max_turns` nodes, the float32 neighbours between which the node's comparison turns."""

    def seen(rows: Rows) -> NDArray[np.floating[Any]]:
        return np.asarray(view(rows.astype(np.float64))).astype(ensemble.compares)

    guide, column, threshold = _visited_nodes(ensemble, seen(guides), random, max_trees)
    chosen = random.permutation(len(guide))[:max_turns]
    rows, column, threshold = guides[guide[chosen]], column[chosen], threshold[chosen]
    feature = _moving_features(seen, guides[0], bounds, column, random)
    moved = feature >= 0
    rows, column, threshold, feature = rows[moved], column[moved], threshold[moved], feature[moved]
    if len(rows) == 0:
        return rows
    every = np.arange(len(rows))

    def below(places: NDArray[np.int64]) -> NDArray[np.bool_]:
        rows[every, feature] = _from_order(places)
        return np.asarray(seen(rows)[every, column] <= threshold)

    low, high = _to_order(bounds[0][feature]), _to_order(bounds[1][feature])
    low_side = below(low)
    turns = low_side != below(high)
    for _ in range(HALVINGS):
        middle = (low + high) // 2
        same = below(middle) == low_side
        low, high = np.where(same, middle, low), np.where(same, high, middle)
    parts = []
    for places in (low - 1, low, high, high + 1):
        rows[every, feature] = _from_order(places)
        parts.append(rows[turns].copy())
    return _finite(np.stack(parts, axis=1).reshape(-1, rows.shape[1]))


def _visited_nodes(
    ensemble: Ensemble, seen: NDArray[np.floating[Any]], random: np.random.Generator, max_trees: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return a guide's number, the column and the threshold for each node that some guide comes by."""
    guide, column, threshold = [], [], []
    for number in np.sort(random.permutation(len(ensemble.trees))[:max_trees]):
        tree = ensemble.trees[number]
        visitors = tree.visitors(seen)
        nodes = np.flatnonzero((visitors >= 0) & ~tree.leaf & np.isfinite(tree.threshold))
        guide.append(visitors[nodes])
        column.append(tree.feature[nodes])
        threshold.append(tree.threshold[nodes])
    return np.concatenate(guide), np.concatenate(column), np.concatenate(threshold)


def _moving_features(
    seen: Seen,
    row: Rows,
    bounds: tuple[Rows, Rows],
    column: NDArray[np.int64],
    random: np.random.Generator,
) -> NDArray[np.int64]:
    """Choose for each column that a tree sees one feature that moves it; -1 where none does."""
    n_features = len(row)
    row = np.where(np.isnan(row), bounds[0], row)
    ends = []
    for bound in bounds:
        moved = np.repeat(row[None, :], n_features, axis=0)
        np.fill_diagonal(moved, bound)
        ends.append(seen(moved))
    moves = ends[0] != ends[1]
    weights = np.where(moves, random.random(moves.shape), -1.0)
    best = weights.argmax(axis=0)
    best[~moves.any(axis=0)] = -1
    return np.asarray(best[column])


def _to_order(values: Rows) -> NDArray[np.int64]:
    """Give the float32 values numbers, so that neighbours have neighbouring numbers."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.int32).astype(np.int64)
    return np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)


def _from_order(places: NDArray[np.int64]) -> Rows:
    bits = np.where(places < 0, -places | 0x80000000, places)
    return bits.astype(np.uint32).view(np.float32)


def _finite(rows: Rows) -> Rows:
    return np.clip(rows, np.finfo(np.float32).min, np.finfo(np.float32).max)
