"""The watchdog of a feed that says nothing (H7): told once when a silence begins, once when it ends."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

NS_PER_S: Final = 1_000_000_000
SILENT_AFTER_S: Final = 30.0
MAX_NAMED: Final = 5


@dataclass(frozen=True, slots=True)
class Silence:
    """Silences of one kind that were noticed together: of instruments, or of the whole feed (`tokens` empty).

    `began` False says that it is over; `lasted_s` is how long it has been by then.
    """

    began: bool
    lasted_s: float
    tokens: tuple[int, ...] = ()

    def __str__(self) -> str:
        what = "the feed"
        if self.tokens:
            more = len(self.tokens) - MAX_NAMED
            what = f"instrument{'s' if len(self.tokens) > 1 else ''} " + ", ".join(
                map(str, self.tokens[:MAX_NAMED])
            )
            what += f" and {more} more" if more > 0 else ""
        if self.began:
            return f"{what}: no tick for {self.lasted_s:.0f} s"
        return f"{what}: ticks again after {self.lasted_s:.0f} s"


class SilenceWatch:
    """Knows by the monotonic clock which instruments, and whether the whole feed, gave no tick for too long.

    A synchronous state machine without a clock: whoever drives it passes the time. `silent_after_s` 0 is off.
    While the whole feed is silent no instrument is told by itself; those that stay silent afterwards are.
    Silence is told, and is nothing else: no strategy hears of it, and none gives an outcome for it.
    """

    def __init__(self, silent_after_s: float, tokens: Iterable[int], now_ns: int) -> None:
        if not 0 <= silent_after_s < float("inf"):
            raise ValueError(f"silent_after_s: expected 0 (off) or more, came {silent_after_s}")
        self._after_ns = int(silent_after_s * NS_PER_S)
        self._feed_heard_ns = now_ns
        self._feed_silent = False
        self._heard_ns = dict.fromkeys(tokens, now_ns)
        self._silent: dict[int, int] = {}
        self._came_back: list[Silence] = []

    def __repr__(self) -> str:
        state = "silent" if self._feed_silent else "heard"
        return f"<SilenceWatch feed {state}, {len(self._silent)} of {len(self._heard_ns)} silent>"

    @property
    def on(self) -> bool:
        """Whether anything is watched at all."""
        return self._after_ns > 0

    @property
    def feed_silent(self) -> bool:
        """Whether the whole feed is silent."""
        return self._feed_silent

    @property
    def silent(self) -> Mapping[int, int]:
        """The silent instruments, and the time of the last tick of each; while the feed is, all of them."""
        return MappingProxyType(self._silent)

    def watch(self, tokens: Iterable[int], now_ns: int) -> None:
        """Watch these instruments from now on; one that is watched already keeps what is known of it."""
        self._heard_ns = {token: self._heard_ns.get(token, now_ns) for token in tokens}
        self._silent = {token: since for token, since in self._silent.items() if token in self._heard_ns}

    def heard(self, token: int, now_ns: int) -> None:
        """Take note of a tick; one of an instrument that nobody watches says that the feed is there."""
        if self._feed_silent:
            self._feed_silent = False
            self._came_back.append(Silence(began=False, lasted_s=(now_ns - self._feed_heard_ns) / NS_PER_S))
            # Each instrument has its full time again, or the rest would be told at the first one's tick.
            self._silent = {}
            self._heard_ns = dict.fromkeys(self._heard_ns, now_ns)
        self._feed_heard_ns = now_ns
        if token not in self._heard_ns:
            return
        self._heard_ns[token] = now_ns
        if token in self._silent:
            lasted_s = (now_ns - self._silent[token]) / NS_PER_S
            self._came_back.append(Silence(began=False, lasted_s=lasted_s, tokens=(token,)))
            # Another thread may be reading the one before.
            self._silent = {other: since for other, since in self._silent.items() if other != token}

    def look(self, now_ns: int) -> list[Silence]:
        """Return the silences that have ended and begun since the last look, each told once."""
        told, self._came_back = self._came_back, []
        if not self.on:
            return []
        silent = {token: since for token, since in self._heard_ns.items() if now_ns - since >= self._after_ns}
        fresh = tuple(token for token in silent if token not in self._silent)
        feed_ns = now_ns - self._feed_heard_ns
        if feed_ns >= self._after_ns:
            if not self._feed_silent:
                self._feed_silent = True
                told.append(Silence(began=True, lasted_s=feed_ns / NS_PER_S))
        elif fresh:
            lasted_s = max(now_ns - silent[token] for token in fresh) / NS_PER_S
            told.append(Silence(began=True, lasted_s=lasted_s, tokens=fresh))
        self._silent = silent
        return told
