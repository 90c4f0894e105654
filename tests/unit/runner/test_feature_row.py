"""The row of an instrument, worked out once for all who look at it."""

import numpy as np

from strategy_client.feature_row import FeatureRow
from strategy_client.features import FeatureSet


def test_each_range_has_a_comparison_of_its_own() -> None:
    """Strategies of other ranges are compared apart at one tick, in whatever order they come."""
    row = FeatureRow(FeatureSet(["price"]))
    narrow, wide = ((0.0, 1.0),), ((0.0, 9.0),)
    row.update(5.0)
    assert [list(row.outside(ranges)) for ranges in (narrow, wide, narrow)] == [[(0, True)], [], [(0, True)]]
    row.update(0.5)
    assert list(row.outside(narrow)) == []


def test_each_row_is_named_by_its_own_values() -> None:
    """An earlier tick's row that is answered later is named by what it held then."""
    row = FeatureRow(FeatureSet(["price"]))
    first, second = (np.array([value], dtype=np.float32) for value in (1.0, 2.0))
    assert [row.named(each) for each in (first, second, first)] == [
        {"price": 1.0},
        {"price": 2.0},
        {"price": 1.0},
    ]
    assert row.named(first) is row.named(first)
