"""Coroutines that begin where they are called: what differs from a task, and what must not."""

import asyncio
from collections.abc import Awaitable, Callable, Generator
from typing import Any

import pytest

from inference_server.rpc.h2.eager import Done, begin


def run(main: Callable[[], Awaitable[None]]) -> None:
    """Run a test on a loop of its own."""

    async def whole() -> None:
        await main()
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(whole())


def test_what_need_not_wait_is_done_at_once() -> None:
    """No task is made, and its result is there; its exception is raised where it is begun."""

    async def nothing() -> int:
        return 7

    async def broken() -> None:
        raise ValueError("broken")

    async def main() -> None:
        begun = begin(nothing())
        assert isinstance(begun, Done)
        assert begun.result == 7
        assert len(asyncio.all_tasks()) == 1
        with pytest.raises(ValueError, match="broken"):
            begin(broken())

    run(main)


@pytest.mark.parametrize("raises", [False, True])
def test_what_waits_goes_on_as_a_task(raises: bool) -> None:
    """It has begun when it is called, in the order of its awaits, and ends with its result or exception."""
    seen: list[str] = []

    async def main() -> None:
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def waits() -> int:
            seen.append("begun")
            await asyncio.sleep(0)
            seen.append("slept")
            value = await future
            await asyncio.sleep(0.001)
            if raises:
                raise ValueError(str(value))
            return value

        begun = begin(waits())
        assert seen == ["begun"]
        assert isinstance(begun, asyncio.Task)
        future.get_loop().call_soon(future.set_result, 5)
        if raises:
            with pytest.raises(ValueError, match="5"):
                await begun
        else:
            assert await begun == 5
        assert seen == ["begun", "slept"]

    run(main)


@pytest.mark.parametrize("steps", [0, 1, 2, 3])
def test_a_cancellation_arrives_where_it_waits(steps: int) -> None:
    """Before the task's first step, at it or later: the coroutine sees it at its await, and may clean up."""
    seen: list[str] = []

    async def main() -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def waits() -> None:
            try:
                await future
            except asyncio.CancelledError:
                await asyncio.sleep(0)
                seen.append("cleaned up")
                raise

        begun = begin(waits())
        assert isinstance(begun, asyncio.Task)
        for _ in range(steps):
            await asyncio.sleep(0)
        # A task that never took its first step would not hear of it, which is why calls cancel later.
        asyncio.get_running_loop().call_soon(begun.cancel)
        with pytest.raises(asyncio.CancelledError):
            await begun
        assert future.cancelled()

    run(main)
    assert seen == ["cleaned up"]


def test_a_coroutine_may_outlive_its_cancellation() -> None:
    """What it makes of a CancelledError is its own business: it can return, or go on waiting."""

    async def main() -> None:
        async def stubborn() -> str:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                return "no"
            raise AssertionError

        begun = begin(stubborn())
        assert isinstance(begun, asyncio.Task)
        asyncio.get_running_loop().call_soon(begun.cancel)
        assert await begun == "no"

    run(main)


def test_an_exception_of_what_is_waited_for_is_thrown_in() -> None:
    """At the first await as at any other."""

    async def main() -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def waits() -> str:
            try:
                await future
            except OSError as error:
                return str(error)
            raise AssertionError

        begun = begin(waits())
        assert isinstance(begun, asyncio.Task)
        future.set_exception(OSError("gone"))
        assert await begun == "gone"

    run(main)


def test_what_is_done_already_is_not_waited_for() -> None:
    """A future that has its result makes no task, and one that was cancelled raises at once."""

    async def main() -> None:
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        done.set_result(3)

        async def waits(future: asyncio.Future[int]) -> int:
            return await future

        begun = begin(waits(done))
        assert isinstance(begun, Done)
        assert begun.result == 3
        cancelled: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            begin(waits(cancelled))

    run(main)


def test_timeouts_and_groups_work_after_the_first_wait() -> None:
    """What asks for the current task has one then."""

    async def main() -> None:
        async def waits() -> str:
            await asyncio.sleep(0)
            try:
                async with asyncio.timeout(0.001):
                    await asyncio.sleep(3600)
            except TimeoutError:
                return "late"
            raise AssertionError

        begun = begin(waits())
        assert isinstance(begun, asyncio.Task)
        assert await begun == "late"

    run(main)


def test_what_is_no_future_is_refused_as_a_task_does() -> None:
    """A coroutine that yields what no task can wait for is told so."""

    class Odd:
        def __await__(self) -> Generator[Any, None, None]:
            yield "odd"

    async def main() -> None:
        async def waits() -> None:
            await Odd()

        begun = begin(waits())
        assert isinstance(begun, asyncio.Task)
        with pytest.raises(RuntimeError, match="bad yield"):
            await begun

    run(main)
