"""The features of one instrument at its newest tick."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from strategy_client.features import FeatureSet, FeatureSetStream

# For each feature the lowest and the highest value, as float32 gives them.
Ranges = tuple[tuple[float, float], ...]
# The places of features outside of their ranges, and whether above.
Outside = Sequence[tuple[int, bool]]


class FeatureRow:
    """Worked out once a tick for every strategy with this feature set."""

    __slots__ = (
        "_compared_with",
        "_features",
        "_named",
        "_named_row",
        "_outside",
        "_stream",
        "error",
        "finite",
        "has_infinity",
        "row",
        "values",
    )

    def __init__(self, features: FeatureSet) -> None:
        self._features = features
        self._stream: FeatureSetStream | None = None
        self._compared_with: Ranges | None = None
        self._outside: Outside = ()
        self._named_row: NDArray[np.float32] | None = None
        self._named: dict[str, float] = {}
        self.row: NDArray[np.float32] | None = None
        self.values: list[float] = []
        self.error: Exception | None = None
        self.finite = False
        self.has_infinity = False

    def update(self, price: float) -> None:
        """Take the next price; `row` is a new array, or None while the features warm up.

        `error` is what a user's feature raised on this tick; they all begin anew with the next one, since
        some have been told the price and some have not.
        """
        self.row = self.error = self._compared_with = None
        try:
            if self._stream is None:
                self._stream = self._features.stream()
            self._stream.update(price)
            if not self._stream.ready:
                return
            self.row = self._stream.row()
        except Exception as error:  # noqa: BLE001 whatever a feature raises is its strategies' outcome, and logged
            self._stream = None
            self.error = error
            return
        self.values = self.row.tolist()
        self.finite = all(map(math.isfinite, self.values))
        self.has_infinity = not self.finite and bool(np.isinf(self.row).any())

    def outside(self, ranges: Ranges) -> Outside:
        """Return which features of `row` are outside of `ranges`; NaN is outside of none.

        Strategies of one contract share its ranges, and the comparison.
        """
        if ranges is not self._compared_with:
            self._compared_with = ranges
            self._outside = [
                (place, value > high)
                for place, (value, (low, high)) in enumerate(zip(self.values, ranges, strict=False))
                if value < low or value > high
            ]
        return self._outside

    def named(self, row: NDArray[np.float32]) -> dict[str, float]:
        """Return a row of this set by the features' names; one object for all who ask for one row in turn."""
        if row is not self._named_row:
            self._named_row = row
            self._named = dict(zip(self._features.names, row.tolist(), strict=True))
        return self._named
