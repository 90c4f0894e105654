"""Warnings that would come with every tick: told once, and from then on once in a while."""

import logging
import time
from collections.abc import Callable
from typing import Final

EVERY_NS: Final = 60 * 10**9


class SeldomLog:
    """One kind of warning: the first is logged at once, then one a minute, with the number left out."""

    def __init__(self, log: logging.Logger, now_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._log = log
        self._now_ns = now_ns
        self._logged_ns: int | None = None
        self._left_out = 0

    def warn(self, text: str) -> None:
        """Log a text, or count it as left out."""
        now_ns = self._now_ns()
        if self._logged_ns is not None and now_ns - self._logged_ns < EVERY_NS:
            self._left_out += 1
            return
        more = f" (and {self._left_out:,} more such before it)" if self._left_out else ""
        self._log.warning("%s%s", text, more)
        self._logged_ns = now_ns
        self._left_out = 0
