"""Expanding the messages that callers compressed, without holding up the event loop."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from inference_server.rpc.h2.framing import Packed

# Up to so much is expanded on the event loop, which takes well below a millisecond.
SHORT_BYTES: Final = 1 << 17


class ExpansionThread:
    """Expands messages one at a time: 64 KiB may become 64 MiB, which takes a while.

    The library lets the event loop run meanwhile. However many wait, they take one processor, and the memory
    of one beside those that are on their way already: the next is begun when its caller has the last one.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "expand")
        self._turn = asyncio.Lock()

    def __repr__(self) -> str:
        return "<ExpansionThread>"

    async def expand(self, packed: Packed, max_bytes: int) -> bytes:
        """Return the message when its turn has come; raises as `Expander.expand`."""
        loop = asyncio.get_running_loop()
        async with self._turn:
            return await loop.run_in_executor(self._thread, packed.expanded, max_bytes)

    def close(self) -> None:
        """Expand nothing more."""
        self._thread.shutdown(wait=False, cancel_futures=True)


class Expander:
    """Expands the messages of one connection: one of the long ones waits for the thread, the others for it.

    So connections take turns, however many messages each of them sends.
    """

    def __init__(self, thread: ExpansionThread) -> None:
        self._thread = thread
        self._turn = asyncio.Lock()

    def __repr__(self) -> str:
        return "<Expander>"

    async def expand(self, packed: Packed, max_bytes: int) -> bytes:
        """Return the message, without waiting where it is short.

        Raises StatusError: RESOURCE_EXHAUSTED where it is longer than `max_bytes`, INTERNAL where it is not
        compressed as said.
        """
        if max_bytes <= SHORT_BYTES:
            return packed.expanded(max_bytes)
        message = packed.expanded_if_short(SHORT_BYTES) if len(packed) <= SHORT_BYTES else None
        if message is None:
            async with self._turn:
                message = await self._thread.expand(packed, max_bytes)
        return message
