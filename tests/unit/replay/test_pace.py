"""The pace of a replay, on the real clock: ticks a second apart at a hundred times their pace."""

import threading
import time

import pytest
from fixtures_ticks import tick

from strategy_client.replay.pace import Pace


@pytest.mark.parametrize(
    ("speed", "seconds", "least_s", "most_s"),
    [
        (100.0, [0, 1, 10], 0.1, 5.0),
        (None, [0, 1_000_000], 0.0, 5.0),
        (100.0, [10, 0, 10, 5], 0.0, 5.0),
        (0.5, [0, 0, 0], 0.0, 5.0),
    ],
    ids=["faster", "as fast as possible", "back in time", "equal times"],
)
def test_ticks_come_at_their_pace(
    speed: float | None, seconds: list[int], least_s: float, most_s: float
) -> None:
    """Ticks are waited for in proportion to their times; one from the past is due at once."""
    pace = Pace(speed)
    began_s = time.monotonic()
    for second in seconds:
        pace.wait_for(tick(1, second=second))
    assert least_s <= time.monotonic() - began_s < most_s


def test_a_tick_that_never_comes_is_waited_for() -> None:
    """A pace so slow that no clock counts the time to the next tick is waited for as long as one can be."""
    asked: list[float] = []
    pace = Pace(1e-320)
    pace._never.wait = asked.append  # type: ignore[method-assign, assignment]
    for second in (0, 1):
        pace.wait_for(tick(1, second=second))
    assert asked == [threading.TIMEOUT_MAX]
