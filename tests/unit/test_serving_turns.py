"""Turns for runs in threads: each servable's bound, the shared one, and what hangs."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from servables import FunctionServable

from inference_server.serving.registry import Entry
from inference_server.serving.turns import Turn, Turns, TurnsOptions


def on_loop(scenario: Callable[[], None]) -> None:
    """Run a scenario on an event loop."""

    async def main() -> None:
        scenario()

    asyncio.run(main())


def entry(name: str) -> Entry:
    """An entry of a servable of this name."""
    return Entry(FunctionServable(name), 1)


def granted(turns: list[Turn]) -> list[bool]:
    """Which of these have been granted."""
    return [turn.granted.done() for turn in turns]


def test_a_servable_has_its_own_bound() -> None:
    """Of three runs of one servable two begin, and the third when one of them has ended."""

    def scenario() -> None:
        turns, one = Turns(TurnsOptions(per_servable=2, at_once=9)), entry("one")
        asked = [turns.ask(one) for _ in range(3)]
        assert granted(asked) == [True, True, False]
        turns.give_back(asked[0])
        assert granted(asked) == [True, True, True]

    on_loop(scenario)


def test_all_share_a_bound_and_wait_in_turn() -> None:
    """A model with a long queue gets no more of the shared places than one with a short one."""

    def scenario() -> None:
        turns, long, short = Turns(TurnsOptions(per_servable=2, at_once=1)), entry("long"), entry("short")
        many = [turns.ask(long) for _ in range(5)]
        few = [turns.ask(short) for _ in range(2)]
        order = []
        for _ in range(7):
            running = next(turn for turn in (*many, *few) if turn.granted.done() and turn not in order)
            order.append(running)
            assert sum(granted(many + few)) == len(order), "one at a time"
            turns.give_back(running)
        assert ["long" if turn in many else "short" for turn in order] == (
            ["long", "long", "short", "long", "short", "long", "long"]
        )
        assert repr(turns) == "<Turns 0 running, 0 of them not overdue, 0 waiting>"

    on_loop(scenario)


def test_what_is_overdue_makes_room_for_others_and_not_for_its_own_kind() -> None:
    """E8: an overdue run gives its shared place away and keeps its servable's turn."""

    def scenario() -> None:
        turns, hangs, other = Turns(TurnsOptions(per_servable=1, at_once=1)), entry("hangs"), entry("other")
        first, second, third = turns.ask(hangs), turns.ask(hangs), turns.ask(other)
        assert granted([first, second, third]) == [True, False, False]
        turns.set_overdue(first)
        assert granted([first, second, third]) == [True, False, True]

    on_loop(scenario)


def test_a_model_that_hangs_waits_for_no_shared_place() -> None:
    """E8: while a run of it is overdue, the next one needs none, so that it cannot take two in turn."""

    def scenario() -> None:
        turns, hangs, other = Turns(TurnsOptions(per_servable=2, at_once=1)), entry("hangs"), entry("other")
        turns.set_overdue(turns.ask(hangs))
        again, others = turns.ask(hangs), turns.ask(other)
        assert granted([again, others]) == [True, True]
        assert repr(turns) == "<Turns 3 running, 1 of them not overdue, 0 waiting>"

    on_loop(scenario)


def test_a_model_that_hangs_runs_while_the_shared_places_are_taken() -> None:
    """E8: what takes no shared place does not wait for one either."""

    def scenario() -> None:
        turns, hangs, other = Turns(TurnsOptions(per_servable=2, at_once=1)), entry("hangs"), entry("other")
        turns.set_overdue(turns.ask(hangs))
        assert granted([turns.ask(other), turns.ask(hangs)]) == [True, True]

    on_loop(scenario)


def test_two_that_wait_of_one_servable_get_both_places() -> None:
    """A servable whose first run gets a shared place goes on waiting for one for its second."""

    def scenario() -> None:
        turns, before, after = Turns(TurnsOptions(per_servable=2, at_once=2)), entry("before"), entry("after")
        first, second = turns.ask(before), turns.ask(before)
        waiting = [turns.ask(after), turns.ask(after)]
        for turn in (first, second):
            turns.give_back(turn)
        assert granted(waiting) == [True, True]

    on_loop(scenario)


def test_a_model_that_hangs_again_takes_no_shared_place() -> None:
    """E8: after an overdue run, the next one of its servable needs no shared place, until one is in time."""

    def scenario() -> None:
        turns, hangs, other = Turns(TurnsOptions(per_servable=1, at_once=1)), entry("hangs"), entry("other")
        first = turns.ask(hangs)
        turns.set_overdue(first)
        turns.give_back(first)
        again, others = turns.ask(hangs), turns.ask(other)
        assert granted([again, others]) == [True, True]
        turns.give_back(again)
        assert not turns.ask(hangs).granted.done(), "it was in time, so it waits for a shared place again"

    on_loop(scenario)


@pytest.mark.parametrize("given_back", [0, 1, 2])
def test_a_turn_given_back_while_it_waits_is_nobodys(given_back: int) -> None:
    """E4: one that leaves the queue, wherever it stands, neither holds up nor loses the others'."""

    def scenario() -> None:
        turns, one = Turns(TurnsOptions(per_servable=1, at_once=1)), entry("one")
        running, *waiting = (turns.ask(one) for _ in range(4))
        left = waiting.pop(given_back)
        turns.give_back(left)
        for turn in (running, *waiting):
            assert turn.granted.done()
            turns.give_back(turn)
        assert not left.granted.done()
        assert repr(turns) == "<Turns 0 running, 0 of them not overdue, 0 waiting>"

    on_loop(scenario)


def test_a_turn_whose_wait_was_cancelled_is_passed_on() -> None:
    """E4: a turn that comes at the moment when its caller leaves is given back and goes to the next one."""

    def scenario() -> None:
        turns, one = Turns(TurnsOptions(per_servable=1, at_once=1)), entry("one")
        running, leaving, waiting = (turns.ask(one) for _ in range(3))
        leaving.granted.cancel()
        turns.give_back(running)
        assert not waiting.granted.done()
        turns.give_back(leaving)
        assert waiting.granted.done()

    on_loop(scenario)


@pytest.mark.parametrize("wrong", [{"per_servable": 0}, {"at_once": 0}, {"overdue_s": 0}])
def test_bounds_that_let_nothing_run_are_refused(wrong: dict[str, Any]) -> None:
    """Bounds under which nothing could ever run are refused when they are made."""
    with pytest.raises(ValueError, match="expected bounds"):
        TurnsOptions(**wrong)


def test_a_run_that_never_began_proves_nothing() -> None:
    """E8: a model that hangs goes on without shared places when a caller leaves before his run begins."""

    def scenario() -> None:
        turns, hangs, other = Turns(TurnsOptions(per_servable=2, at_once=1)), entry("hangs"), entry("other")
        turns.set_overdue(turns.ask(hangs))
        turns.give_back(turns.ask(hangs), ran=False)
        asked = [turns.ask(hangs), turns.ask(other)]
        assert granted(asked) == [True, True]

    on_loop(scenario)
