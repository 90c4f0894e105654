"""The ticks of a file by instrument, as the runner takes them into features."""

import math
import time
from array import array
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray

from strategy_client.edge import Edge
from strategy_client.events import MarketTick

US_PER_S: Final = 1_000_000


class Series:
    """One instrument's prices, and for each the number of its tick in the file, from 0, and its time."""

    def __init__(self, token: int) -> None:
        self.token = token
        self.newest_s = -math.inf
        self._prices = array("d")
        self._numbers = array("q")
        self._times_us = array("q")

    def __len__(self) -> int:
        return len(self._prices)

    @property
    def prices(self) -> NDArray[np.float64]:
        """The prices, float64, shape (ticks,)."""
        return np.array(self._prices)

    def add(self, number: int, tick: MarketTick, time_s: float) -> None:
        """Take a tick."""
        self.newest_s = time_s
        self._prices.append(float(tick.last_price))
        self._numbers.append(number)
        self._times_us.append(round(time_s * US_PER_S))

    def place(self, row: int) -> str:
        """Name the tick of a row."""
        moment = datetime.fromtimestamp(self._times_us[row] / US_PER_S, UTC)
        return f"tick {self._numbers[row]:,} at {moment.isoformat()} of instrument {self.token}"


def read_series(ticks: Iterable[MarketTick]) -> dict[int, Series]:
    """Return the ticks by instrument; those that the edge of the tick loop refuses are left out, as there."""
    edge = Edge(None, None, None, time.monotonic_ns, time.time_ns)
    found: dict[int, Series] = {}
    for number, tick in enumerate(ticks):
        series = found.setdefault(tick.instrument_token, Series(tick.instrument_token))
        time_s = edge.admit(tick, series.newest_s)
        if not isinstance(time_s, tuple):
            series.add(number, tick, time_s)
    return found
