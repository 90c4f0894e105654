"""Bounded waiting for what another task or thread does."""

import asyncio
import time
from collections.abc import Callable

# Far beyond what anything here takes by itself: a machine that is busy may hold it up for many seconds.
BOUND_S = 60.0


async def eventually(holds: Callable[[], object], bound_s: float = BOUND_S) -> None:
    """Return once `holds()` is true; AssertionError when it is not within the bound."""
    loop = asyncio.get_running_loop()
    end_s = loop.time() + bound_s
    while not holds():
        assert loop.time() < end_s, f"not within {bound_s:g} s: {holds}"
        await asyncio.sleep(0.005)


def until(holds: Callable[[], object], bound_s: float = BOUND_S) -> None:
    """Do the same outside an event loop."""
    end_s = time.monotonic() + bound_s
    while not holds():
        assert time.monotonic() < end_s, f"not within {bound_s:g} s: {holds}"
        time.sleep(0.005)
