"""The circuit breaker: a sidecar that does not answer costs one deadline, then nothing until it is back.

A synchronous state machine without a clock or a thread of its own; whoever drives it passes the time.

    CLOSED ──failures or misses in a row──► OPEN ──pause over, probe answered──► HALF_OPEN
       ▲                                     ▲  ▲                                   │    │
       │                                     │  └──────── the trial failed ─────────┘    │
       └─────────────────────────── the trial was answered in time ──────────────────────┘

The probe runs away from the tick path, so that an open breaker never costs a tick anything. It shows only
that the sidecar lives; whether it answers in time is shown by the trial, one tick's real questions.
"""

import enum
from dataclasses import dataclass

from strategy_client.predictor.backoff import Backoff


class BreakerState(enum.Enum):
    """Whether questions are let through."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(frozen=True, slots=True)
class BreakerOptions:
    """How many failures in a row, or deadlines missed in a row, open the breaker."""

    failures: int = 5
    misses: int = 1

    def __post_init__(self) -> None:
        for name in ("failures", "misses"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, came {getattr(self, name)}")


class Breaker:
    """Lets questions through while they are answered. Not thread-safe: its owner holds a lock."""

    def __init__(self, options: BreakerOptions, backoff: Backoff) -> None:
        self._options = options
        self._backoff = backoff
        self._state = BreakerState.CLOSED
        self._failures = 0
        self._misses = 0
        self._probe_at_ns = 0
        self._trial_until_ns = 0
        self.times_opened = 0

    def __repr__(self) -> str:
        return f"<Breaker {self._state.value} failures={self._failures} misses={self._misses}>"

    @property
    def state(self) -> BreakerState:
        """The state now."""
        return self._state

    @property
    def probe_at_ns(self) -> int:
        """When the next probe is due; means something while OPEN only."""
        return self._probe_at_ns

    def admit(self, now_ns: int, deadline_ns: int) -> bool:
        """Say whether questions that wait until `deadline_ns` may be sent now.

        Half-open, one trial goes at a time. A trial nobody reported on is given up at its deadline.
        """
        if self._state is BreakerState.CLOSED:
            return True
        if self._state is BreakerState.OPEN or now_ns < self._trial_until_ns:
            return False
        self._trial_until_ns = deadline_ns
        return True

    def succeeded(self) -> None:
        """Take note that questions were answered in time."""
        self._failures = self._misses = 0
        # An answer to a question from before the breaker opened proves nothing about now.
        if self._state is BreakerState.HALF_OPEN:
            self._state = BreakerState.CLOSED
            self._backoff.reset()

    def failed(self, now_ns: int) -> None:
        """Take note that questions could not be asked, or that the call failed."""
        self._failures += 1
        if self._failures >= self._options.failures or self._state is BreakerState.HALF_OPEN:
            self._open(now_ns)

    def missed(self, now_ns: int) -> None:
        """Take note that questions were not answered by their deadline."""
        self._misses += 1
        if self._misses >= self._options.misses or self._state is BreakerState.HALF_OPEN:
            self._open(now_ns)

    def probe_succeeded(self) -> None:
        """Take note that the sidecar answered a probe: let one trial through."""
        if self._state is BreakerState.OPEN:
            self._state = BreakerState.HALF_OPEN
            self._trial_until_ns = 0

    def probe_failed(self, now_ns: int) -> None:
        """Take note that the sidecar did not answer a probe: pause longer."""
        if self._state is BreakerState.OPEN:
            self._probe_at_ns = now_ns + self._backoff.next_ns()

    def _open(self, now_ns: int) -> None:
        if self._state is BreakerState.OPEN:
            return
        self._state = BreakerState.OPEN
        self._failures = self._misses = 0
        self._probe_at_ns = now_ns + self._backoff.next_ns()
        self.times_opened += 1
