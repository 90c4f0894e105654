"""Which of several targets is asked first: the preferred one that is well, without going to and fro.

A synchronous step without a clock or a thread of its own, told how each target is just before each request.

A target that fell and is well again is taken back at once. One that falls again within CALM_NS of that is
held back for a pause, which doubles each time it happens: a target that answers trials and then fails a tick
costs one deadline a pause, and the pauses soon last a minute. Held back means behind the others that are
well; where there is none, it is asked all the same.
"""

import enum
import random
from collections.abc import Callable, Sequence
from typing import Final

from strategy_client.predictor.backoff import Backoff, BackoffOptions

CALM_NS: Final = 60_000_000_000
HOLD: Final = BackoffOptions(first_ms=1_000.0, longest_ms=64_000.0)


class Health(enum.IntEnum):
    """How a target is, the best first."""

    WELL = 0
    # It answers, but says itself that it is not ready: just started, models still loading.
    NOT_READY = 1
    # No connection, or its breaker is not closed.
    OUT = 2


class Preference:
    """The order in which `count` targets are asked; their numbers are the order of preference."""

    def __init__(self, count: int, uniform: Callable[[], float] = random.random) -> None:
        self._standings = [_Standing(Backoff(HOLD, uniform)) for _ in range(count)]

    def __repr__(self) -> str:
        return f"<Preference {', '.join(map(repr, self._standings))}>"

    def order(self, healths: Sequence[Health], now_ns: int) -> list[int]:
        """Take note of how each target is now; return their numbers in the order in which to ask them."""
        for standing, health in zip(self._standings, healths, strict=True):
            standing.note(health, now_ns)
        return [number for _, _, number in sorted(self._ranks(healths, now_ns))]

    def first(self, healths: Sequence[Health], now_ns: int) -> int | None:
        """Return the number of the target that would be asked now, None where none is well; note nothing."""
        health, _, number = min(self._ranks(healths, now_ns))
        return None if health is Health.OUT else number

    def _ranks(self, healths: Sequence[Health], now_ns: int) -> list[tuple[Health, bool, int]]:
        return [
            (health, standing.held(now_ns), number)
            for number, (health, standing) in enumerate(zip(healths, self._standings, strict=True))
        ]


class _Standing:
    """What is remembered of one target."""

    __slots__ = ("_fell", "_held_until_ns", "_holds", "_returned_ns", "_well")

    def __init__(self, holds: Backoff) -> None:
        self._holds = holds
        self._well = False
        self._fell = False
        self._returned_ns: int | None = None
        self._held_until_ns = 0

    def __repr__(self) -> str:
        return f"{'well' if self._well else 'out'}, held until {self._held_until_ns}"

    def note(self, health: Health, now_ns: int) -> None:
        well = health is Health.WELL
        # Three cases: it fell soon after it had come back, it fell after a calm time, or it is back. The
        # first time that it is well is a start, not a return.
        if self._well and not well:
            if self._returned_ns is not None and now_ns - self._returned_ns < CALM_NS:
                self._held_until_ns = now_ns + self._holds.next_ns()
            else:
                self._holds.reset()
            self._fell = True
        elif well and not self._well and self._fell:
            self._returned_ns = max(now_ns, self._held_until_ns)
        self._well = well

    def held(self, now_ns: int) -> bool:
        return now_ns < self._held_until_ns
