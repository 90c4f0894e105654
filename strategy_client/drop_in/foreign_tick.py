"""The other runner's tick objects, read as ours."""

import operator
import zoneinfo
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, Protocol

from strategy_client.events import MarketTick

# No instrument has it.
NO_TOKEN: Final = 0


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

    A price that is no number becomes NaN, a token that is no integer above 0 `NO_TOKEN`: 1.5 is nobody's, not
    instrument 1. What is no time becomes one without a zone, and so does what its zone puts beyond the
    calendar. `received_ns` is a reading of `time.monotonic_ns`.
    """
    symbol = getattr(tick, "symbol", None)
    return MarketTick(
        _token(getattr(tick, "instrument_token", None)),
        _price(getattr(tick, "last_price", None)),
        _time(getattr(tick, "timestamp", None), zones),
        None if symbol is None else str(symbol),
        received_ns=received_ns,
    )


def _token(value: Any) -> int:
    try:
        token = NO_TOKEN if isinstance(value, bool) else operator.index(value)
    except TypeError:
        return NO_TOKEN
    return max(token, NO_TOKEN)


def _price(value: object) -> Decimal:
    if isinstance(value, Decimal):
        return value
    try:
        return Decimal(str(value))
    except (ArithmeticError, ValueError):  # ValueError is for an integer of thousands of digits
        return Decimal("NaN")


def _time(value: object, zones: Zones) -> datetime:
    if not isinstance(value, datetime):
        return datetime.min  # noqa: DTZ901 - no zone is what the edge refuses
    zone = zones.naive if value.tzinfo is None else zones.utc if not value.utcoffset() else None
    try:
        return value if zone is None else value.replace(tzinfo=zone).astimezone(UTC)
    except OverflowError:
        return datetime.min  # noqa: DTZ901
