"""Compressed messages that are expanded in turn."""

import asyncio
import os
import zlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from eventually import eventually

from inference_server.rpc.h2 import expansion
from inference_server.rpc.h2.expansion import SHORT_BYTES, Expander, ExpansionThread
from inference_server.rpc.h2.framing import Packed

LONG = os.urandom(2 * SHORT_BYTES)
PACKED = Packed(zlib.compress(LONG), zlib.MAX_WBITS)


class ThreadByHand(ThreadPoolExecutor):
    """Does what it is given when it is told to."""

    def __init__(self, *_: object) -> None:
        super().__init__(1)
        self.given: list[Callable[[], None]] = []

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:  # type: ignore[override]
        """Take note of it."""
        answer: Future[Any] = Future()

        def do() -> None:
            if answer.set_running_or_notify_cancel():
                answer.set_result(function(*arguments))

        self.given.append(do)
        return answer


@pytest.fixture
def thread(monkeypatch: pytest.MonkeyPatch) -> ThreadByHand:
    """What the messages are expanded in."""
    by_hand = ThreadByHand()
    monkeypatch.setattr(expansion, "ThreadPoolExecutor", lambda *_: by_hand)
    return by_hand


def test_the_next_is_expanded_when_the_last_was_taken(thread: ThreadByHand) -> None:
    """However many wait, there are not all of them in memory for an event loop that comes to none."""

    async def main() -> None:
        expansion_thread = ExpansionThread()
        connections = [Expander(expansion_thread) for _ in range(5)]
        waiting = [asyncio.create_task(each.expand(PACKED, len(LONG))) for each in connections]
        await eventually(lambda: thread.given)
        waiting[1].cancel()
        for number, ended in enumerate((0, 2, 3, 4), start=1):
            assert len(thread.given) == number
            thread.given[-1]()
            assert await waiting[ended] == LONG
            following = min(number + 1, 4)
            await eventually(lambda given=following: len(thread.given) == given)
        expansion_thread.close()

    asyncio.run(main())


def test_connections_take_turns(thread: ThreadByHand) -> None:
    """Who sent many messages before another sent one does not keep him waiting for all of them."""

    async def main() -> None:
        expansion_thread = ExpansionThread()
        first, second = Expander(expansion_thread), Expander(expansion_thread)
        many = [asyncio.create_task(first.expand(PACKED, len(LONG))) for _ in range(5)]
        one = asyncio.create_task(second.expand(PACKED, len(LONG)))
        for number in (1, 2):
            await eventually(lambda given=number: len(thread.given) == given)
            thread.given[-1]()
        await eventually(one.done)
        assert one.result() == LONG
        assert [each.done() for each in many] == [True, False, False, False, False]
        for each in many:
            each.cancel()
        await asyncio.wait(many)
        expansion_thread.close()

    asyncio.run(main())
