"""The other runner's tick objects, read as ours."""

import zoneinfo
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Zones:
    """The zones that times are really in, those without one and those that say UTC; None takes their word."""

    naive: zoneinfo.ZoneInfo | None = None
    utc: zoneinfo.ZoneInfo | None = None


def read_tick(tick: ForeignTick, zones: Zones, received_ns: int) -> MarketTick:
    """Return the tick; never raises, so that the edge checks can say what is wrong with it.

    A price that is no number becomes NaN. What is no time at all becomes one without a zone. `received_ns` is
    a reading of `time.monotonic_ns`.
    """
    symbol = getattr(tick, "symbol", None)
    return MarketTick(
        int(tick.instrument_token),
        _price(tick.last_price),
        _time(tick.timestamp, zones),
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


def _time(value: object, zones: Zones) -> datetime:
    if not isinstance(value, datetime):
        return datetime.min  # noqa: DTZ901 - no zone is what the edge refuses
    zone = zones.naive if value.tzinfo is None else zones.utc if not value.utcoffset() else None
    return value if zone is None else value.replace(tzinfo=zone).astimezone(UTC)
