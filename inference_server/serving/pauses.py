"""Long work on the event loop, done a piece at a time."""

import asyncio
from collections import deque


class Pauses:
    """Lets those who pause go on one after the other, one in each turn of the event loop.

    After a mere `sleep(0)` the next pieces of all of them would be done in the same turn, and everybody else
    would wait for all of that.
    """

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()

    def __repr__(self) -> str:
        return f"<Pauses with {len(self._waiting)} waiting>"

    async def pause(self) -> None:
        """Return after others had the event loop, when those who paused before have gone on."""
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        self._waiting.append(turn)
        if len(self._waiting) == 1:
            loop.call_soon(self._next, loop)
        await turn

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():  # it is, where who paused was cancelled: those behind him do not wait for it
                turn.set_result(None)
                break
        if self._waiting:
            loop.call_soon(self._next, loop)
