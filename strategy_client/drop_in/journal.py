"""What a person reads in the log of a drop-in: when a trouble begins and ends, not each tick of it."""

import logging
import time
from collections.abc import Callable
from typing import Final

from strategy_client.events import NoSignal, Outcome, Reason

# What a healthy strategy answers most of the time.
QUIET: Final = frozenset({Reason.HOLD, Reason.BELOW_THRESHOLD, Reason.WARMING_UP, Reason.DISABLED})
# A reason that comes and goes with every tick must not fill the disk.
MIN_PAUSE_S: Final = 5.0

log = logging.getLogger(__name__)


class Journal:
    """Logs a strategy's reason for no signal when it changes, one line in `MIN_PAUSE_S` at most."""

    def __init__(self, strategy_id: str, now_s: Callable[[], float] = time.monotonic) -> None:
        self._strategy_id = strategy_id
        self._now_s = now_s
        self._told: Reason | None = None
        self._told_at_s = -MIN_PAUSE_S

    def note(self, outcome: Outcome) -> None:
        """Take an outcome; log it where it is news."""
        trouble = outcome.reason if isinstance(outcome, NoSignal) and outcome.reason not in QUIET else None
        if trouble is self._told:
            return
        now_s = self._now_s()
        if now_s - self._told_at_s < MIN_PAUSE_S:
            return
        self._told, self._told_at_s = trouble, now_s
        if trouble is not None and isinstance(outcome, NoSignal):
            log.warning("strategy %s: no signal: %s %s", self._strategy_id, trouble.value, outcome.detail)
        else:
            log.info("strategy %s: answers again", self._strategy_id)
