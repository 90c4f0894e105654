"""The features of one instrument at its newest tick."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from strategy_client.configuration import is_interrupt
from strategy_client.features import FeatureSet, FeatureSetStream

# For each feature the lowest and the highest value, as float32 gives them.
Ranges = tuple[tuple[float, float], ...]
# The places of features outside of their ranges, and whether above.
Outside = Sequence[tuple[int, bool]]


class _Ahead:
    """The rows of ticks to come, worked out together: each is there to be taken once, in order."""

    __slots__ = ("_compared", "_rows", "finite", "infinite", "rows", "taken", "unready", "values")

    def __init__(self, rows: NDArray[np.float32], unready: int) -> None:
        self._rows = rows
        self.rows = list(rows)
        self.values: list[list[float]] = rows.tolist()
        self.finite: list[bool] = np.asarray(np.isfinite(rows).all(axis=1)).tolist()
        self.infinite: list[bool] = np.asarray(np.isinf(rows).any(axis=1)).tolist()
        self.unready = unready
        self.taken = 0
        self._compared: tuple[Ranges, list[bool]] | None = None

    def outside(self, ranges: Ranges) -> bool:
        """Whether any feature of the row that was taken last is outside of its range."""
        if self._compared is None or self._compared[0] is not ranges:
            columns = min(len(ranges), self._rows.shape[1])
            lows, highs = np.array(ranges[:columns], dtype=np.float64).T
            values = self._rows[:, :columns].astype(np.float64)
            self._compared = ranges, ((values < lows) | (values > highs)).any(axis=1).tolist()
        return self._compared[1][self.taken - 1]


class FeatureRow:
    """Worked out once a tick for every strategy with this feature set."""

    __slots__ = (
        "_ahead",
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
        self._ahead: _Ahead | None = None
        self._stream: FeatureSetStream | None = None
        self._compared_with: Ranges | None = None
        self._outside: Outside = ()
        self._named_row: NDArray[np.float32] | None = None
        self._named: dict[str, float] = {}
        self.row: NDArray[np.float32] | None = None
        self.values: list[float] = []
        self.error: BaseException | None = None
        self.finite = False
        self.has_infinity = False

    def update(self, price: float) -> None:
        """Take the next price; `row` is a new array, or None while the features warm up.

        `error` is what a user's feature raised on this tick; they all begin anew with the next one, since
        some have been told the price and some have not.
        """
        self.row = self.error = self._compared_with = None
        ahead = self._ahead
        if ahead is not None:
            if ahead.taken < len(ahead.rows):
                self._take(ahead)
                return
            self._ahead = None
        try:
            if self._stream is None:
                self._stream = self._features.stream()
            self._stream.update(price)
            if not self._stream.ready:
                return
            self.row = self._stream.row()
        except BaseException as error:
            # Whatever a feature raises is its strategies' outcome, and logged.
            if is_interrupt(error):
                raise
            self._stream = None
            self.error = error
            return
        self.values = self.row.tolist()
        self.finite = all(map(math.isfinite, self.values))
        self.has_infinity = not self.finite and bool(np.isinf(self.row).any())

    def look_ahead(self, prices: Sequence[float]) -> None:
        """Work out the rows of the next prices; each has to be given to `update` all the same, in order.

        Does nothing where a feature is a user's own: it may raise, at a tick that is told then. Raises
        RuntimeError where a price of the call before has not been given.
        """
        if self._ahead is not None and self._ahead.taken < len(self._ahead.rows):
            raise RuntimeError("not all prices that were looked ahead for have come")
        if self._stream is None and self._features.in_catalogue:
            self._stream = self._features.stream()
        if prices and self._stream is not None and self._stream.runs:
            self._ahead = _Ahead(*self._stream.run(prices))

    def _take(self, ahead: _Ahead) -> None:
        index = ahead.taken
        ahead.taken += 1
        if index < ahead.unready:
            return
        self.row, self.values = ahead.rows[index], ahead.values[index]
        self.finite, self.has_infinity = ahead.finite[index], ahead.infinite[index]

    def outside(self, ranges: Ranges) -> Outside:
        """Return which features of `row` are outside of `ranges`; NaN is outside of none.

        Strategies of one contract share its ranges, and the comparison.
        """
        if ranges is not self._compared_with:
            self._compared_with = ranges
            if self._ahead is not None and ranges and not self._ahead.outside(ranges):
                self._outside = ()
                return self._outside
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
