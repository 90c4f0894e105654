"""Who is told what the tick loop did."""

from typing import Protocol

from strategy_client.events import ProcessedTick, ShadowComparison


class TickListener(Protocol):
    """Files, brokers, an audit log, metrics: told of each tick on the loop's thread, in order.

    Neither method blocks or raises: what cannot be written now is queued within a bound, or dropped and
    counted.
    """

    def took(self, processed: ProcessedTick) -> None:
        """Take what came of a tick."""
        ...

    def compared(self, comparison: ShadowComparison) -> None:
        """Take what a shadow said, at some time after `took` of the same index."""
        ...
