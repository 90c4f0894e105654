"""A feature as a user writes one, in a module of the user's own."""

import math
from collections import deque

import numpy as np
from numpy.typing import NDArray


class Spread:
    """The range of the last `window` prices, relative to the current one."""

    def __init__(self, window: int = 2) -> None:
        self.window = window

    def stream(self) -> "SpreadStream":
        """Start a new series."""
        return SpreadStream(self.window)

    def batch(self, prices: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the spread at each price, by way of the stream."""
        stream = self.stream()
        values = []
        for price in prices.tolist():
            stream.update(price)
            values.append(stream.value())
        return np.array(values)


class SpreadStream:
    """The last `window` prices."""

    def __init__(self, window: int) -> None:
        self._prices: deque[float] = deque(maxlen=window)

    def update(self, price: float) -> None:
        """Take the next price."""
        self._prices.append(price)

    def value(self) -> float:
        """Return the spread; NaN before the window is full."""
        prices = self._prices
        full = len(prices) == prices.maxlen
        return (max(prices) - min(prices)) / prices[-1] if full else math.nan


class Touchy:
    """The last price, before which a price of 666 has never been seen."""

    window = 2

    def stream(self) -> "Touchy":
        """Start a new series."""
        return Touchy()

    def update(self, price: float) -> None:
        """Take the next price; raises at 666."""
        if price == 666:
            raise ArithmeticError("the number of the beast")
        self._price = price

    def value(self) -> float:
        """Return the price."""
        return self._price

    def batch(self, prices: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the prices."""
        return prices


class Missing:
    """A value that is never there."""

    window = 2

    def stream(self) -> "Missing":
        """Start a new series."""
        return self

    def update(self, price: float) -> None:
        """Take the next price."""

    def value(self) -> float:
        """Return nothing."""
        return math.nan

    def batch(self, prices: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return nothing, for each price."""
        return np.full(len(prices), math.nan)
