"""Durations in buckets."""

import numpy as np
import pytest

from strategy_client.live.histogram import FINE_BOUNDS_NS, SHOWN_BOUNDS_NS, Histogram


def test_quantiles_are_right_to_a_fortieth() -> None:
    """Whatever the durations: within the half of a bucket that the docstring promises."""
    durations = np.random.default_rng(1).lognormal(np.log(400_000), 1.0, 10_000).astype(int).tolist()
    histogram = Histogram(FINE_BOUNDS_NS)
    for duration in durations:
        histogram.add(duration)
    for part in (0.5, 0.9, 0.99):
        assert histogram.quantile_ns(part) == pytest.approx(np.quantile(durations, part), rel=0.026)
    assert histogram.count == 10_000
    assert histogram.sum_ns == sum(durations)
    assert histogram.longest_ns == max(durations)
    assert histogram.quantile_ns(1.0) == pytest.approx(max(durations), rel=0.026)


def test_nothing_added_has_no_quantile() -> None:
    """Before the first tick the median is 0, not a bound of the buckets."""
    assert Histogram(FINE_BOUNDS_NS).quantile_ns(0.5) == 0


def test_what_is_beyond_the_last_bound_is_the_longest() -> None:
    """A tick that hung for minutes shows as long as it was."""
    histogram = Histogram(FINE_BOUNDS_NS)
    histogram.add(600 * 10**9)
    assert histogram.quantile_ns(0.99) == 600e9


def test_bounds_include_what_equals_them() -> None:
    """A bucket holds what is up to its bound, as Prometheus has it; the last one holds all."""
    histogram = Histogram(SHOWN_BOUNDS_NS)
    for duration in (100_000, 100_001, 10**12):
        histogram.add(duration)
    cumulated = histogram.cumulated()
    assert cumulated[0] == (100_000, 1)
    assert cumulated[1] == (250_000, 2)
    assert cumulated[-2:] == [(10_000_000_000, 2), (-1, 3)]


def test_quantile_is_never_above_the_longest() -> None:
    """The middle of a bucket may lie above all that is in it; nothing took so long."""
    histogram = Histogram((10, 20))
    histogram.add(11)
    assert [histogram.quantile_ns(part) for part in (0.5, 1.0)] == [11, 11]
    histogram.add(19)
    assert histogram.quantile_ns(0.5) == 15
