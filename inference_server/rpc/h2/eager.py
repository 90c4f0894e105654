"""Coroutines that begin where they are called, and become tasks only if they have to wait."""

import asyncio
import types
from collections.abc import Coroutine, Generator
from typing import Any, Final, Generic, TypeVar

Result = TypeVar("Result")


class Done(Generic[Result]):
    """What a coroutine returned without having waited."""

    __slots__ = ("result",)

    def __init__(self, result: Result) -> None:
        self.result: Final = result


def begin(coroutine: Coroutine[Any, Any, Result]) -> Done[Result] | asyncio.Task[Result]:
    """Run the coroutine up to its first wait: Done where there is none, else a task for the rest of it.

    What it raises before it waits is raised here. Until then there is no current task.
    """
    try:
        waits_for = coroutine.send(None)
    except StopIteration as end:
        return Done(end.value)
    return asyncio.create_task(_go_on(coroutine, waits_for))


async def _go_on(coroutine: Coroutine[Any, Any, Result], waits_for: Any) -> Result:
    return await _rest(coroutine, waits_for)


@types.coroutine
def _rest(coroutine: Coroutine[Any, Any, Result], waits_for: Any) -> Generator[Any, Any, Result]:
    """Wait for what the coroutine waits for already, and then run as it does."""
    while True:
        try:
            yield waits_for
            break
        except BaseException as error:  # noqa: BLE001 - the coroutine's to deal with, a cancellation above all
            try:
                waits_for = coroutine.throw(error)
            except StopIteration as end:
                result: Result = end.value
                return result
    return (yield from coroutine.__await__())
