"""Answering the requests of one stream side by side, within a bound, until the stream or the server ends."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

from inference_server.serving.drain import Drain

Request = TypeVar("Request")
Response = TypeVar("Response")


async def answer_concurrently(
    requests: AsyncIterator[Request],
    answer: Callable[[Request], Awaitable[Response]],
    bound: int,
    drain: Drain,
) -> AsyncIterator[Response]:
    """Yield the answers as they are done; with a bound of 1 that is in the order of the requests.

    At most `bound` requests are between being read and having their answer taken: a caller who does not read
    is not read from. When the server drains, nothing more is read, and the iteration ends after the answers
    to what was. When the consumer stops or is cancelled, so is every answer on its way. An error of
    `requests` is raised after the answers that were on their way, one of `answer` in place of its answer.
    """
    done: asyncio.Queue[asyncio.Future[Response] | None] = asyncio.Queue()
    places = asyncio.Semaphore(bound)
    answering: set[asyncio.Future[Response]] = set()

    def finished(task: asyncio.Future[Response]) -> None:
        answering.discard(task)
        done.put_nowait(task)

    async def read() -> None:
        async for request in requests:
            await places.acquire()
            task = asyncio.ensure_future(answer(request))
            answering.add(task)
            task.add_done_callback(finished)

    async def end() -> None:
        await asyncio.wait((reading, draining), return_when=asyncio.FIRST_COMPLETED)
        reading.cancel()
        waited: list[asyncio.Future[Any]] = [reading, *answering]
        await asyncio.wait(waited)
        if answering:  # begun between the two waits
            await asyncio.wait(tuple(answering))
        done.put_nowait(None)

    reading = asyncio.create_task(read())
    draining = asyncio.create_task(drain.wait())
    ending = asyncio.create_task(end())
    try:
        while (answered := await done.get()) is not None:
            yield answered.result()
            places.release()
        if not reading.cancelled():
            reading.result()
    finally:
        unneeded: list[asyncio.Future[Any]] = [ending, draining, reading, *answering]
        for task in unneeded:
            task.cancel()
