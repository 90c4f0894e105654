"""Rates and latencies of the last minutes, step by step, for the charts of the status page.

A sample is the difference between two readings of the counters. What is kept is bounded by the models that
are known: four numbers a step each. Sampling goes on when nobody looks, so that a page that is opened in
trouble shows how it came.
"""

from array import array
from bisect import bisect_left
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from math import isnan, nan
from typing import Any, Final

from inference_server.core.clock import Clock
from inference_server.serving.statistics import BOUNDS_NS, Statistics

# Steps that are kept: five minutes of the usual two seconds.
STEPS: Final = 150
MEDIAN: Final = 0.5
TAIL: Final = 0.99
# The series of all models together; no model can have this name.
TOTAL: Final = "*"


class Series:
    """One model's last steps. A quantile is NaN in a step without an answer."""

    __slots__ = ("_answered", "_failed", "_median", "_tail")

    def __init__(self) -> None:
        self._answered = array("f", bytes(4 * STEPS))
        self._failed = array("f", bytes(4 * STEPS))
        self._median = array("f", [nan] * STEPS)
        self._tail = array("f", [nan] * STEPS)

    def __repr__(self) -> str:
        return f"<Series with {sum(1 for rate in self._answered if rate)} of {STEPS} steps busy>"

    def put(self, number: int, counted: "Counted", elapsed_s: float) -> None:
        """Keep what was counted in the step of this number, in place of the one STEPS earlier."""
        place = number % STEPS
        self._answered[place] = sum(counted.buckets) / elapsed_s
        self._failed[place] = counted.failed / elapsed_s
        self._median[place] = quantile_us(counted.buckets, MEDIAN)
        self._tail[place] = quantile_us(counted.buckets, TAIL)

    def document(self, numbers: range) -> dict[str, list[float | None]] | None:
        """Return the steps of these numbers: calls per second, and µs or null; None: nothing happened."""
        places = [number % STEPS for number in numbers]
        if not any(self._answered[place] or self._failed[place] for place in places):
            return None
        return {
            "answered_per_s": [round(self._answered[place], 1) for place in places],
            "failed_per_s": [round(self._failed[place], 1) for place in places],
            "p50_us": [_whole(self._median[place]) for place in places],
            "p99_us": [_whole(self._tail[place]) for place in places],
        }

    def copy(self) -> "Series":
        """Return a copy that later steps do not change."""
        copied = Series.__new__(Series)
        for name in Series.__slots__:
            setattr(copied, name, array("f", getattr(self, name)))
        return copied


@dataclass(slots=True)
class Counted:
    """Calls that ended in one step: those answered, by buckets of their durations, and those that failed."""

    buckets: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_NS) + 1))
    failed: int = 0

    def since(self, before: "Counted") -> "Counted":
        """Return what was counted after `before`."""
        buckets = [now - then for now, then in zip(self.buckets, before.buckets, strict=True)]
        return Counted(buckets, self.failed - before.failed)

    @property
    def impossible(self) -> bool:
        """Whether a count is below 0: what was compared is not one count that grew."""
        return self.failed < 0 or min(self.buckets) < 0

    def add(self, other: "Counted") -> None:
        """Count what the other counted, too."""
        self.buckets = [mine + its for mine, its in zip(self.buckets, other.buckets, strict=True)]
        self.failed += other.failed


class History:
    """The steps of every model that calls named, and of all together. Lives on the event loop's thread."""

    def __init__(self, statistics: Statistics, clock: Clock) -> None:
        self._statistics: Final = statistics
        self._clock: Final = clock
        self._read_ns = clock.monotonic_ns()
        self._before: dict[tuple[str, int], Counted] = {}
        self._series: dict[str, Series] = {TOTAL: Series()}
        self._number = 0

    def __repr__(self) -> str:
        return f"<History of {len(self._series) - 1} models at step {self._number}>"

    @property
    def number(self) -> int:
        """The number of the last step; 0 before the first."""
        return self._number

    def step(self, known: Collection[str]) -> None:
        """Read the counters. Models that are not `known` any more are forgotten."""
        now_ns = self._clock.monotonic_ns()
        elapsed_s = (now_ns - self._read_ns) / 1e9
        if elapsed_s <= 0:
            return
        self._read_ns = now_ns
        self._number += 1
        total = Counted()
        counted_by_model = self._count()
        for name in set(self._series) - set(known) - {TOTAL}:
            del self._series[name]
        for name, counted in counted_by_model.items():
            total.add(counted)
            if name in known and name not in self._series:
                self._series[name] = Series()
        for name, series in self._series.items():
            series.put(self._number, counted_by_model.get(name) or Counted(), elapsed_s)
        self._series[TOTAL].put(self._number, total, elapsed_s)

    def numbers_after(self, number: int) -> range:
        """Return the numbers of the steps that are kept and came after this one."""
        return range(max(number, self._number - STEPS, 0) + 1, self._number + 1)

    def copies(self) -> dict[str, Series]:
        """Return the series as they are now, to be written down a few at a time."""
        return {name: series.copy() for name, series in self._series.items()}

    def _count(self) -> dict[str, Counted]:
        """Return what was counted since the last time, by model; idle ones are left out."""
        found: dict[str, Counted] = {}
        before, self._before = self._before, {}
        for name, versions in self._statistics.models.items():
            for version, statistics in versions.items():
                now = Counted(list(statistics.total.buckets), statistics.failures)
                self._before[name, version] = now
                then = before.get((name, version), Counted())
                if now == then:
                    continue
                more = now.since(then)
                # A version that was forgotten and came back counts from 0 again.
                found.setdefault(name, Counted()).add(now if more.impossible else more)
        return found


def quantile_us(buckets: Sequence[int], part: float) -> float:
    """Return the duration in µs that this part of them does not pass; NaN for none at all.

    Durations are taken as spread evenly in their bucket; beyond the last bound, as the bound.
    """
    sums = list(accumulate(buckets))
    if not sums[-1]:
        return nan
    wanted = part * sums[-1]
    place = bisect_left(sums, wanted)
    if place >= len(BOUNDS_NS):
        return BOUNDS_NS[-1] / 1e3
    low_ns = BOUNDS_NS[place - 1] if place else 0
    below = sums[place - 1] if place else 0
    share = (wanted - below) / buckets[place]
    return (low_ns + share * (BOUNDS_NS[place] - low_ns)) / 1e3


def _whole(value: float) -> Any:
    return None if isnan(value) else round(value)
