"""Where outcomes go."""

from strategy_client.sinks.opening import open_fan_out, writes_to_standard_output

__all__ = ["open_fan_out", "writes_to_standard_output"]
