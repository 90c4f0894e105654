"""A tick on its way through the runner."""

import math
from collections.abc import Sequence
from typing import Final

from strategy_client.asked import Asked
from strategy_client.events import MarketTick, Outcome
from strategy_client.instrument import Instrument, Strategy
from strategy_client.predictor.port import PendingAnswers
from strategy_client.questions import QuestionSheet
from strategy_client.shadow import PendingShadows

NOTHING_ASKED: Final = QuestionSheet()


class PendingTick:
    """A tick between `begin` and `finish`: an outcome, or what was asked, for each strategy."""

    __slots__ = (
        "answers",
        "index",
        "instrument",
        "price",
        "sent_ns",
        "shadows",
        "sheet",
        "slots",
        "strategies",
        "tick",
    )

    def __init__(self, index: int, tick: MarketTick, strategies: Sequence[Strategy]) -> None:
        self.index = index
        self.tick = tick
        self.price = math.nan
        # None for a tick that leaves no trace: all its outcomes are there already.
        self.instrument: Instrument | None = None
        self.strategies = strategies
        self.slots: list[Outcome | Asked | None] = [None] * len(strategies)
        # Another one as soon as anything is asked.
        self.sheet = NOTHING_ASKED
        self.answers: PendingAnswers | None = None
        self.sent_ns = 0
        self.shadows: PendingShadows | None = None
