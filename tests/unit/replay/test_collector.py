"""The collector during a replay in windows."""

import gc
from collections.abc import Iterator

import pytest

from strategy_client.replay.collector import OBJECTS, fewer_collections


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before, enabled = gc.get_threshold(), gc.isenabled()
    yield
    gc.set_threshold(*before)
    if enabled:
        gc.enable()


def test_it_looks_seldom_and_afterwards_as_often_as_before() -> None:
    """Also where the run ends with an error."""
    gc.set_threshold(700, 9, 8)
    inside = []

    @fewer_collections()
    def fail() -> None:
        inside.append((gc.get_threshold(), gc.isenabled()))
        raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert inside == [((OBJECTS, 9, 8), True)]
    assert gc.get_threshold() == (700, 9, 8)


@pytest.mark.parametrize("first", [0, 2 * OBJECTS])
def test_who_has_it_look_less_often_keeps_that(first: int) -> None:
    """A threshold of 0 is never, and a larger one is left as it is."""
    gc.set_threshold(first, 9, 8)
    with fewer_collections():
        assert gc.get_threshold() == (first, 9, 8)
    assert gc.get_threshold() == (first, 9, 8)
