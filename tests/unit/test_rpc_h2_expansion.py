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
from inference_server.rpc.h2.expansion import SHORT_BYTES, Expander
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


def test_the_next_is_expanded_when_the_last_was_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many wait, there are not all of them in memory for an event loop that comes to none."""
    thread = ThreadByHand()
    monkeypatch.setattr(expansion, "ThreadPoolExecutor", lambda *_: thread)

    async def main() -> None:
        expander = Expander()
        waiting = [asyncio.create_task(expander.expand(PACKED, len(LONG))) for _ in range(5)]
        await eventually(lambda: thread.given)
        waiting[1].cancel()
        for number, ended in enumerate((0, 2, 3, 4), start=1):
            assert len(thread.given) == number
            thread.given[-1]()
            assert await waiting[ended] == LONG
            await eventually(lambda most=number + 1: len(thread.given) == min(most, 4))
        expander.close()

    asyncio.run(main())
