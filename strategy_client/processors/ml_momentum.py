"""Momentum, learned."""

from collections.abc import Mapping
from typing import Any

from strategy_client.processors.classifier import ClassifierProcessor, create_classifier


def momentum_features(lookback: int) -> tuple[str, ...]:
    """Return the names of the model's columns for a lookback in ticks."""
    return (f"return_{lookback}", "momentum_5", f"volatility_{lookback}", "price", "history_length")


def create_ml_momentum_processor(config: Mapping[str, Any]) -> ClassifierProcessor:
    """Make the processor from its parameters; raises ConfigurationError."""
    return create_classifier("ml_momentum", momentum_features, config)
