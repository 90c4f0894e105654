"""What is left of a run in a thread once it is over."""

import asyncio
import gc
import threading
import weakref
from collections.abc import Awaitable, Callable, Iterator

import pytest
from eventually import BOUND_S, eventually
from servables import FunctionServable

from inference_server.core.servable import Abort
from inference_server.serving.registry import Entry
from inference_server.serving.run_threads import RunThreads
from inference_server.serving.thread_run import ThreadRun
from inference_server.serving.turns import Turns, TurnsOptions


class Sent:
    """What a caller sent."""


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    """Leave what holds itself where it is."""
    gc.disable()
    yield
    gc.enable()


async def answered(run: ThreadRun[int], sent: Sent) -> None:
    """Run to the end."""
    assert await run.run(lambda _: id(sent)) == id(sent)
    run.leave()


async def overdue(run: ThreadRun[int], sent: Sent) -> None:
    """Run for longer than is usual."""
    asked = threading.Event()
    asyncio.get_running_loop().call_later(0.1, asked.set)
    await run.run(lambda _: id(sent) if asked.wait(BOUND_S) else 0)
    run.leave()


async def left(run: ThreadRun[int], sent: Sent) -> None:
    """Run until nobody waits for it any more."""
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stopped(abort: Abort) -> int:
        told = threading.Event()
        abort.on_abort(told.set)
        loop.call_soon_threadsafe(begun.set)
        told.wait(BOUND_S)
        return id(sent)

    waiting = asyncio.create_task(run.run(stopped))
    await begun.wait()
    waiting.cancel()
    run.leave()


@pytest.mark.parametrize("way", [answered, overdue, left])
def test_what_a_run_held_is_freed_without_the_collector(
    way: Callable[[ThreadRun[int], Sent], Awaitable[None]],
) -> None:
    """It can be as large as a message may be, and the collector counts objects, not bytes."""

    async def main() -> None:
        threads = RunThreads()
        entry = Entry(FunctionServable(), 1)
        entry.acquire()
        sent = Sent()
        last = weakref.ref(sent)
        await way(ThreadRun(entry, Turns(TurnsOptions(overdue_s=0.01)), threads), sent)
        del sent
        await eventually(lambda: last() is None)
        threads.close()

    asyncio.run(main())
