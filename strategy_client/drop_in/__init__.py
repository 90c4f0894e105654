"""Our processors inside Alpha Panda's own runner, which hands one tick to one strategy after another.

Register a function of this package by its dotted path, or make one with `creator`; docs/alpha-panda.md says
how, and what differs.
"""

from strategy_client.drop_in.creator import (
    Creator,
    StrategyLoadError,
    create_mean_reversion_processor,
    create_ml_breakout_processor,
    create_ml_mean_reversion_processor,
    create_ml_momentum_processor,
    create_momentum_processor,
    create_processor,
    creator,
)
from strategy_client.drop_in.processor import DropInProcessor, LearnedDropInProcessor

__all__ = [
    "Creator",
    "DropInProcessor",
    "LearnedDropInProcessor",
    "StrategyLoadError",
    "create_mean_reversion_processor",
    "create_ml_breakout_processor",
    "create_ml_mean_reversion_processor",
    "create_ml_momentum_processor",
    "create_momentum_processor",
    "create_processor",
    "creator",
]
