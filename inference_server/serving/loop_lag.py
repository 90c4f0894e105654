"""How long the event loop keeps what is due waiting: a model that runs on it too long shows here."""

import asyncio
from dataclasses import dataclass
from typing import Final, Never

from inference_server.core.clock import Clock
from inference_server.serving.statistics import Durations


@dataclass(frozen=True, slots=True)
class LoopLagOptions:
    """How often to look. What blocks the loop for longer than this is always seen, at least its rest."""

    every_s: float = 0.1


class LoopLag:
    """A histogram of how much later than asked for the loop woke a task."""

    def __init__(self, clock: Clock, options: LoopLagOptions | None = None) -> None:
        self._clock: Final = clock
        self._options: Final = options or LoopLagOptions()
        self.durations: Final = Durations()

    def __repr__(self) -> str:
        return f"<LoopLag {self.durations}>"

    async def measure(self) -> Never:
        """Measure until cancelled."""
        every_ns = int(self._options.every_s * 1e9)
        while True:
            due_ns = self._clock.monotonic_ns() + every_ns
            await asyncio.sleep(self._options.every_s)
            self.durations.add(max(0, self._clock.monotonic_ns() - due_ns))
