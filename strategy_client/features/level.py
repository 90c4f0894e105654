"""Features of the price itself: its value, its distance from the mean, the number of ticks at hand."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from strategy_client.features.run import RunStream
from strategy_client.features.window import SlidingMoments, sliding_moments


@dataclass(frozen=True, slots=True)
class Price:
    """`price`: the current price."""

    window: int = 1

    def stream(self) -> "PriceStream":
        """Start a new series."""
        return PriceStream()

    def batch(self, prices: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the prices."""
        return prices.copy()


class PriceStream(RunStream):
    """The last price."""

    __slots__ = ("_price",)

    def __init__(self) -> None:
        self._price = math.nan

    def update(self, price: float) -> None:
        """Take the next price."""
        self._price = price

    def value(self) -> float:
        """Return it; NaN before the first."""
        return self._price

    def run(self, prices: Sequence[float]) -> list[float]:
        """Return the prices."""
        if prices:
            self._price = prices[-1]
        return list(prices)


@dataclass(frozen=True, slots=True)
class HistoryLength:
    """`history_length`: ticks seen so far, never more than `limit`.

    In a feature set the limit is the set's window, so that the value is the same in training and in
    service: a model cannot learn from how long a session has run.
    """

    limit: int
    window: int = 1

    def stream(self) -> "HistoryLengthStream":
        """Start a new series."""
        return HistoryLengthStream(self.limit)

    def batch(self, prices: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return 1, 2, 3, ... up to the limit."""
        return np.minimum(np.arange(1, len(prices) + 1, dtype=np.float64), self.limit)


class HistoryLengthStream(RunStream):
    """A count that stops at its limit."""

    __slots__ = ("_count", "_limit")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._count = 0

    def update(self, price: float) -> None:  # noqa: ARG002 - every stream takes the price
        """Count one more."""
        if self._count < self._limit:
            self._count += 1

    def value(self) -> float:
        """Return the count; NaN before the first tick."""
        return float(self._count) if self._count else math.nan


@dataclass(frozen=True, slots=True)
class ZScore:
    """`zscore_{n}`: (price - mean) / std over the last n prices, with the sample std (ddof 1).

    At least 2 ticks; 0 where all prices are equal.
    """

    window: int

    def stream(self) -> "ZScoreStream":
        """Start a new series."""
        return ZScoreStream(self.window)

    def batch(self, prices: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the z-score at each price."""
        references, offsets, stds = sliding_moments(prices, self.window)
        scores = np.zeros_like(prices)
        # Written so that NaN, which is no equality, is divided too and stays NaN.
        np.divide((prices - references) - offsets, stds, out=scores, where=stds != 0.0)
        return scores


class ZScoreStream(RunStream):
    """The z-score with its parts."""

    __slots__ = ("_moments", "_price", "_score")

    def __init__(self, window: int) -> None:
        self._moments = SlidingMoments(window)
        self._price = math.nan
        # Until the next price, for all who ask for it.
        self._score: float | None = None

    def update(self, price: float) -> None:
        """Take the next price."""
        self._price = price
        self._score = None
        self._moments.push(price)

    def mean_and_std(self) -> tuple[float, float]:
        """Return the window's mean and sample standard deviation; NaN before it is full."""
        reference, offset, std = self._moments.value()
        return reference + offset, std

    def value(self) -> float:
        """Return the z-score; 0 where all prices are equal, NaN before the window is full."""
        score = self._score
        if score is None:
            reference, offset, std = self._moments.value()
            score = self._score = ((self._price - reference) - offset) / std if std else 0.0
        return score

    def run(self, prices: Sequence[float]) -> list[float]:
        """Return the z-score at each of the next prices."""
        if prices:
            self._price = prices[-1]
            self._score = None
        return [
            ((price - reference) - offset) / std if std else 0.0
            for price, (reference, offset, std) in zip(prices, self._moments.run(prices), strict=True)
        ]
