"""The garbage collector, while windows of ticks are on the way."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

# More objects than two windows hold, and the ticks that wait for the next one.
OBJECTS: Final = 100_000


@contextmanager
def fewer_collections() -> Iterator[None]:
    """Have the collector look seldom; as often as before again at the end.

    All ticks of a window live until its answers come, which looks like a leak to a collector that counts what
    was made and not freed: it goes through them again and again and finds nothing, for what makes up a tick
    is in no cycle. What is in one is freed later.
    """
    before = gc.get_threshold()
    if not gc.isenabled() or not before[0]:
        yield
        return
    gc.set_threshold(max(before[0], OBJECTS), *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
