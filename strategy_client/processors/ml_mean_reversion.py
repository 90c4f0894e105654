"""Mean reversion, learned."""

from collections.abc import Mapping
from typing import Any

from strategy_client.processors.classifier import ClassifierProcessor, create_classifier


def mean_reversion_features(lookback: int) -> tuple[str, ...]:
    """Return the names of the model's columns for a lookback in ticks."""
    return (f"zscore_{lookback}", "price", f"volatility_{lookback}", "history_length")


def create_ml_mean_reversion_processor(config: Mapping[str, Any]) -> ClassifierProcessor:
    """Make the processor from its parameters; raises ConfigurationError."""
    return create_classifier("ml_mean_reversion", mean_reversion_features, config)
