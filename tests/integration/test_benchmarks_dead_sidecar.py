"""A short run of the benchmark of a dead sidecar: the harness works, and sees what is wrong."""

from dataclasses import replace

import benchmark_path
import pytest
from dead_sidecar import ALONE, KILLED, Turn, faults, figures, measure

WELL = Turn(10.0, 20.0, 30.0, "said", 5)
OPEN = replace(WELL, learned={"BREAKER_OPEN": 10})
PAID = replace(OPEN, ticks_late=1)


def test_a_killed_sidecar_changes_no_traditional_signal():
    """H4: over a real sidecar that is killed, the traditional strategies say the same, to the last digit."""
    assert benchmark_path.BENCHMARKS.is_dir()
    turns = measure((ALONE, KILLED), 80, 2, deadline_ms=20_000)
    assert faults(turns) == []
    assert sum(turn.signals for turn in turns[ALONE]) > 100
    assert "BREAKER_OPEN" not in turns[KILLED][0].learned
    for row in figures(turns):
        assert 0 < row["lowest_us"] <= row["median_us"] <= row["highest_us"]
        assert row["to_alone"] > 0


@pytest.mark.parametrize(
    ("killed", "told"),
    [
        ([OPEN, replace(OPEN, traditional="else")], "said something else"),
        ([OPEN, PAID, PAID], "2 ticks paid a deadline"),
        ([OPEN, WELL], "the breaker never opened"),
    ],
)
def test_what_is_wrong_is_told(killed, told):
    """H4: another signal, a second deadline and a breaker that stays closed are faults."""
    (fault,) = faults({ALONE: [WELL] * len(killed), KILLED: killed})
    assert told in fault


def test_one_deadline_is_no_fault():
    """H4: the tick in whose midst the sidecar dies may pay."""
    turns = {ALONE: [WELL] * 3, KILLED: [WELL, PAID, OPEN]}
    assert faults(turns) == []
    rows = [row for row in figures(turns) if row["runner"] == KILLED]
    assert [row["to_alone"] for row in rows] == [1.0, 1.0]
