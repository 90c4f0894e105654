"""The other runner's tick objects, read as ours."""

import zoneinfo
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Protocol

from strategy_client.events import MarketTick


class ForeignTick(Protocol):
    """What is read of a tick; the runner rebuilds each with a token, a price, a time and a symbol only."""

    @property
    def instrument_token(self) -> int: ...  # noqa: D102 the fields of a tick
    @property
    def last_price(self) -> Decimal: ...  # noqa: D102
    @property
    def timestamp(self) -> datetime: ...  # noqa: D102


def read_tick(tick: ForeignTick, zone: zoneinfo.ZoneInfo | None, received_ns: int) -> MarketTick:
    """Return the tick; never raises, so that the edge checks can say what is wrong with it.

    A price that is no number becomes NaN. A time without a zone is taken as one in `zone`, or left as it is;
    what is no time at all becomes one without a zone. `received_ns` is a reading of `time.monotonic_ns`.
    """
    symbol = getattr(tick, "symbol", None)
    return MarketTick(
        int(tick.instrument_token),
        _price(tick.last_price),
        _time(tick.timestamp, zone),
        None if symbol is None else str(symbol),
        received_ns=received_ns,
    )


def _price(value: object) -> Decimal:
    if isinstance(value, Decimal):
        return value
    try:
        return Decimal(str(value))
    except InvalidOperation:
        return Decimal("NaN")


def _time(value: object, zone: zoneinfo.ZoneInfo | None) -> datetime:
    if not isinstance(value, datetime):
        return datetime.min  # noqa: DTZ901 - no zone is what the edge refuses
    if value.tzinfo is None and zone is not None:
        return value.replace(tzinfo=zone).astimezone(UTC)
    return value
