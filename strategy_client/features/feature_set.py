"""An ordered set of features: the input row of a model."""

from array import array
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from strategy_client.configuration import ConfigurationError, Problem
from strategy_client.features.feature import Feature, feature_by_name
from strategy_client.features.level import HistoryLength
from strategy_client.features.run import RunStream
from strategy_client.features.window import BEYOND_FLOATS


class FeatureSet:
    """Features in the order of a model's columns; `features` are their definitions.

    Raises ConfigurationError for an empty list, a name that stands twice, or one that is not known.
    """

    def __init__(self, names: Sequence[str]) -> None:
        if not names:
            raise ConfigurationError(Problem("", "expected at least one feature name"))
        for name in names:
            if list(names).count(name) > 1:
                raise ConfigurationError(Problem("", f"feature {name!r} stands twice"))
        self.names = tuple(names)
        features = [feature_by_name(name) for name in names]
        self.window = max(feature.window for feature in features)
        self.features: tuple[Feature, ...] = tuple(
            HistoryLength(self.window) if isinstance(feature, HistoryLength) else feature
            for feature in features
        )

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        return f"FeatureSet({', '.join(self.names)}; window {self.window})"

    @property
    def in_catalogue(self) -> bool:
        """Whether no feature is a user's own."""
        return not any(":" in name for name in self.names)

    @property
    def first_valid_row(self) -> int:
        """The first row of `matrix` in which every feature has its window; the rows before hold NaN."""
        return self.window - 1

    def stream(self) -> "FeatureSetStream":
        """Start a new series, for one instrument."""
        return FeatureSetStream(self.features, self.window)

    def matrix(self, prices: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return a row for each price, float32, C-contiguous, shape (n, n_features).

        `prices` has shape (n,), the oldest first. Raises ValueError, naming the place, for a price that is
        not finite and above 0.
        """
        prices = np.ascontiguousarray(prices, dtype=np.float64)
        if prices.ndim != 1:
            raise ValueError(f"prices: expected shape (n,), came {prices.shape}")
        wrong = np.flatnonzero(~(np.isfinite(prices) & (prices > 0)))
        if len(wrong):
            raise ValueError(f"prices[{wrong[0]}]: expected a finite number above 0, came {prices[wrong[0]]}")
        rows = np.empty((len(prices), len(self)), dtype=np.float32)
        with np.errstate(**BEYOND_FLOATS):
            for column, feature in enumerate(self.features):
                rows[:, column] = feature.batch(prices)
        return rows


class FeatureSetStream:
    """The features of one instrument, a tick at a time."""

    __slots__ = ("_count", "_runs", "_streams", "_window")

    def __init__(self, features: Sequence[Feature], window: int) -> None:
        self._streams = tuple(feature.stream() for feature in features)
        self._window = window
        self._count = 0
        self._runs = tuple(stream for stream in self._streams if isinstance(stream, RunStream))

    @property
    def ready(self) -> bool:
        """Whether every feature has its window."""
        return self._count >= self._window

    def update(self, price: float) -> None:
        """Take the next price, finite and above 0."""
        self._count += 1
        for stream in self._streams:
            stream.update(price)

    @property
    def runs(self) -> bool:
        """Whether many prices can be taken in one call: where all features are of the catalogue."""
        return len(self._runs) == len(self._streams)

    def run(self, prices: Sequence[float]) -> tuple[NDArray[np.float32], int]:
        """Take the next prices; return the row at each, shape (n, n_features), and how many are not `ready`.

        The rows are to the bit what `row` gives after each. Raises ValueError where not all features `runs`.
        """
        if not self.runs:
            raise ValueError("a feature that is not of the catalogue takes one price at a time")
        unready = max(0, min(self._window - 1 - self._count, len(prices)))
        self._count += len(prices)
        rows = np.empty((len(prices), len(self._runs)), dtype=np.float32)
        with np.errstate(**BEYOND_FLOATS):
            for column, stream in enumerate(self._runs):
                rows[:, column] = stream.run(prices)
        return rows, unready

    def row(self) -> NDArray[np.float32]:
        """Return a new row, shape (n_features,): NaN before a feature's window, inf beyond float32."""
        return np.frombuffer(array("f", [stream.value() for stream in self._streams]), dtype=np.float32)
