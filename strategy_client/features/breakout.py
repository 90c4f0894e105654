"""Breakouts: the current price against the range of the ticks before it, which it is no part of."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from strategy_client.features.run import RunStream
from strategy_client.features.window import SlidingFold, sliding_fold


@dataclass(frozen=True, slots=True)
class BreakoutUp:
    """`breakout_up_{n}`: (price - high) / high, where high is the highest of the n prices before it.

    Above 0 exactly when the price breaks out of the range upwards.
    """

    ticks_before: int

    @property
    def window(self) -> int:
        """The ticks before, and the current one."""
        return self.ticks_before + 1

    def stream(self) -> "BreakoutStream":
        """Start a new series."""
        return BreakoutStream(self.ticks_before, max, 1.0)

    def batch(self, prices: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the breakout at each price."""
        return _batch(prices, self.ticks_before, np.maximum, 1.0)


@dataclass(frozen=True, slots=True)
class BreakoutDown:
    """`breakout_down_{n}`: (low - price) / low, where low is the lowest of the n prices before it.

    Above 0 exactly when the price breaks out of the range downwards.
    """

    ticks_before: int

    @property
    def window(self) -> int:
        """The ticks before, and the current one."""
        return self.ticks_before + 1

    def stream(self) -> "BreakoutStream":
        """Start a new series."""
        return BreakoutStream(self.ticks_before, min, -1.0)

    def batch(self, prices: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the breakout at each price."""
        return _batch(prices, self.ticks_before, np.minimum, -1.0)


class BreakoutStream(RunStream):
    """The extreme of the ticks before, and the current price."""

    __slots__ = ("_price", "_sign", "_ticks_before")

    def __init__(self, ticks_before: int, join: Callable[[float, float], float], sign: float) -> None:
        self._ticks_before = SlidingFold(ticks_before, join)
        self._sign = sign
        self._price: float | None = None

    def update(self, price: float) -> None:
        """Take the next price; the one before it now belongs to the range."""
        if self._price is not None:
            self._ticks_before.push(self._price)
        self._price = price

    def value(self) -> float:
        """Return the breakout; NaN before the window is full."""
        if self._price is None:
            return math.nan
        extreme = self._ticks_before.value()
        return self._sign * (self._price - extreme) / extreme


def _batch(
    prices: NDArray[np.float64], ticks_before: int, join: np.ufunc, sign: float
) -> NDArray[np.float64]:
    breakouts = np.full_like(prices, np.nan)
    extremes = sliding_fold(prices[:-1], ticks_before, join)
    breakouts[1:] = sign * (prices[1:] - extremes) / extremes
    return breakouts
