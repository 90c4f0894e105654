"""The edge of the tick loop: which ticks are market data, and which of these are fresh enough to trade on."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final

from strategy_client.configuration import is_interrupt
from strategy_client.events import MarketTick, Reason

NS_PER_MS: Final = 1_000_000
NS_PER_S: Final = 1_000_000_000

Problem = tuple[Reason, str]


@dataclass(slots=True)
class TickCounts:
    """Ticks by what was noticed at the edge.

    `taken` came for an instrument that some strategy looks at, whatever else was wrong with them. `invalid`
    (price or time unusable), `ahead` and `out_of_order` ones were refused and left no trace; `stale` ones
    went into histories and features, and no signal came of them.
    """

    taken: int = 0
    unknown_instrument: int = 0
    invalid: int = 0
    out_of_order: int = 0
    ahead: int = 0
    stale: int = 0


class Edge:
    """Judges ticks, and counts what it notices.

    `max_age_ms` is how long ago a live tick may have been received, `max_behind_s` and `max_ahead_s` how far
    its time may be behind and ahead of the wall clock; None asks for nothing. All hold for ticks with
    `received_ns` only: a recorded one is of its own time. `now_ns` is the monotonic clock of `received_ns`,
    `wall_ns` the time since the epoch.
    """

    def __init__(
        self,
        max_age_ms: float | None,
        max_behind_s: float | None,
        max_ahead_s: float | None,
        now_ns: Callable[[], int],
        wall_ns: Callable[[], int],
    ) -> None:
        self.counts = TickCounts()
        self._max_age_ns = None if max_age_ms is None else int(max_age_ms * NS_PER_MS)
        self._max_behind_s = max_behind_s
        self._max_ahead_s = max_ahead_s
        self._now_ns = now_ns
        self._wall_ns = wall_ns

    def admit(self, tick: MarketTick, newest_s: float) -> float | Problem:
        """Return the tick's time in seconds since the epoch, or why it is to leave no trace.

        `newest_s` is the time of the newest tick of its instrument, -inf before the first. Equal times are
        in order: a busy instrument trades many times in one unit of its exchange's clock.
        """
        problem = find_price_problem(tick)
        time_s = math.nan if problem is not None else read_time(tick.timestamp)
        if problem is None and math.isnan(time_s):
            text = f"timestamp {_show(tick.timestamp)}: expected a datetime with a time zone"
            problem = Reason.STALE_TICK, text
        if problem is not None:
            self.counts.invalid += 1
            return problem
        if tick.received_ns is not None and self._max_ahead_s is not None:
            ahead_s = time_s - self._wall_ns() / NS_PER_S
            if ahead_s > self._max_ahead_s:
                # Were it taken, every true tick after it would be out of order.
                self.counts.ahead += 1
                text = f"timestamp {tick.timestamp} is {ahead_s:.0f} s ahead of the clock of this machine"
                return Reason.STALE_TICK, text
        if time_s < newest_s:
            self.counts.out_of_order += 1
            return Reason.STALE_TICK, f"{newest_s - time_s:.6f} s older than the tick before it"
        return time_s

    def find_staleness(self, tick: MarketTick) -> Problem | None:
        """Return why no signal may come of a tick that is true market data all the same; None when one may.

        It waited too long, here since its receipt or on its way before that, as what a bus kept through an
        outage. A feature that left such ticks out would be another one than the model was trained on, for as
        long as its window; so they are taken in.
        """
        if tick.received_ns is None:
            return None
        text = self._waited_here(tick.received_ns) or self._waited_before(tick)
        if not text:
            return None
        self.counts.stale += 1
        return Reason.STALE_TICK, text

    def _waited_here(self, received_ns: int) -> str:
        if self._max_age_ns is None:
            return ""
        age_ns = self._now_ns() - received_ns
        if age_ns <= self._max_age_ns:
            return ""
        return f"received {age_ns / NS_PER_MS:.0f} ms ago, more than {self._max_age_ns / NS_PER_MS:g} ms"

    def _waited_before(self, tick: MarketTick) -> str:
        if self._max_behind_s is None:
            return ""
        behind_s = self._wall_ns() / NS_PER_S - read_time(tick.timestamp)
        if behind_s <= self._max_behind_s:
            return ""
        return f"received {behind_s:.0f} s after its own time, more than {self._max_behind_s:g} s"


def find_price_problem(tick: MarketTick) -> Problem | None:
    """Return why a tick's price cannot be used; None when it can."""
    # Three cases: no number at all, a number that is not finite, and one that nothing trades at. Text is no
    # number, though Python would read "1_0" as ten.
    given: object = tick.last_price
    try:
        price = math.nan if isinstance(given, str | bytes | bool) else float(tick.last_price)
    except Exception:  # noqa: BLE001 whatever an object raises that is asked for its number, it is none
        price = math.nan
    if not math.isfinite(price):
        return Reason.NON_FINITE, f"price {_show(given)}: expected a finite number"
    if price <= 0:
        return Reason.OUT_OF_RANGE, f"price {given}: expected more than 0"
    return None


def read_time(timestamp: datetime) -> float:
    """Return seconds since the epoch; NaN for what is no datetime with a zone.

    Instants are compared, and not datetimes: two of one zone compare by the wall clock, which goes back by an
    hour when summer time ends.
    """
    try:
        return timestamp.timestamp() if timestamp.utcoffset() is not None else math.nan
    except Exception:  # noqa: BLE001 no datetime at all, or a zone of a user's own that raises
        return math.nan


def write_time(timestamp: datetime) -> str | None:
    """Return a tick's time in ISO 8601; None for what is no datetime, or has a zone that raises."""
    try:
        text = timestamp.isoformat()
        if type(timestamp) is not datetime:
            datetime.fromisoformat(text)
    except BaseException as error:
        # The edge refuses such a tick; whoever records what it refused goes on.
        if is_interrupt(error):
            raise
        return None
    return text


def _show(given: object) -> str:
    plain = isinstance(given, int | float | Decimal)
    try:
        return str(given) if plain else repr(given)
    except Exception:  # noqa: BLE001 Python writes no integer of more than 4,300 digits, for one
        return f"of type {type(given).__name__}"
