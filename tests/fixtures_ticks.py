"""Ticks made by hand."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from strategy_client.events import MarketTick

OPEN = datetime(2024, 8, 8, 9, 15, tzinfo=UTC)


def tick(price: object, token: int = 1, second: int = 0) -> MarketTick:
    """Return a tick of a price, some seconds after the open."""
    return MarketTick(token, Decimal(str(price)), OPEN + timedelta(seconds=second))


def ticks(prices: Iterable[object], token: int = 1) -> list[MarketTick]:
    """Return ticks a second apart."""
    return [tick(price, token, second) for second, price in enumerate(prices)]
