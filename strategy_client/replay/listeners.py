"""All who are told what a replay did."""

from collections.abc import Sequence

from strategy_client.events import ProcessedTick
from strategy_client.listener import TickListener
from strategy_client.runner import StrategyRunner
from strategy_client.shadow import ShadowSummary


class Listeners:
    """Tells each listener of each tick, and of what became of shadows; keeps the account of these.

    `runner` is None where no strategy has a shadow.
    """

    def __init__(self, listeners: Sequence[TickListener], runner: StrategyRunner | None) -> None:
        self.shadows: dict[str, ShadowSummary] = {}
        self._listeners = tuple(listeners)
        self._runner = runner

    def took(self, processed: ProcessedTick) -> None:
        """Tell of a tick."""
        for listener in self._listeners:
            listener.took(processed)

    def compare(self, *, wait: bool) -> None:
        """Tell of what is known of the shadows; `wait` for the rest of the ticks that were told of."""
        if self._runner is None:
            return
        for comparison in self._runner.take_comparisons(wait=wait):
            for listener in self._listeners:
                listener.compared(comparison)
            self.shadows.setdefault(comparison.live.strategy_id, ShadowSummary()).took(comparison)
