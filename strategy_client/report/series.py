"""Long columns made short enough to draw, without hiding an extreme."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

MAX_BUCKETS: Final = 1_000


def extremes(values: Floats, buckets: int = MAX_BUCKETS) -> Ints:
    """Return the places of the first, least, greatest and last value of so many equal parts, ascending.

    Drawn as a line they look like the whole on any screen narrower than `buckets`. All places where there are
    fewer than four a part. NaN is neither least nor greatest.
    """
    if len(values) <= 4 * buckets:
        return np.arange(len(values))
    places: set[int] = set()
    for part in np.array_split(np.arange(len(values)), buckets):
        inside = values[part]
        places |= {int(part[0]), int(part[-1])}
        if not np.isnan(inside).all():
            places |= {int(part[np.nanargmin(inside)]), int(part[np.nanargmax(inside)])}
    return np.array(sorted(places), dtype=np.int64)


def bucket_edges(size: int, buckets: int) -> Ints:
    """Return the first place of each of so many nearly equal parts, and `size` behind them."""
    count = max(1, min(buckets, size))
    return np.linspace(0, size, count + 1).astype(np.int64)


def quantiles(values: Floats, edges: Ints, levels: Sequence[float]) -> list[list[float | None]]:
    """Return a list for each level: the quantile of each bucket, None where it holds no number."""
    rows: list[list[float | None]] = [[] for _ in levels]
    for start, end in itertools.pairwise(edges.tolist()):
        inside = values[start:end]
        inside = inside[~np.isnan(inside)]
        found = np.quantile(inside, levels).tolist() if len(inside) else [None] * len(levels)
        for row, value in zip(rows, found, strict=True):
            row.append(value)
    return rows


@dataclass(frozen=True, slots=True)
class Run:
    """Equal values that follow one another, from the place `first` to `last`."""

    value: int
    first: int
    last: int


def runs(values: Ints) -> list[Run]:
    """Return the runs of equal values, in order."""
    if not len(values):
        return []
    starts = np.concatenate([[0], np.flatnonzero(np.diff(values)) + 1])
    ends = np.concatenate([starts[1:], [len(values)]]) - 1
    return [Run(int(values[first]), int(first), int(last)) for first, last in zip(starts, ends, strict=True)]
