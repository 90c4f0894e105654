"""Where live ticks come from, as the loop sees it."""

from collections.abc import Iterator
from typing import Protocol

from strategy_client.events import MarketTick


class TickSource(Protocol):
    """A feed. One thread iterates over it; any thread may close it.

    What cannot be read as a tick is counted and told (see `BadLines`), never raised. A connection that breaks
    is made again by the source itself, with growing pauses, for as long as nobody closes it.
    """

    def __iter__(self) -> Iterator[MarketTick]:
        """Give ticks as they come, each with its `received_ns`; wait for the next one.

        Ends when the source is closed, and where it has an end, as a file has, at that.
        """
        ...

    def close(self) -> None:
        """End the iteration soon, and free the connection. May be called twice, and from any thread."""
        ...
