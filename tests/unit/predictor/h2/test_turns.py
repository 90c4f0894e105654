"""Who reads, and who waits for whom."""

import threading
from dataclasses import dataclass

from strategy_client.predictor.h2.turns import NS_PER_S, Turns

MINUTE_NS = 60 * NS_PER_S


@dataclass
class Thing:
    """Something to wait for."""

    came: bool = False


def is_open(gate: threading.Lock) -> bool:
    """Say whether who waits there would be let go."""
    return gate.acquire(blocking=False)


def test_who_has_what_it_waits_for_is_let_go() -> None:
    """What has come lets its own follower go, no other."""
    turns = Turns()
    turns.take()
    first, second = Thing(), Thing()
    gates = [turns.queue(first), turns.queue(second)]
    second.came = True
    turns.tell()
    assert [is_open(gate) for gate in gates] == [False, True]


def test_the_turn_goes_to_one_of_those_who_wait() -> None:
    """A turn that is given back lets exactly one follower go, and another when that one passes it on."""
    turns = Turns()
    turns.take()
    gates = [turns.queue(Thing()) for _ in range(2)]
    turns.hand_over()
    assert not turns.taken
    assert sorted(map(is_open, gates)) == [False, True]
    turns.hand_over()
    assert sum(map(is_open, gates)) == 1


def test_who_left_is_not_given_the_turn() -> None:
    """A follower whose time is over is passed by."""
    turns = Turns()
    turns.take()
    gone, stays = turns.queue(Thing()), turns.queue(Thing())
    turns.leave(gone)
    turns.hand_over()
    assert [is_open(gone), is_open(stays)] == [False, True]


def test_following_is_bounded() -> None:
    """A wait at a gate that nobody opens ends with its time; one that is open is over at once."""
    turns = Turns()
    turns.follow(turns.queue(Thing()), 1)
    gate = turns.queue(Thing(came=True))
    turns.tell()
    turns.follow(gate, MINUTE_NS)
