"""Breakouts, learned."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from strategy_client.features.feature import MAX_WINDOW
from strategy_client.processors.classifier import (
    ClassifierOptions,
    ClassifierProcessor,
    create_classifier,
)
from strategy_client.processors.parameter import integer


@dataclass(frozen=True, slots=True)
class BreakoutOptions(ClassifierOptions):
    """As every classifier's, over a longer lookback."""

    lookback_periods: int = integer(30, least=3, most=MAX_WINDOW)


def breakout_features(lookback: int) -> tuple[str, ...]:
    """Return the names of the model's columns for a lookback in ticks."""
    return (f"breakout_up_{lookback}", f"breakout_down_{lookback}", f"mean_abs_return_{lookback}", "price")


def create_ml_breakout_processor(config: Mapping[str, Any]) -> ClassifierProcessor:
    """Make the processor from its parameters; raises ConfigurationError."""
    return create_classifier("ml_breakout", breakout_features, config, BreakoutOptions)
