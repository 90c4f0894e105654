"""Threads for runs that are too slow for the event loop."""

import contextlib
import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

log: Final = logging.getLogger(__name__)

# What a thread whose run takes too long is told to be, so that it leaves the processors to everything else.
GIVING_WAY: Final = 10
LEAST_PRIORITY: Final = 19


class NoThreadError(Exception):
    """The system gives no more threads, and there is none that could come to this work."""


class ThreadsClosedError(Exception):
    """The threads are closed: nothing is begun any more."""


@dataclass(frozen=True, slots=True)
class RunThreadsOptions:
    """How many threads there may be: `max_threads` that take work, and beside them `max_giving_way`.

    Together they stay well below what a service manager allows a process, of which the runtime, gRPC and
    vetting take some too.
    """

    max_threads: int = 128
    max_giving_way: int = 128

    def __post_init__(self) -> None:
        if self.max_threads < 1 or self.max_giving_way < 0:
            raise ValueError(f"expected at least 1 thread and 0 that give way, came {self}")


class Work:
    """Something for a thread to do, once. Only its RunThreads changes it, under its lock."""

    __slots__ = ("function", "gives_way", "thread_id")

    def __init__(self, function: Callable[[], None]) -> None:
        self.function = function
        self.gives_way = False
        self.thread_id: int | None = None

    def __repr__(self) -> str:
        return f"<Work {'waiting' if self.thread_id is None else f'of thread {self.thread_id}'}>"


class RunThreads:
    """Threads that are made when they are needed and used again, within the bounds of the options.

    Work for which there is no thread waits for the first one that is free. Safe to use from any thread.
    """

    def __init__(self, options: RunThreadsOptions | None = None) -> None:
        self._options: Final = options or RunThreadsOptions()
        self._changed = threading.Condition()
        self._waiting: deque[Work] = deque()
        self._threads = 0  # at least 1 while something waits
        self._idle = 0
        self._giving_way = 0
        self._lacks = False  # the system gave no thread the last time
        self._closed = False

    def __repr__(self) -> str:
        with self._changed:
            return f"<RunThreads {self._threads}, {self._idle} of them idle, {self._giving_way} giving way>"

    @property
    def threads(self) -> int:
        """Threads that there are, without those that give way."""
        return self._threads

    def submit(self, function: Callable[[], None]) -> Work:
        """Let a thread call `function`, which must not raise. ThreadsClosedError, or NoThreadError."""
        work = Work(function)
        with self._changed:
            if self._closed:
                raise ThreadsClosedError
            self._waiting.append(work)
            if self._idle >= len(self._waiting):
                self._changed.notify()
            elif self._threads < self._options.max_threads and not self._start() and not self._threads:
                self._waiting.remove(work)
                raise NoThreadError
        return work

    def cancel(self, work: Work) -> bool:
        """Take back what no thread has begun; False where one has, or has ended it."""
        with self._changed, contextlib.suppress(ValueError):
            self._waiting.remove(work)
            return True
        return False

    def give_way(self, work: Work) -> None:
        """Let the thread of this work, if it still has it, take only what of the processors others leave.

        Nobody may raise a thread's priority again, and a thread hands it on to those that it makes. So this
        one takes no more work and ends after this one, and whoever calls this makes the next. Where there may
        be no more threads it stays as it is: work that waits has none but it.
        """
        with self._changed:
            if work.thread_id is None or work.gives_way or self._closed:
                return
            if self._giving_way >= self._options.max_giving_way:
                return
            if len(self._waiting) > self._idle and not self._start():
                return
            work.gives_way = True
            self._giving_way += 1
            self._threads -= 1
            with contextlib.suppress(OSError, AttributeError):  # not every system has it for threads
                usual = os.getpriority(os.PRIO_PROCESS, work.thread_id)
                os.setpriority(os.PRIO_PROCESS, work.thread_id, min(usual + GIVING_WAY, LEAST_PRIORITY))

    def close(self) -> None:
        """Take nothing more and drop what waits; threads end when their work does, and are not waited for."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()

    def _start(self) -> bool:
        """Make a thread, or tell that the system gives none."""
        try:
            threading.Thread(target=self._work, name=f"run-{self._threads + 1}").start()
        except RuntimeError as error:
            if not self._lacks:  # once, and not for each call
                log.warning("%s; %d take runs, %d give way", error, self._threads, self._giving_way)
            self._lacks = True
            return False
        self._lacks = False
        self._threads += 1
        self._idle += 1
        return True

    def _work(self) -> None:
        while (work := self._next()) is not None:
            work.function()
            with self._changed:
                work.thread_id = None
                if work.gives_way:
                    self._giving_way -= 1
                    return
                self._idle += 1
            del work  # holds what its caller sent until the next one comes

    def _next(self) -> Work | None:
        with self._changed:
            while not self._waiting:
                if self._closed:
                    self._threads -= 1
                    self._idle -= 1
                    return None
                self._changed.wait()
            self._idle -= 1
            work = self._waiting.popleft()
            work.thread_id = threading.get_native_id()
            return work
