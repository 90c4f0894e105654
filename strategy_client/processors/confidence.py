"""How sure a rule with a threshold is."""

from typing import Final

# A strength of this many thresholds is as sure as it gets.
SURE_AT: Final = 2.0


def confidence(strength: float, threshold: float) -> float:
    """Return |strength| in units of `SURE_AT` thresholds, at most 1: just over the threshold is one half."""
    return min(1.0, abs(strength) / (SURE_AT * threshold))
