"""How far a learned strategy trusts its model: by its age, and by what it was trained on."""

import math
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
from numpy.typing import NDArray

from strategy_client.binding import Bound
from strategy_client.drift import DriftCounts
from strategy_client.events import MarketTick, Reason
from strategy_client.feature_row import FeatureRow, Outside, Ranges
from strategy_client.processors.limits import REFUSE, limits_of
from strategy_client.processors.processor import LearnedProcessor

DAY: Final = timedelta(days=1)
BEFORE_ALL_TICKS: Final = datetime(1, 1, 2, tzinfo=UTC)


class Trust:
    """What the `limits` of a processor make of the version that its strategy is bound to.

    `ranges` are those of its training, as wide as the limits have them. Rows are counted in `drift`.
    """

    __slots__ = ("_drift", "_features", "_processor", "_stale_after", "limits", "ranges")

    def __init__(self, processor: LearnedProcessor, features: FeatureRow, drift: DriftCounts) -> None:
        self.limits = limits_of(processor)
        self.ranges: Ranges = ()
        self._processor = processor
        self._features = features
        self._drift = drift
        self._stale_after: datetime | None = None

    def __repr__(self) -> str:
        return f"<Trust within {self.limits}, of ticks until {self._stale_after}>"

    def bind(self, binding: Bound) -> None:
        """Take another version."""
        limit = self.limits.max_model_age
        if limit is None:
            self._stale_after = None
        elif binding.trained_at is None:
            self._stale_after = BEFORE_ALL_TICKS
        else:
            self._stale_after = _later(binding.trained_at, limit)
        self.ranges = _widened(binding.training_ranges, self.limits.training_range_margin)

    def find_distrust(
        self, tick: MarketTick, binding: Bound, row: NDArray[np.float32]
    ) -> tuple[Reason, str] | None:
        """Return why this row is not asked, None where it is; it is counted where there are `ranges`."""
        features = self._features
        if self._stale_after is not None and tick.timestamp > self._stale_after:
            return Reason.MODEL_STALE, self._age(tick, binding)
        if not features.finite and (features.has_infinity or not binding.accepts_nan):
            return Reason.NON_FINITE, self._non_finite(row)
        if self.ranges:
            self._drift.rows += 1
            outside = features.outside(self.ranges)
            if outside:
                self._drift.count(outside)
                if self.limits.outside_training_range == REFUSE:
                    return Reason.OUT_OF_RANGE, self._outside(outside)
        return None

    def _non_finite(self, row: NDArray[np.float32]) -> str:
        named = zip(self._processor.features.names, row.tolist(), strict=True)
        return ", ".join(f"{name} is {value}" for name, value in named if not math.isfinite(value))

    def _outside(self, outside: Outside) -> str:
        names, values = self._processor.features.names, self._features.values
        return ", ".join(
            f"{names[place]} is {values[place]:.6g}, "
            f"trained on {self.ranges[place][0]:.6g} to {self.ranges[place][1]:.6g}"
            for place, _ in outside
        )

    def _age(self, tick: MarketTick, binding: Bound) -> str:
        model = f"model {self._processor.model.name!r} version {binding.version}"
        limit = self.limits.max_model_age
        if binding.trained_at is None or limit is None:
            return f"{model} does not say when it was trained, and max_model_age_days is set"
        age_days = (tick.timestamp - binding.trained_at) / DAY
        return f"{model} was trained {age_days:.1f} days before this tick, more than {limit / DAY:g}"


def _later(instant: datetime, by: timedelta) -> datetime | None:
    try:
        return instant + by
    except OverflowError:  # beyond the year 9999
        return None


def _widened(ranges: Ranges, margin: float) -> Ranges:
    if not margin:
        return ranges
    return tuple((low - margin * (high - low), high + margin * (high - low)) for low, high in ranges)
