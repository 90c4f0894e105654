"""What SIGHUP, SIGINT and SIGTERM ask of a live run."""

import os
import signal
from types import FrameType
from typing import Any, Final, Self

from strategy_client.live.session import LiveRun

STOPPING: Final = (signal.SIGINT, signal.SIGTERM)


class Reload:
    """Has the configuration read again at SIGHUP; one that comes before the run is begun is kept for it."""

    def __init__(self) -> None:
        self._live: LiveRun | None = None
        self._asked = False
        self._passing_on = False
        self._before: Any = None

    def __enter__(self) -> Self:
        self._before = signal.signal(signal.SIGHUP, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGHUP, self._before)

    def begin(self, live: LiveRun) -> None:
        """Ask this run from now on."""
        self._live = live
        self._pass_on()

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        self._asked = True
        self._pass_on()

    def _pass_on(self) -> None:
        # A signal comes between any two steps, also of this: in the midst of one that is passed on another
        # would wait for a lock that the first holds, for ever. What both ask for is done once then.
        if self._live is None or not self._asked or self._passing_on:
            return
        self._passing_on = True
        try:
            self._live.reload()
        finally:
            self._passing_on = False


class Stop:
    """Says which signal has asked for the end, 0 for none; a second one ends the process at once."""

    def __init__(self) -> None:
        self.asked = 0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        for number in STOPPING:
            self._before[number] = signal.signal(number, self._stop)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        if self.asked:
            os._exit(128 + number)
        self.asked = number
