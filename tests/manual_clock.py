"""A clock that the test moves."""


class ManualClock:
    """Implements `core.clock.Clock`; both readings move together."""

    def __init__(self, now_s: float = 1000.0) -> None:
        self._now_ns = int(now_s * 1e9)

    def monotonic_ns(self) -> int:
        return self._now_ns

    def wall_ns(self) -> int:
        return self._now_ns

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._now_ns += int(seconds * 1e9)
