"""Learned strategies of one instrument that ask one model for the same row, and hear the same answer."""

from collections.abc import Mapping, Sequence
from typing import Any

from strategy_client.asked import Asked, Said
from strategy_client.events import MarketTick, Outcome
from strategy_client.learned import LearnedStrategy
from strategy_client.predictor.port import Answer
from strategy_client.questions import QuestionSheet

Slots = list[Outcome | Asked | None]


class Peers:
    """One strategy or more of one `peerage`, each with its slot in a tick.

    What one of them asked, and what the answer said to it, hold for the next one that is bound and judges
    alike. The outcomes are those of each by itself.
    """

    __slots__ = ("_members",)

    def __init__(self) -> None:
        self._members: list[tuple[int, LearnedStrategy]] = []

    def __repr__(self) -> str:
        return f"<Peers {[strategy.executor.strategy_id for _, strategy in self._members]}>"

    def join(self, slot: int, strategy: LearnedStrategy) -> None:
        """Take another of their peerage, after those that are there."""
        self._members.append((slot, strategy))

    def ask(self, tick: MarketTick, slots: Slots, sheet: QuestionSheet) -> None:
        """Write on the sheet what those of the free slots ask; there goes what was asked, or why nothing."""
        shared: Asked | None = None
        for slot, strategy in self._members:
            if slots[slot] is None:
                if shared is not None and strategy.asks_as(shared):
                    slots[slot] = shared
                else:
                    asked = slots[slot] = strategy.ask(tick, sheet)
                    shared = asked if isinstance(asked, Asked) else None

    def ask_again(self, slots: Slots, sheet: QuestionSheet) -> None:
        """Write on another sheet what was asked before."""
        for slot, strategy in self._members:
            asked = slots[slot]
            if isinstance(asked, Asked):
                slots[slot] = strategy.ask_again(asked, sheet)

    def conclude(
        self, tick: MarketTick, slots: Slots, answers: Sequence[Answer], provenance: Mapping[str, Any]
    ) -> None:
        """Put outcomes in the place of what was asked."""
        shared: Asked | None = None
        said: Said | None = None
        for slot, strategy in self._members:
            asked = slots[slot]
            if said is not None and asked is shared and (outcome := strategy.concludes_as(tick, said)):
                slots[slot] = outcome
            elif isinstance(asked, Asked):
                slots[slot] = strategy.conclude(tick, asked, answers[asked.place.question], provenance)
                shared, said = asked, strategy.said(tick, asked, provenance)
