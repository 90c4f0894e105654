"""Growing pauses between attempts, with jitter so that many clients do not come back at once."""

import random
from collections.abc import Callable
from dataclasses import dataclass

NS_PER_MS = 1_000_000


@dataclass(frozen=True, slots=True)
class BackoffOptions:
    """The first pause, the longest one, and what each is multiplied by to give the next."""

    first_ms: float = 50.0
    longest_ms: float = 2_000.0
    factor: float = 2.0

    def __post_init__(self) -> None:
        if not 0 < self.first_ms <= self.longest_ms:
            raise ValueError(
                f"expected 0 < first_ms <= longest_ms, came {self.first_ms} and {self.longest_ms}"
            )
        if self.factor < 1:
            raise ValueError(f"factor: expected at least 1, came {self.factor}")


class Backoff:
    """The pause before the next attempt: between half and all of a length that grows until `reset`.

    `uniform` gives numbers from 0 to 1.
    """

    def __init__(
        self, options: BackoffOptions | None = None, uniform: Callable[[], float] = random.random
    ) -> None:
        self._options = options or BackoffOptions()
        self._uniform = uniform
        self._length_ms = self._options.first_ms

    def __repr__(self) -> str:
        return f"<Backoff next at most {self._length_ms:g} ms>"

    def next_ns(self) -> int:
        """Return the next pause in nanoseconds and lengthen the one after it."""
        pause_ms = self._length_ms * (0.5 + 0.5 * self._uniform())
        self._length_ms = min(self._length_ms * self._options.factor, self._options.longest_ms)
        return int(pause_ms * NS_PER_MS)

    def reset(self) -> None:
        """Begin again with the first pause."""
        self._length_ms = self._options.first_ms
