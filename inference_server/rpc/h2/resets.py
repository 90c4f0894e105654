"""How many of his calls a caller may take back: each costs him a frame, and this side a call begun."""


class ResetBound:
    """Counts resets against a bucket that holds `burst` of them and fills by `rate` a second."""

    def __init__(self, burst: int, rate: float) -> None:
        self._burst = burst
        self._rate = rate
        self._left = float(burst)
        self._last_s: float | None = None

    def is_too_much(self, now_s: float) -> bool:
        """Take note of a reset, and say whether it is one too many."""
        if self._last_s is not None:
            self._left = min(self._burst, self._left + (now_s - self._last_s) * self._rate)
        self._last_s = now_s
        self._left -= 1
        return self._left < 0
