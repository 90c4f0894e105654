"""What holds for a history whatever ticks come, and whoever follows it."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from fixtures_ticks import tick
from hypothesis import given
from hypothesis import strategies as st

from strategy_client.events import MarketTick
from strategy_client.features import feature_by_name
from strategy_client.history import History

PRICES = st.lists(st.decimals("0.01", 1_000_000, places=2), max_size=30)
BOUNDS = st.none() | st.integers(-12, 12)


@given(PRICES, st.integers(1, 10), st.tuples(BOUNDS, BOUNDS, st.sampled_from([None, 1, 2, -1, -3])))
def test_a_history_reads_as_the_end_of_a_list(
    prices: Sequence[object], capacity: int, bounds: tuple[int | None, int | None, int | None]
) -> None:
    """Length, every index, any slice, iteration in both directions: all are those of the last ticks' list."""
    history = History(capacity)
    seen: list[MarketTick] = []
    for second, price in enumerate(prices):
        one = tick(price, second=second)
        history.append(one)
        seen = [*seen, one][-capacity:]
    assert len(history) == len(seen)
    assert list(history) == seen
    assert list(reversed(history)) == seen[::-1]
    assert history[slice(*bounds)] == seen[slice(*bounds)]
    for index in range(-len(seen), len(seen)):
        assert history[index] is seen[index]
    for index in (len(seen), -len(seen) - 1):
        with pytest.raises(IndexError):
            history[index]


class Touchy:
    """A follower that raises at some prices."""

    def __init__(self, told: list[float], limit: float) -> None:
        self._told = told
        self._limit = limit

    def update(self, price: float) -> None:
        """Take the next price."""
        if price > self._limit:
            raise ArithmeticError
        self._told.append(price)


@dataclass(frozen=True)
class TouchyDefinition:
    """What it is started from."""

    limit: float
    window: int = 1

    def stream(self) -> Touchy:
        """Start one."""
        return Touchy([], self.limit)


@given(PRICES, st.integers(1, 10), st.sets(st.integers(0, 29)), st.floats(0, 1_000_000))
def test_followers_are_told_every_price_and_disturb_nobody(
    prices: Sequence[object], capacity: int, asked: set[int], limit: float
) -> None:
    """H8: a stream that follows has seen what the history held and all since, whatever others raise."""
    history = History(capacity)
    first_asked: list[float] | None = None
    feature = feature_by_name("return_2")
    for second, price in enumerate(prices):
        one = tick(price, second=second)
        history.append(one)
        if second in asked:
            if one.last_price <= limit and all(each.last_price <= limit for each in history):
                history.follow(TouchyDefinition(limit))
            if first_asked is None:
                first_asked = [float(each.last_price) for each in history][:-1]
            history.feature("return_2")
        if first_asked is not None:
            first_asked.append(float(one.last_price))
    if first_asked is None:
        return
    fresh = feature.stream()
    for price in first_asked:
        fresh.update(price)
    assert history.feature("return_2") == pytest.approx(fresh.value(), nan_ok=True)
