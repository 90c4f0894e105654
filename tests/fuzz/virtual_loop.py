"""An event loop whose time passes when it has nothing to do, and whose callbacks must not fail."""

import asyncio
import contextlib
import selectors
from collections.abc import Callable, Iterator, Mapping
from typing import Any


class _NoWait(selectors.DefaultSelector):
    """Waits for nothing outside: what it is told to wait for is time, and that is made to pass."""

    waited = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout:
            self.waited += timeout + 1e-6  # a real one wakes a little later, too
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """`failures` are the contexts of callbacks and tasks that raised. A reading of the time may cost some."""

    def __init__(self) -> None:
        self._no_wait = _NoWait()
        self.reading_s = 0.0
        self.failures: list[Mapping[str, Any]] = []
        super().__init__(self._no_wait)
        self.set_exception_handler(lambda _, context: self.failures.append(context))

    def time(self) -> float:
        self._no_wait.waited += self.reading_s
        return 1_000.0 + self._no_wait.waited

    def restart(self) -> None:
        """Begin at the first moment again: a large time has no small steps left."""
        self._no_wait.waited = self.reading_s = 0.0
        self.failures.clear()

    def monotonic_ns(self) -> int:
        """The same time, as a clock gives it."""
        return round(self.time() * 1e9)

    wall_ns = monotonic_ns

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        """Be the running loop in this block, as for what a transport calls: without a task."""
        asyncio._set_running_loop(self)
        try:
            yield
        finally:
            asyncio._set_running_loop(None)

    def run_for(self, seconds: float) -> None:
        """Let the callbacks run, and so much time pass."""
        self._run(lambda: self.run_until_complete(asyncio.sleep(seconds)))

    def turn(self) -> None:
        """Let the callbacks run that are due now."""
        self.call_soon(self.stop)
        self._run(self.run_forever)

    def _run(self, run: Callable[[], None]) -> None:
        asyncio._set_running_loop(None)
        try:
            run()
        finally:
            asyncio._set_running_loop(self)

    @property
    def waiting(self) -> int:
        """How many timers and callbacks are there that were not cancelled."""
        handles = [*self._scheduled, *self._ready]
        return sum(not handle.cancelled() for handle in handles)
