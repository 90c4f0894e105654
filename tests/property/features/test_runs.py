"""Many prices taken in one call are prices taken one after another, to the bit."""

from typing import Any

import numpy as np
import pytest
from fixtures_walks import names, walks
from hypothesis import given
from hypothesis import strategies as st

from strategy_client.feature_row import FeatureRow
from strategy_client.features import FeatureSet

# By how many prices at a time; they begin anew where the walk is longer.
chunks = st.lists(st.integers(0, 40), min_size=1, max_size=8).filter(any)
ranges = st.tuples(st.floats(-1, 1), st.floats(-1, 1)).map(lambda span: (min(span), max(span)))


class Raising:
    """A user's own feature, which raises on every third price."""

    window = 1

    def __init__(self) -> None:
        self.told: list[float] = []

    def stream(self) -> "Raising":
        """Start a new series."""
        return Raising()

    def batch(self, prices: Any) -> Any:
        """Return the prices."""
        return prices

    def update(self, price: float) -> None:
        """Take the next price."""
        self.told.append(price)
        if len(self.told) % 3 == 0:
            raise ValueError("every third")

    def value(self) -> float:
        """Return how many came."""
        return float(len(self.told))


def in_chunks(prices: list[float], sizes: list[int]) -> list[list[float]]:
    """Return the prices in pieces of these sizes, in turn."""
    pieces, place, turn = [], 0, 0
    while place < len(prices):
        size = sizes[turn % len(sizes)]
        pieces.append(prices[place : place + size])
        place, turn = place + size, turn + 1
    return pieces


@given(st.lists(names, min_size=1, max_size=5, unique=True), walks(), chunks)
def test_a_run_gives_the_rows_of_single_prices(chosen, prices, sizes):
    """G2, G3: rows and readiness are those of a stream that takes prices singly, also in turns with it."""
    features = FeatureSet(chosen)
    single, mixed = features.stream(), features.stream()
    for turn, piece in enumerate(in_chunks(prices, sizes)):
        expected, ready = [], []
        for price in piece:
            single.update(price)
            expected.append(single.row().tobytes())
            ready.append(single.ready)
        if turn % 3 == 2:
            for price, row in zip(piece, expected, strict=True):
                mixed.update(price)
                assert mixed.row().tobytes() == row
            continue
        rows, unready = mixed.run(piece)
        assert [row.tobytes() for row in rows] == expected
        assert [index >= unready for index in range(len(piece))] == ready


@given(st.lists(names, min_size=1, max_size=4, unique=True), walks(), chunks, st.lists(ranges, max_size=4))
def test_looking_ahead_changes_nothing_of_a_row(chosen, prices, sizes, spans):
    """G2: what a strategy sees of a tick's features is what it sees where nobody looked ahead."""
    plain, ahead = (FeatureRow(FeatureSet(chosen)) for _ in range(2))
    of_these, of_none = tuple(spans), ()
    for turn, piece in enumerate(in_chunks(prices, sizes)):
        if turn % 3 < 2:
            ahead.look_ahead(piece)
        for price in piece:
            plain.update(price)
            ahead.update(price)
            assert (plain.row is None) == (ahead.row is None)
            if plain.row is None or ahead.row is None:
                continue
            assert plain.row.tobytes() == ahead.row.tobytes()
            assert repr(plain.values) == repr(ahead.values)
            assert (plain.finite, plain.has_infinity) == (ahead.finite, ahead.has_infinity)
            for each in (of_these, of_none, of_these):
                assert list(plain.outside(each)) == list(ahead.outside(each))


def test_what_is_beyond_a_float32_is_infinite_in_a_run_too():
    """A price that no float32 holds gives infinity, without a warning, whichever way it is taken."""
    features = FeatureSet(["price", "return_2"])
    single = features.stream()
    single.update(1e300)
    rows, _ = features.stream().run([1e300])
    assert rows[0].tobytes() == single.row().tobytes()
    row = FeatureRow(FeatureSet(["price"]))
    row.look_ahead([1e300, 2.0])
    row.update(1e300)
    assert (row.finite, row.has_infinity) == (False, True)
    row.update(2.0)
    assert (row.finite, row.has_infinity) == (True, False)


def test_a_feature_of_a_users_own_is_told_one_price_at_a_time(monkeypatch: pytest.MonkeyPatch):
    """It may raise at any tick: looking ahead leaves it alone, and the tick says what it raised."""
    monkeypatch.setitem(__import__("sys").modules, "of_a_user", type("of_a_user", (), {"Raising": Raising}))
    features = FeatureSet(["price", "of_a_user:Raising"])
    row = FeatureRow(features)
    errors = []
    row.look_ahead([1.0] * 4)
    for _ in range(4):
        row.update(1.0)
        errors.append(row.error is not None)
    assert errors == [False, False, True, False]
    with pytest.raises(ValueError, match="one price at a time"):
        features.stream().run([1.0])


def test_prices_that_were_looked_ahead_for_have_to_come():
    """A second look ahead before that is a fault of the caller, and would give ticks the rows of others."""
    row = FeatureRow(FeatureSet(["price"]))
    row.look_ahead([1.0, 2.0])
    row.update(1.0)
    with pytest.raises(RuntimeError, match="not all prices"):
        row.look_ahead([3.0])
    row.update(2.0)
    row.look_ahead([3.0])
    row.update(3.0)
    assert row.row is not None
    np.testing.assert_array_equal(row.row, [3.0])
