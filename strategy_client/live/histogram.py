"""Durations counted in buckets: bounded however long a run is."""

import bisect
import itertools
from collections.abc import Sequence
from typing import Final

NS_PER_S: Final = 1_000_000_000
# From 1 us to over a minute, each bound a twentieth above the one before: a quantile is right to 2.5 %.
FINE_BOUNDS_NS: Final = tuple(int(1_000 * 1.05**power) for power in range(370))
# What a scrape shows: Alpha Panda's own bounds, and finer ones below, where our ticks are.
SHOWN_BOUNDS_NS: Final = tuple(
    int(seconds * NS_PER_S)
    for seconds in (
        *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025),
        *(0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
    )
)


class Histogram:
    """Counts durations up to each bound. One thread adds; any thread reads, without a lock."""

    __slots__ = ("_bounds", "_counts", "longest_ns", "sum_ns")

    def __init__(self, bounds_ns: Sequence[int]) -> None:
        self._bounds = bounds_ns
        self._counts = [0] * (len(bounds_ns) + 1)
        self.sum_ns = 0
        self.longest_ns = 0

    def __repr__(self) -> str:
        return f"<Histogram of {self.count}>"

    @property
    def count(self) -> int:
        """How many were added."""
        return sum(self._counts)

    def add(self, duration_ns: int) -> None:
        """Count a duration."""
        self._counts[bisect.bisect_left(self._bounds, duration_ns)] += 1
        self.sum_ns += duration_ns
        self.longest_ns = max(self.longest_ns, duration_ns)

    def cumulated(self) -> list[tuple[int, int]]:
        """Return how many were up to each bound in nanoseconds, and behind them all of them, at bound -1."""
        counts = list(self._counts)
        return list(zip((*self._bounds, -1), itertools.accumulate(counts), strict=True))

    def quantile_ns(self, part: float) -> float:
        """Return the duration that `part` of all, 0 to 1, are below: a bucket's middle. 0 for none."""
        cumulated = self.cumulated()
        wanted = part * cumulated[-1][1]
        if not wanted:
            return 0.0
        low = 0
        for bound, count in cumulated[:-1]:
            if count >= wanted:
                return min((low + bound) / 2, float(self.longest_ns))
            low = bound
        return float(self.longest_ns)
