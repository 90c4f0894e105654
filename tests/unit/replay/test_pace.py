"""The pace of a replay, on the real clock: ticks a second apart at a hundred times their pace."""

import time

import pytest
from fixtures_ticks import tick

from strategy_client.replay.pace import Pace


@pytest.mark.parametrize(
    ("speed", "seconds", "least_s", "most_s"),
    [
        (100.0, [0, 1, 10], 0.1, 1.0),
        (None, [0, 1_000_000], 0.0, 1.0),
        (100.0, [10, 0, 10, 5], 0.0, 1.0),
        (0.5, [0, 0, 0], 0.0, 1.0),
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
