"""Answering the requests of one stream side by side, within a bound, until the stream or the server ends."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

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
    is not read from. `answer` must not raise. When the server drains, nothing more is read, and the iteration
    ends after the answers to what was. When the consumer stops or is cancelled, so is every answer on its
    way. An error of `requests` itself is raised after the answers that were on their way.
    """
    done: asyncio.Queue[Response | None] = asyncio.Queue()
    places = asyncio.Semaphore(bound)
    answering: set[asyncio.Task[None]] = set()

    async def answer_one(request: Request) -> None:
        done.put_nowait(await answer(request))

    async def read() -> None:
        async for request in requests:
            await places.acquire()
            task = asyncio.create_task(answer_one(request))
            answering.add(task)
            task.add_done_callback(answering.discard)

    async def end() -> None:
        await asyncio.wait((reading, draining), return_when=asyncio.FIRST_COMPLETED)
        reading.cancel()
        await asyncio.wait((reading, *answering))
        if answering:  # begun between the two waits
            await asyncio.wait(tuple(answering))
        done.put_nowait(None)

    reading = asyncio.create_task(read())
    draining = asyncio.create_task(drain.wait())
    ending = asyncio.create_task(end())
    try:
        while (response := await done.get()) is not None:
            yield response
            places.release()
        if not reading.cancelled():
            reading.result()
    finally:
        for task in (ending, draining, reading, *answering):
            task.cancel()
