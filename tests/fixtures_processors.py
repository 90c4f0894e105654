"""Processors as a user writes them, in a module of the user's own."""

from collections.abc import Mapping, Sequence
from typing import Any

from strategy_client.events import MarketTick, SignalResult


class EveryTick:
    """Buys on each tick."""

    def __init__(self, quantity: int) -> None:
        self._quantity = quantity

    def process_tick(self, tick: MarketTick, history: Sequence[MarketTick]) -> SignalResult | None:
        """Return BUY."""
        return SignalResult("BUY", 1.0, self._quantity, tick.last_price)

    def get_required_history_length(self) -> int:
        """Return 1."""
        return 1

    def supports_instrument(self, token: int) -> bool:
        """Take any instrument."""
        return True

    def get_strategy_name(self) -> str:
        """Return "every_tick"."""
        return "every_tick"


def create_every_tick_processor(config: Mapping[str, Any]) -> EveryTick:
    """Make it, the plain way: a wrong parameter raises what Python raises."""
    return EveryTick(int(config["quantity"]))


def create_unloadable_processor(config: Mapping[str, Any]) -> EveryTick:
    """Fail as Alpha Panda's own factories do."""
    raise ValueError(f"Failed to load ML model from {config['model_path']}")
