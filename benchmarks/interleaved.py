"""Measurements beside their floor or peer: all subjects take turns, round after round, in one run.

Machines are noisy, and noise that lasts longer than a round hits every subject of it. So what is compared are
two subjects of one round, and told is the median of these ratios over the rounds, with the lowest and the
highest.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

NS_PER_US: Final = 1_000


@dataclass(frozen=True, slots=True)
class Subject:
    """Something to time: `call` is called `calls` times a round, and each call is timed.

    `pause_s` is slept before each call, so that it comes as a tick does: after silence.
    """

    name: str
    call: Callable[[], Any]
    calls: int = 200
    pause_s: float = 0.0


@dataclass(slots=True)
class Series:
    """One number a round, in `unit`; `tails` the 99th percentile of each round, where there are calls."""

    unit: str
    values: list[float] = field(default_factory=list)
    tails: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """The median over the rounds."""
        return statistics.median(self.values)


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times one series is another, round by round: the median, the lowest and the highest."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, series: Series, floor: Series) -> "Ratio":
        """Compare two series of the same rounds."""
        ratios = [ours / theirs for ours, theirs in zip(series.values, floor.values, strict=True)]
        return cls(statistics.median(ratios), min(ratios), max(ratios))

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.lowest:.2f} to {self.highest:.2f})"


def time_calls(subject: Subject) -> tuple[float, float]:
    """Call it as often as it wants; return the median and the 99th percentile, in microseconds."""
    times_ns = []
    call, now_ns = subject.call, time.perf_counter_ns
    for _ in range(subject.calls):
        if subject.pause_s:
            time.sleep(subject.pause_s)  # what is measured is the call after it
        began_ns = now_ns()
        call()
        times_ns.append(now_ns() - began_ns)
    times_ns.sort()
    return statistics.median(times_ns) / NS_PER_US, times_ns[len(times_ns) * 99 // 100] / NS_PER_US


def interleave(subjects: Sequence[Subject], rounds: int) -> Mapping[str, Series]:
    """Return a series for each subject, in microseconds a call; one round before is not counted."""
    series = {subject.name: Series("us") for subject in subjects}
    for number in range(rounds + 1):
        for subject in subjects:
            median_us, tail_us = time_calls(subject)
            if number:
                series[subject.name].values.append(median_us)
                series[subject.name].tails.append(tail_us)
    return series


def interleave_measures(
    measures: Mapping[str, Callable[[], float]], rounds: int, unit: str
) -> Mapping[str, Series]:
    """As `interleave`, for what measures itself: each function returns one number a round."""
    series = {name: Series(unit) for name in measures}
    for number in range(rounds + 1):
        for name, measure in measures.items():
            value = measure()
            if number:
                series[name].values.append(value)
    return series
