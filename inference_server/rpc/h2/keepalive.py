"""Whether a silent caller is still there, and whether one asks us too often whether we are."""

import asyncio
from collections.abc import Callable
from typing import Final

# So often a caller may ask too soon; the next time he is sent away.
MAX_STRIKES: Final = 2


class Keepalive:
    """Calls `ping` when nothing was heard for a while, and `give_up` where nothing is heard after that."""

    def __init__(
        self, after_s: float, timeout_s: float, ping: Callable[[], None], give_up: Callable[[], None]
    ) -> None:
        self._after_s = after_s
        self._timeout_s = timeout_s
        self._ping = ping
        self._give_up = give_up
        self._loop = asyncio.get_running_loop()
        self._heard_s = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to watch."""
        self._timer = self._loop.call_at(self._heard_s + self._after_s, self._ask)

    def stop(self) -> None:
        """Watch no longer, and let go of who is watched for: he holds this, too."""
        if self._timer is not None:
            self._timer.cancel()
        self._ping = self._give_up = _nobody

    def heard(self) -> None:
        """Take note that something came."""
        self._heard_s = self._loop.time()

    def _ask(self) -> None:
        if self._loop.time() - self._heard_s < self._after_s:
            self.start()
            return
        asked_s = self._loop.time()
        self._ping()
        self._timer = self._loop.call_later(self._timeout_s, self._look, asked_s)

    def _look(self, asked_s: float) -> None:
        if self._heard_s < asked_s:
            self._give_up()
        else:
            self.start()


def _nobody() -> None:
    """Do nothing about anyone."""


class PingBound:
    """Counts the pings that come sooner after the last than they may, as gRPC's own server does.

    Whatever is sent to the caller clears the count: callers measure their way by a ping after it.
    """

    def __init__(self, min_interval_s: float) -> None:
        self._min_interval_s = min_interval_s
        self._last_s = -min_interval_s
        self._strikes = 0

    def answered(self) -> None:
        """Take note that an answer is sent."""
        self._strikes = 0
        self._last_s = -self._min_interval_s

    def is_too_much(self, now_s: float) -> bool:
        """Take note of a ping, and say whether it is one too many."""
        if now_s - self._last_s < self._min_interval_s:
            self._strikes += 1
        self._last_s = now_s
        return self._strikes > MAX_STRIKES
