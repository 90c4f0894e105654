"""Processors made ahead, so that a slow one does not hold up the loop that takes it."""

import threading
from collections.abc import Mapping
from typing import Any

from strategy_client.factory import StrategyFactory
from strategy_client.processors.processor import StrategyProcessor
from strategy_client.store.store import StrategySet


class PreparedFactory(StrategyFactory):
    """Gives a processor that was prepared for the same type and parameters, once; else makes one."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._prepared: list[tuple[str, Mapping[str, Any], StrategyProcessor]] = []

    def prepare(self, before: StrategySet, after: StrategySet) -> None:
        """Make what a change to `after` needs, in place of what was made for another one.

        Raises ConfigurationError as `create_processor` does.
        """
        kept = {each.strategy_id: (each.strategy_type, each.parameters) for each in before.strategies}
        made: list[tuple[str, Mapping[str, Any], StrategyProcessor]] = []
        for each in after.strategies:
            logic = each.strategy_type, each.parameters
            if kept.get(each.strategy_id) != logic:
                made.append((*logic, super().create_processor(*logic)))
        with self._lock:
            self._prepared = made

    def create_processor(self, strategy_type: str, parameters: Mapping[str, Any]) -> StrategyProcessor:
        """Return the one that was made, or make one; see StrategyFactory."""
        with self._lock:
            for index, (for_type, for_parameters, processor) in enumerate(self._prepared):
                if for_type == strategy_type and for_parameters == parameters:
                    del self._prepared[index]
                    return processor
        return super().create_processor(strategy_type, parameters)
