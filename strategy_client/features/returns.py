"""Features of returns. A one-tick return is (price - previous) / previous."""

import itertools
import math
import operator
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from strategy_client.features.run import RunStream
from strategy_client.features.window import (
    SlidingFold,
    SlidingMoments,
    sliding_fold,
    sliding_moments,
)


@dataclass(frozen=True, slots=True)
class Return:
    """`return_{n}`, also `momentum_{n}`: the change from the oldest of the last n prices to the current one.

    (p - p[-n]) / p[-n], where p[-1] is the current price; at least 2 ticks.
    """

    window: int

    def stream(self) -> "ReturnStream":
        """Start a new series."""
        return ReturnStream(self.window)

    def batch(self, prices: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the change at each price."""
        changes = np.full_like(prices, np.nan)
        oldest = prices[: max(0, len(prices) - self.window + 1)]
        changes[self.window - 1 :] = (prices[self.window - 1 :] - oldest) / oldest
        return changes


class ReturnStream(RunStream):
    """The last n prices."""

    __slots__ = ("_prices", "_window")

    def __init__(self, window: int) -> None:
        self._window = window
        self._prices: deque[float] = deque(maxlen=window)

    def update(self, price: float) -> None:
        """Take the next price."""
        self._prices.append(price)

    def oldest(self) -> float:
        """Return the oldest price of the window; NaN before it is full."""
        return self._prices[0] if len(self._prices) == self._window else math.nan

    def value(self) -> float:
        """Return the change over the window; NaN before it is full."""
        prices = self._prices
        if len(prices) < self._window:
            return math.nan
        oldest = prices[0]
        return (prices[-1] - oldest) / oldest

    def run(self, prices: Sequence[float]) -> list[float]:
        """Return the change at each of the next prices."""
        known = [*self._prices, *prices]
        self._prices.extend(prices)
        missing = max(0, min(self._window - 1 - (len(known) - len(prices)), len(prices)))
        first = len(known) - len(prices) + missing - (self._window - 1)
        changes = [
            (price - oldest) / oldest
            for oldest, price in zip(known[first:], known[first + self._window - 1 :], strict=False)
        ]
        return [math.nan] * missing + changes


@dataclass(frozen=True, slots=True)
class Volatility:
    """`volatility_{n}`: sample std (ddof 1) of the n - 1 one-tick returns between the last n prices.

    At least 3 ticks; 0 where all returns are equal.
    """

    window: int

    def stream(self) -> "VolatilityStream":
        """Start a new series."""
        return VolatilityStream(self.window)

    def batch(self, prices: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the volatility at each price."""
        volatilities = np.full_like(prices, np.nan)
        volatilities[1:] = sliding_moments(_one_tick_returns(prices), self.window - 1)[2]
        return volatilities


class VolatilityStream(RunStream):
    """Moments of the one-tick returns."""

    __slots__ = ("_moments", "_previous")

    def __init__(self, window: int) -> None:
        self._moments = SlidingMoments(window - 1)
        self._previous: float | None = None

    def update(self, price: float) -> None:
        """Take the next price."""
        previous = self._previous
        self._previous = price
        if previous is not None:
            self._moments.push((price - previous) / previous)

    def value(self) -> float:
        """Return the volatility; NaN before the window is full."""
        return self._moments.value()[2]

    def run(self, prices: Sequence[float]) -> list[float]:
        """Return the volatility at each of the next prices."""
        if not prices:
            return []
        known = prices if self._previous is None else [self._previous, *prices]
        self._previous = prices[-1]
        returns = [(price - previous) / previous for previous, price in itertools.pairwise(known)]
        volatilities = [std for _, _, std in self._moments.run(returns)]
        return volatilities if len(volatilities) == len(prices) else [math.nan, *volatilities]


@dataclass(frozen=True, slots=True)
class MeanAbsReturn:
    """`mean_abs_return_{n}`: mean size of the n - 1 one-tick returns between the last n prices.

    At least 2 ticks.
    """

    window: int

    def stream(self) -> "MeanAbsReturnStream":
        """Start a new series."""
        return MeanAbsReturnStream(self.window)

    def batch(self, prices: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the mean at each price."""
        means = np.full_like(prices, np.nan)
        sizes = np.abs(_one_tick_returns(prices))
        means[1:] = sliding_fold(sizes, self.window - 1, np.add) / (self.window - 1)
        return means


class MeanAbsReturnStream(RunStream):
    """Sum of the sizes of the one-tick returns."""

    __slots__ = ("_count", "_previous", "_sum")

    def __init__(self, window: int) -> None:
        self._count = window - 1
        self._sum = SlidingFold(self._count, operator.add)
        self._previous: float | None = None

    def update(self, price: float) -> None:
        """Take the next price."""
        previous = self._previous
        self._previous = price
        if previous is not None:
            self._sum.push(abs((price - previous) / previous))

    def value(self) -> float:
        """Return the mean; NaN before the window is full."""
        return self._sum.value() / self._count


def _one_tick_returns(prices: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.diff(prices) / prices[:-1]
