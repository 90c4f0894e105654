"""Ids of events: UUIDs of version 7, which sort by time."""

import secrets
import uuid
from typing import Final

NS_PER_MS: Final = 1_000_000


def new_event_id(wall_ns: int) -> str:
    """Return a new id; `wall_ns` is nanoseconds since the epoch.

    RFC 9562, section 6.2, method 3: the time below the millisecond in the twelve bits behind the version.
    """
    ms, below_ns = divmod(wall_ns, NS_PER_MS)
    fraction = below_ns * 4096 // NS_PER_MS
    bits = (ms & (1 << 48) - 1) << 80 | 7 << 76 | fraction << 64 | 0b10 << 62 | secrets.randbits(62)
    return str(uuid.UUID(int=bits))
