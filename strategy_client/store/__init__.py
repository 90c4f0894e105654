"""Where strategies are configured. Reading YAML needs the client extra, a table the database extra."""

from strategy_client.store.place import open_store
from strategy_client.store.store import StrategySet, StrategyStore

__all__ = ["StrategySet", "StrategyStore", "open_store"]
