"""A monotonic clock that is set by hand."""


class Clock:
    """A clock that stands until it is set; in nanoseconds."""

    def __init__(self, now_ns: int = 0) -> None:
        self.now_ns = now_ns

    def __call__(self) -> int:
        """Return the time."""
        return self.now_ns
