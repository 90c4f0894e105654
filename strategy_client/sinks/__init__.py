"""Where outcomes go."""

from strategy_client.sinks.opening import open_fan_out

__all__ = ["open_fan_out"]
