"""Answering one stream side by side: order, bound, draining, cancellation."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from inference_server.rpc.concurrent import answer_concurrently
from inference_server.serving.drain import Drain


class Stream:
    """Requests that a test sends by hand."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[int | Exception | None] = asyncio.Queue()
        self.read = 0

    def send(self, *items: int | Exception | None) -> None:
        for item in items:
            self._queue.put_nowait(item)

    async def __aiter__(self) -> AsyncIterator[int]:
        while (item := await self._queue.get()) is not None:
            if isinstance(item, Exception):
                raise item
            self.read += 1
            yield item


class Answers:
    """An `answer` whose results a test lets go by hand."""

    def __init__(self) -> None:
        self.gates: dict[int, asyncio.Event] = {}
        self.cancelled: list[int] = []

    async def __call__(self, request: int) -> int:
        gate = self.gates.setdefault(request, asyncio.Event())
        try:
            await gate.wait()
        except asyncio.CancelledError:
            self.cancelled.append(request)
            raise
        return request

    def let_go(self, *requests: int) -> None:
        for request in requests:
            self.gates.setdefault(request, asyncio.Event()).set()


async def settle() -> None:
    """Give every task that can go on its turns."""
    for _ in range(20):
        await asyncio.sleep(0)


def test_answers_come_as_they_are_done() -> None:
    """A later request that is done first is answered first."""

    async def main() -> list[int]:
        stream, answers = Stream(), Answers()
        answered = answer_concurrently(aiter(stream), answers, 8, Drain())
        stream.send(1, 2, None)
        answers.let_go(2)
        first = await anext(answered)
        answers.let_go(1)
        return [first, *[answer async for answer in answered]]

    assert asyncio.run(main()) == [2, 1]


def test_a_bound_of_one_keeps_the_order() -> None:
    """With a bound of 1 the second request is not started before the first answer is taken."""

    async def main() -> list[int]:
        stream, answers = Stream(), Answers()
        answers.let_go(2)
        stream.send(1, 2, None)
        answered = answer_concurrently(aiter(stream), answers, 1, Drain())
        taking = asyncio.ensure_future(anext(answered))
        await settle()
        assert not taking.done()
        answers.let_go(1)
        return [await taking, *[answer async for answer in answered]]

    assert asyncio.run(main()) == [1, 2]


def test_a_caller_who_does_not_read_is_not_read_from() -> None:
    """At most the bound, and the one that waits for a place, leave the stream before answers are taken."""

    async def main() -> int:
        stream, answers = Stream(), Answers()
        stream.send(*range(100))
        answers.let_go(*range(100))
        answered = answer_concurrently(aiter(stream), answers, 4, Drain())
        await anext(answered)
        await settle()
        await answered.aclose()
        return stream.read

    assert asyncio.run(main()) <= 6


def test_draining_answers_what_was_read_and_ends() -> None:
    """When the server drains, what was read is answered and nothing more is read."""

    async def main() -> tuple[list[int], int]:
        stream, answers, drain = Stream(), Answers(), Drain()
        stream.send(1, 2)
        answered = answer_concurrently(aiter(stream), answers, 8, drain)
        taking = asyncio.ensure_future(anext(answered))
        await settle()
        drain.begin()
        await settle()
        stream.send(3)
        answers.let_go(1, 2, 3)
        return [await taking, *[answer async for answer in answered]], stream.read

    assert asyncio.run(main()) == ([1, 2], 2)


def test_a_consumer_who_leaves_cancels_what_is_on_its_way() -> None:
    """Closing the iteration cancels every answer and leaves no task behind."""

    async def main() -> tuple[list[int], int]:
        stream, answers = Stream(), Answers()
        answers.let_go(1)
        stream.send(1, 2, 3)
        answered = answer_concurrently(aiter(stream), answers, 8, Drain())
        await anext(answered)
        await settle()
        await answered.aclose()
        await settle()
        return sorted(answers.cancelled), len(asyncio.all_tasks())

    assert asyncio.run(main()) == ([2, 3], 1)


def test_an_error_of_the_stream_comes_after_its_answers() -> None:
    """A stream that breaks still gets the answers on their way, then raises."""

    async def main() -> None:
        stream, answers = Stream(), Answers()
        answers.let_go(1)
        stream.send(1, ConnectionError("cut"))
        answered = answer_concurrently(aiter(stream), answers, 8, Drain())
        assert await anext(answered) == 1
        with pytest.raises(ConnectionError, match="cut"):
            await anext(answered)

    asyncio.run(main())
