"""Long work that lets others have the event loop in between."""

import asyncio
import itertools

from inference_server.serving.pauses import Pauses

WORKERS = 20
PIECES = 5


def test_of_many_who_pause_one_goes_on_in_a_turn() -> None:
    """In the order in which they paused, so that each gets as far as the others."""

    async def main() -> tuple[list[int], list[int]]:
        pauses = Pauses()
        loop = asyncio.get_running_loop()
        pieces: list[int] = []
        turns = [0]

        def turn() -> None:
            turns.append(len(pieces))
            if working:
                loop.call_soon(turn)

        async def work(number: int) -> None:
            for _ in range(PIECES):
                await pauses.pause()
                pieces.append(number)

        working = {asyncio.create_task(work(number)) for number in range(WORKERS)}
        loop.call_soon(turn)
        await asyncio.wait(working)
        working.clear()
        return pieces, turns

    pieces, turns = asyncio.run(main())
    assert pieces == list(range(WORKERS)) * PIECES
    assert max(after - before for before, after in itertools.pairwise(turns)) == 1


def test_who_is_cancelled_while_he_pauses_holds_nobody_up() -> None:
    """Those behind him go on, and so does who pauses later."""

    async def main() -> None:
        pauses = Pauses()
        first, second = (asyncio.create_task(pauses.pause()) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        async with asyncio.timeout(60):
            await second
            await pauses.pause()
        assert first.cancelled()
        assert repr(pauses) == "<Pauses with 0 waiting>"

    asyncio.run(main())


def test_nobody_waits_for_the_turns_of_those_who_have_left() -> None:
    """However many of them there are, who paused after them goes on in the next turn."""

    async def main() -> None:
        pauses = Pauses()
        left = [asyncio.create_task(pauses.pause()) for _ in range(1000)]
        await asyncio.sleep(0)
        for each in left:
            each.cancel()
        paused = asyncio.create_task(pauses.pause())
        for _ in range(10):
            await asyncio.sleep(0)
        assert paused.done()
        await asyncio.wait(left)

    asyncio.run(main())
