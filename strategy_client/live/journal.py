"""What went wrong in a live run, told once in the log and kept for who looks at it."""

import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

# What goes wrong on every tick must not fill the disk; all of it is counted.
MAX_LOGGED_A_KIND: Final = 100

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Note:
    """One thing that went wrong. `at_s` is seconds since the epoch."""

    at_s: float
    kind: str
    text: str


class Journal:
    """Keeps the last thing that went wrong, and how many of each kind. Any thread may tell."""

    def __init__(self, wall_s: Callable[[], float] = time.time) -> None:
        self._wall_s = wall_s
        self._counts: Counter[str] = Counter()
        self._last: Note | None = None

    def __repr__(self) -> str:
        return f"<Journal {dict(self._counts)}>"

    @property
    def last(self) -> Note | None:
        """The last thing that went wrong."""
        return self._last

    @property
    def counts(self) -> dict[str, int]:
        """How many of each kind there were."""
        return dict(self._counts)

    def problem(self, kind: str, text: str, *, error: BaseException | None = None) -> None:
        """Tell that something is wrong; `error` adds its traceback to the log."""
        self._counts[kind] += 1
        self._last = Note(self._wall_s(), kind, text)
        if self._counts[kind] <= MAX_LOGGED_A_KIND:
            log.warning("%s: %s", kind, text, exc_info=error)
        if self._counts[kind] == MAX_LOGGED_A_KIND:
            log.warning("%s: %d such problems were logged; the others are counted", kind, MAX_LOGGED_A_KIND)

    def told(self, text: str) -> None:
        """Tell what is no problem: a change taken over, a silence that is over."""
        log.info("%s", text)
