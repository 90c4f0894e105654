"""Signals made by hand."""

from fixtures_ticks import tick

from strategy_client.events import Cause, MarketTick, Outcome, ProcessedTick, Signal


def signal(strategy_id: str = "up", token: int = 1, second: int = 0, **metadata: object) -> Signal:
    """Return a signal to buy, some seconds after the open."""
    at = tick(100, token, second)
    return Signal(strategy_id, token, "BUY", 0.75, 10, at.last_price, at.timestamp, metadata)


def processed(*outcomes: Outcome, cause: Cause | None = None) -> ProcessedTick:
    """Return what came of a tick."""
    at = tick(100)
    return ProcessedTick(0, MarketTick(1, at.last_price, at.timestamp, cause=cause), outcomes, 0)
