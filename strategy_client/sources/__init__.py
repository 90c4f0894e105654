"""Where ticks come from."""

from strategy_client.sources.opening import open_source

__all__ = ["open_source"]
