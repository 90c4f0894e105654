"""One run of a servable in a thread: its turn, and its way there and back."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from inference_server.core.servable import Abort
from inference_server.serving.registry import Entry
from inference_server.serving.run_threads import RunThreads, Work
from inference_server.serving.turns import Turns

T = TypeVar("T")


class ThreadRun(Generic[T]):
    """A run of an entry that was acquired; whoever makes it calls `leave`, once, whatever happens.

    It waits for its turn from the beginning. The turn is given back and the entry released when the run has
    really ended, or at `leave` where it never began. On the event loop's thread.
    """

    __slots__ = ("_abort", "_answer", "_entry", "_over", "_overdue", "_threads", "_turn", "_turns", "_work")

    def __init__(self, entry: Entry, turns: Turns, threads: RunThreads) -> None:
        self._entry: Final = entry
        self._turns: Final = turns
        self._threads: Final = threads
        self._turn: Final = turns.ask(entry)
        self._abort: Final = Abort()
        self._work: Work | None = None
        self._over = False

    def __repr__(self) -> str:
        return f"<ThreadRun of {self._entry.servable.id}, {self._turn}, {self._abort}>"

    async def run(self, execute: Callable[[Abort], T]) -> T:
        """Wait for the turn and return what `execute` returned in a thread; it must not raise.

        ThreadsClosedError, and NoThreadError where there is none for it. Cancelled, only the wait ends: see
        `leave`.
        """
        loop = asyncio.get_running_loop()
        await self._turn.granted
        self._answer: asyncio.Future[T] = loop.create_future()

        def work() -> None:
            result = execute(self._abort)
            with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody is left to be told
                loop.call_soon_threadsafe(self._ended, result)

        self._work = self._threads.submit(work)
        self._overdue = loop.call_later(self._turns.options.overdue_s, self._set_overdue, self._work)
        return await self._answer

    def leave(self) -> None:
        """Wait for it no more: what has not begun never does, and what has is told to stop."""
        if self._over:
            return
        if self._work is None:
            self._let_go(ran=False)
        elif self._threads.cancel(self._work):
            self._overdue.cancel()
            self._let_go(ran=False)
        else:
            self._abort.abort()

    def _set_overdue(self, work: Work) -> None:
        self._turns.set_overdue(self._turn)
        self._threads.give_way(work)

    def _ended(self, result: T) -> None:
        self._overdue.cancel()
        self._let_go(ran=True)
        if not self._answer.done():
            self._answer.set_result(result)

    def _let_go(self, *, ran: bool) -> None:
        self._over = True
        self._work = None  # they hold each other, and what the caller sent: it would stay until the collector
        self._turns.give_back(self._turn, ran=ran)
        self._entry.release()
