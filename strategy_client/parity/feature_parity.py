"""Batch features against streamed ones (G3)."""

import math
from typing import Final

from strategy_client.features import FeatureSet
from strategy_client.parity.finding import Finding
from strategy_client.parity.series import Series

RELATIVE: Final = 1e-9
WHAT: Final = "features: batch = streamed"


def compare_features(series: Series, features: FeatureSet) -> Finding:
    """Stream every price of an instrument and compare each value with the batch's, to a relative 1e-9."""
    subject = f"{', '.join(features.names)} on {series.token}"
    prices = series.prices
    worst = 0.0
    first: tuple[int, str] | None = None
    for name, feature in zip(features.names, features.features, strict=True):
        stream = feature.stream()
        batch = feature.batch(prices).tolist()
        for row, price in enumerate(prices.tolist()):
            stream.update(price)
            apart = relative(stream.value(), batch[row])
            worst = max(worst, apart)
            if apart > RELATIVE:
                text = (
                    f"{series.place(row)}: {name} is {stream.value()!r} streamed, {batch[row]!r} in the batch"
                )
                if first is None or row < first[0]:
                    first = row, text
                break
    return Finding(subject, WHAT, len(series), worst, first[1] if first else "")


def relative(ours: float, theirs: float) -> float:
    """Return how far two numbers are apart; NaN is like NaN alone, and infinity like itself."""
    if ours == theirs or (math.isnan(ours) and math.isnan(theirs)):
        return 0.0
    if not (math.isfinite(ours) and math.isfinite(theirs)):
        return math.inf
    return abs(ours - theirs) / max(abs(ours), abs(theirs))
