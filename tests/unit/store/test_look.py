"""What becomes of a running set by one look at the place it came from."""

import pytest

from strategy_client.configuration import Problem, StrategyConfig
from strategy_client.store.look import Entry, Look, next_set, origins_of
from strategy_client.store.store import StrategySet


def config(name, *, enabled=True, lookback=5):
    return StrategyConfig(name, "momentum", {"lookback_periods": lookback}, ("paper",), (1,), enabled=enabled)


def entry(name, *, source="f", place=(), enabled=True, right=True):
    made = config(name, enabled=enabled, lookback=6) if right and name else None
    return Entry(source, place, name, enabled, made, () if right else (Problem("f", "wrong"),))


RUNNING = StrategySet((config("a"), config("b")))
ORIGINS = {"a": ("f", (0,)), "b": ("f", (1,))}


def after(*entries, **more):
    now = next_set(RUNNING, Look(entries, **more), ORIGINS)
    return {each.strategy_id: (each.parameters["lookback_periods"], each.enabled) for each in now.strategies}


@pytest.mark.parametrize(
    ("entries", "more", "expected"),
    [
        ([entry("a"), entry("b")], {}, {"a": (6, True), "b": (6, True)}),
        ([entry("a")], {}, {"a": (6, True)}),
        ([entry("a")], {"unread": frozenset({"f"})}, {"a": (6, True), "b": (5, True)}),
        ([entry("a")], {"unread": frozenset({"other"})}, {"a": (6, True)}),
        ([entry("a", right=False), entry("b")], {}, {"a": (5, True), "b": (6, True)}),
        ([entry("a", right=False, enabled=False), entry("b")], {}, {"a": (5, False), "b": (6, True)}),
        ([entry("", place=(0,)), entry("b")], {}, {"a": (5, True), "b": (6, True)}),
        ([entry("", place=(0,), enabled=False), entry("b")], {}, {"a": (5, False), "b": (6, True)}),
        ([entry("", place=(7,), enabled=False), entry("b")], {}, {"a": (5, True), "b": (6, True)}),
        ([entry("", source="g", enabled=False), entry("b")], {}, {"b": (6, True)}),
        ([entry("a"), entry("b"), entry("c", right=False)], {}, {"a": (6, True), "b": (6, True)}),
        ([entry("a"), entry("a", enabled=False)], {}, {"a": (5, False)}),
        ([entry("a", enabled=False), entry("a")], {}, {"a": (5, False)}),
        (
            [entry("a"), entry("b")],
            {"stops": (entry("b", enabled=False),)},
            {"a": (6, True), "b": (6, False)},
        ),
        (
            [entry("a", place=(0,)), entry("b", place=(1,))],
            {"stops": (entry("", place=(1,), enabled=False),)},
            {"a": (6, True), "b": (6, False)},
        ),
    ],
)
def test_each_case(entries, more, expected):
    """Right, wrong, nameless, unread, twice, stopped elsewhere: each gives what the rules say, in order."""
    assert after(*entries, **more) == expected


def test_where_a_strategy_came_from_is_unknown():
    """A strategy of which nobody knows where it came from stays for as long as anything cannot be read."""
    now = next_set(RUNNING, Look((), unread=frozenset({"g"})), {})
    assert now.strategies == RUNNING.strategies
    assert next_set(RUNNING, Look(()), {}).strategies == ()


def test_the_order_is_that_of_the_places():
    """A strategy that stays as it was keeps its place among the others."""
    now = next_set(RUNNING, Look((entry("b", place=(1,)),), unread=frozenset({"f"})), ORIGINS)
    assert [each.strategy_id for each in now.strategies] == ["a", "b"]


def test_an_origin_is_kept_while_its_strategy_runs():
    """Where a strategy came from is kept while nothing newer is known, and forgotten with it."""
    look = Look((entry("b", source="g"),), unread=frozenset({"f"}))
    now = next_set(RUNNING, look, ORIGINS)
    assert origins_of(look, now, ORIGINS) == {"a": ("f", (0,)), "b": ("g", ())}
    assert origins_of(look, StrategySet((config("b"),)), ORIGINS) == {"b": ("g", ())}
