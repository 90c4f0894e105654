"""Time as a dependency: monotonic for durations and deadlines, wall nanoseconds for timestamps."""

import time
from typing import Protocol


class Clock(Protocol):
    """Two readings of time. Tests pass one that they move by hand."""

    def monotonic_ns(self) -> int:
        """Nanoseconds that never go backwards; only differences mean anything."""
        ...

    def wall_ns(self) -> int:
        """Nanoseconds since the epoch, UTC; may step."""
        ...


class SystemClock:
    """The machine's clocks."""

    # The functions themselves: they are read several times in each call.
    monotonic_ns = staticmethod(time.monotonic_ns)
    wall_ns = staticmethod(time.time_ns)
