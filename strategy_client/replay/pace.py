"""The pace of a replay."""

import threading
import time
from dataclasses import dataclass, field
from datetime import datetime

from strategy_client.events import MarketTick


@dataclass(slots=True)
class Pace:
    """Keeps the ticks' own pace, `speed` times as fast; None does not wait."""

    speed: float | None
    _began_s: float = 0.0
    _first: datetime | None = None
    _never: threading.Event = field(default_factory=threading.Event)

    def wait_for(self, tick: MarketTick) -> None:
        """Wait until the tick is due. A time that goes back is due at once."""
        if self.speed is None:
            return
        if self._first is None:
            self._first, self._began_s = tick.timestamp, time.monotonic()
        due_s = self._began_s + (tick.timestamp - self._first).total_seconds() / self.speed
        left_s = due_s - time.monotonic()
        if left_s > 0:
            self._never.wait(min(left_s, threading.TIMEOUT_MAX))
