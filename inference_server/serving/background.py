"""Work that nobody waits for until the end: draining, closing, writing down."""

import asyncio
from collections.abc import Coroutine


class Background:
    """Tasks that go on by themselves. What is given to it handles its own errors."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Background {len(self._tasks)} tasks>"

    def begin(self, work: Coroutine[None, None, None]) -> None:
        """Let the work go on beside everything else."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def end(self, within_s: float) -> int:
        """Wait for all of it, at most so long; cancel the rest and return how many those are."""
        if not self._tasks:
            return 0
        _, busy = await asyncio.wait(self._tasks, timeout=within_s)
        for task in busy:
            task.cancel()
        return len(busy)
