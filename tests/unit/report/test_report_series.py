"""What is left out of a chart hides nothing."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from strategy_client.report.series import Run, bucket_edges, extremes, quantiles, runs


def test_a_short_column_is_drawn_whole():
    """Nothing is left out where there is room for all."""
    assert extremes(np.arange(40.0), buckets=10).tolist() == list(range(40))


def test_a_spike_of_one_tick_is_drawn():
    """The least and the greatest of 100,000 values are there, however short they lasted."""
    values = np.zeros(100_000)
    values[12_345], values[67_890] = 9.0, -9.0
    shown = extremes(values, buckets=100)
    assert {0, 12_345, 67_890, 99_999} <= set(shown.tolist())
    assert len(shown) <= 400
    assert (np.diff(shown) > 0).all()


def test_what_is_no_number_is_no_extreme():
    """A part of nothing but NaN keeps its ends; beside numbers NaN is passed over."""
    values = np.full(1_000, np.nan)
    values[510] = 3.0
    shown = extremes(values, buckets=10)
    assert {0, 99, 510, 999} <= set(shown.tolist())


@given(st.integers(1, 500), st.integers(1, 40))
def test_parts_cover_every_place_once(size, buckets):
    """Edges begin at 0, end at the size, and no part is empty."""
    edges = bucket_edges(size, buckets)
    assert edges[0] == 0
    assert edges[-1] == size
    assert (np.diff(edges) > 0).all()
    assert len(edges) <= buckets + 1


def test_quantiles_of_a_part_without_numbers_are_none():
    """NaN is left out; where nothing else is there is no quantile."""
    values = np.array([1.0, 3.0, np.nan, np.nan, 5.0, np.nan])
    edges = np.array([0, 2, 4, 6])
    assert quantiles(values, edges, [0.5, 1.0]) == [[2.0, None, 5.0], [3.0, None, 5.0]]


@given(arrays(np.int64, st.integers(0, 60), elements=st.integers(0, 3)))
def test_runs_put_together_are_the_values(values):
    """Each run is of one value, touches the next, and differs from it."""
    found = runs(values)
    assert [run.value for run in found for _ in range(run.first, run.last + 1)] == values.tolist()
    assert all(one.value != other.value for one, other in itertools.pairwise(found))


def test_runs_name_their_ends():
    """The first and the last place are both of the run."""
    assert runs(np.array([2, 2, 5])) == [Run(2, 0, 1), Run(5, 2, 2)]
