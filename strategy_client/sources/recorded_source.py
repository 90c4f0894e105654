"""A file of recorded ticks as a feed: any form that a replay reads, each tick taken as received now."""

import threading
import time
from collections.abc import Collection, Iterator
from dataclasses import replace

from strategy_client.events import MarketTick
from strategy_client.sources.tick_file import TickFile


class RecordedSource:
    """Implements TickSource on a file; it ends where the file does.

    Raises BadFileError on the way where the whole file is wrong, as its times without a zone are.
    """

    def __init__(self, file: TickFile, tokens: Collection[int] | None = None) -> None:
        self._file = file
        self._tokens = tokens
        self._closed = threading.Event()

    def __iter__(self) -> Iterator[MarketTick]:
        for tick in self._file:
            if self._closed.is_set():
                return
            if self._tokens is None or tick.instrument_token in self._tokens:
                yield replace(tick, received_ns=time.monotonic_ns())

    def close(self) -> None:
        """End the iteration at the next tick."""
        self._closed.set()
