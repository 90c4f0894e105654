"""Batch features against streamed ones (G3)."""

import math
from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from strategy_client.configuration import describe_error
from strategy_client.features import FeatureSet
from strategy_client.features.feature import Feature
from strategy_client.parity.finding import Finding
from strategy_client.parity.series import Series

RELATIVE: Final = 1e-9
WHAT: Final = "features: batch = streamed"


def compare_features(series: Series, features: FeatureSet) -> Finding:
    """Stream every price of an instrument and compare each value with the batch's, to a relative 1e-9."""
    subject = f"{', '.join(features.names)} on {series.token}"
    prices = series.prices
    if not len(prices):
        return Finding(subject, WHAT, skipped="there is no tick of it")
    worst = 0.0
    first: tuple[int, str] | None = None
    for name, feature in zip(features.names, features.features, strict=True):
        row = -1
        try:
            for streamed, batched in _values(feature, prices):
                row += 1
                apart = relative(streamed, batched)
                worst = max(worst, apart)
                if apart > RELATIVE:
                    text = f"{name} is {streamed!r} streamed, {batched!r} in the batch"
                    break
            else:
                continue
        except (Exception, SystemExit) as error:  # noqa: BLE001 whatever a user's own feature raises
            row, worst = max(row, 0), math.inf
            text = f"{name}: {describe_error(error)}"
        if first is None or row < first[0]:
            first = row, f"{series.place(row)}: {text}"
    return Finding(subject, WHAT, len(series), worst, first[1] if first else "")


def _values(feature: Feature, prices: NDArray[np.float64]) -> Iterator[tuple[float, float]]:
    """Yield each price's value, streamed and of the batch. ValueError for a batch of another length."""
    stream = feature.stream()
    batch = feature.batch(prices).tolist()
    for price, batched in zip(prices.tolist(), batch, strict=True):
        stream.update(price)
        yield stream.value(), batched


def relative(ours: float, theirs: float) -> float:
    """Return how far two numbers are apart; NaN is like NaN alone, and infinity like itself."""
    if ours == theirs or (math.isnan(ours) and math.isnan(theirs)):
        return 0.0
    if not (math.isfinite(ours) and math.isfinite(theirs)):
        return math.inf
    return abs(ours - theirs) / max(abs(ours), abs(theirs))
