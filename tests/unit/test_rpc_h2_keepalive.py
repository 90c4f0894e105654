"""When a silent caller is asked for a sign of life, and when he is given up."""

import asyncio
from collections.abc import Awaitable, Callable

from eventually import eventually

from inference_server.rpc.h2.keepalive import Keepalive

FAR_S = 3600.0
SOON_S = 0.01


class Watched:
    """A caller that answers, or does not, and what was done about him."""

    def __init__(self, after_s: float, timeout_s: float, *, answers: bool = False) -> None:
        self.pings = 0
        self.given_up = 0
        self._answers = answers
        self.keepalive = Keepalive(after_s, timeout_s, self._ping, self._give_up)
        self.keepalive.start()

    def _ping(self) -> None:
        self.pings += 1
        if self._answers:
            asyncio.get_running_loop().call_soon(self.keepalive.heard)

    def _give_up(self) -> None:
        self.given_up += 1


def run(main: Callable[[], Awaitable[None]]) -> None:
    """Run a test on a loop of its own."""

    async def whole() -> None:
        await main()

    asyncio.run(whole())


def test_who_does_not_answer_is_asked_once_and_given_up_once() -> None:
    """After that nothing more is done about him."""

    async def main() -> None:
        watched = Watched(SOON_S, SOON_S)
        await eventually(lambda: watched.given_up)
        later = Watched(10 * SOON_S, SOON_S)
        await eventually(lambda: later.given_up)
        assert (watched.pings, watched.given_up) == (1, 1)

    run(main)


def test_who_answers_is_asked_again_and_again() -> None:
    """And never given up."""

    async def main() -> None:
        watched = Watched(SOON_S, 10 * SOON_S, answers=True)
        await eventually(lambda: watched.pings >= 3)
        watched.keepalive.stop()
        assert watched.given_up == 0

    run(main)


def test_who_is_heard_of_is_not_asked() -> None:
    """What comes puts the question off."""

    async def main() -> None:
        watched, silent = Watched(0.3, FAR_S), Watched(0.9, FAR_S)
        await eventually(lambda: watched.keepalive.heard() or silent.pings)
        assert watched.pings == 0
        await eventually(lambda: watched.pings == 1)
        watched.keepalive.stop()
        silent.keepalive.stop()

    run(main)


def test_nothing_is_done_once_it_is_stopped() -> None:
    """Before it asked, and between the question and the end."""

    async def main() -> None:
        early, late = Watched(SOON_S, SOON_S), Watched(SOON_S, 0.2)
        early.keepalive.stop()
        await eventually(lambda: late.pings)
        late.keepalive.stop()
        third = Watched(0.2, SOON_S)
        await eventually(lambda: third.given_up)
        assert (early.pings, early.given_up, late.given_up) == (0, 0, 0)

    run(main)
