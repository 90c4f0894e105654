"""What is counted of calls and RPCs."""

import numpy as np

from inference_server.core.errors import Reason
from inference_server.serving.statistics import (
    BOUNDS_NS,
    COUNTED_TOGETHER,
    MAX_VERSIONS,
    Durations,
    Statistics,
    Timing,
)

TIMING = Timing(queue_ns=10, input_ns=20, infer_ns=30, output_ns=40, total_ns=100)


def test_a_duration_at_a_bound_is_within_it() -> None:
    """A bucket holds its upper end, and what is longer than all bounds has one of its own."""
    durations = Durations()
    for duration_ns in (0, BOUNDS_NS[0], BOUNDS_NS[0] + 1, BOUNDS_NS[-1], BOUNDS_NS[-1] + 1):
        durations.add(duration_ns)
    assert durations.buckets[:2] == [2, 1]
    assert durations.buckets[-2:] == [1, 1]
    assert (durations.count, durations.sum_ns) == (5, 2 * BOUNDS_NS[0] + 2 * BOUNDS_NS[-1] + 2)


def test_durations_counted_together_are_those_counted_one_by_one() -> None:
    """At each bound, beside it and beyond all."""
    all_ns = [ns for bound in BOUNDS_NS for ns in (bound - 1, bound, bound + 1)] + [0, 2**62]
    singly, together = Durations(), Durations()
    for duration_ns in all_ns:
        singly.add(duration_ns)
    for some in (all_ns[:7], all_ns[7:]):
        together.add_all(np.array(some, np.int64))
    assert together.buckets == singly.buckets
    assert (together.count, together.sum_ns) == (singly.count, singly.sum_ns)


def test_no_answer_is_lost_between_noting_and_counting() -> None:
    """Whoever reads at any moment finds every call, in all five durations (F5)."""
    statistics = Statistics()
    for turn in range(1, 2 * COUNTED_TOGETHER + 2):
        statistics.answered("m", 3, 1, Timing(turn, 0, 1, 2, 3), wall_ns=turn)
        if turn in (1, COUNTED_TOGETHER - 1, COUNTED_TOGETHER, 2 * COUNTED_TOGETHER + 1):
            version = statistics.models["m"][3]
            assert version.answered == turn
            assert version.queue.sum_ns == turn * (turn + 1) // 2
            assert [each.count for each in (version.input, version.infer, version.output)] == [turn] * 3


def test_what_is_noted_is_bounded() -> None:
    """Where nobody reads the numbers, the times of calls are not kept one by one for ever."""
    statistics, most = Statistics(), 0
    for turn in range(3 * COUNTED_TOGETHER):
        statistics.answered("m", 3, 1, TIMING, wall_ns=turn)
        most = max(most, len(statistics.models["m"][3]._noted))
    assert 0 < most <= COUNTED_TOGETHER * len(TIMING)


def test_an_answer_counts_once_in_each_duration() -> None:
    """The five durations of a version agree in their count, and hold what was measured (F5)."""
    statistics = Statistics()
    statistics.answered("m", 3, 50, TIMING, wall_ns=7)
    statistics.answered("m", 3, 1, TIMING, wall_ns=9)
    version = statistics.models["m"][3]
    parts = (version.queue, version.input, version.infer, version.output, version.total)
    assert [part.count for part in parts] == [2] * 5
    assert [part.sum_ns for part in parts] == [20, 40, 60, 80, 200]
    assert (version.rows, version.answered, version.failures, version.last_answered_ns) == (51, 2, 0, 9)


def test_failures_are_told_apart_by_status_and_reason() -> None:
    """A failed call adds nothing to the answered ones (F5)."""
    statistics = Statistics()
    for _ in range(2):
        statistics.failed("m", 3, "RESOURCE_EXHAUSTED", Reason.MODEL_FULL, 5)
    statistics.failed("m", 3, "RESOURCE_EXHAUSTED", Reason.SERVER_FULL, 6)
    version = statistics.models["m"][3]
    assert {key: durations.count for key, durations in version.failed.items()} == {
        ("RESOURCE_EXHAUSTED", Reason.MODEL_FULL): 2,
        ("RESOURCE_EXHAUSTED", Reason.SERVER_FULL): 1,
    }
    assert (version.answered, version.failures) == (0, 3)


def test_the_version_that_answered_longest_ago_is_forgotten() -> None:
    """Swaps by number do not grow the statistics without end."""
    statistics = Statistics()
    for version in range(1, MAX_VERSIONS + 1):
        statistics.answered("m", version, 1, TIMING, wall_ns=100 + version)
    statistics.answered("m", 1, 1, TIMING, wall_ns=1000)
    statistics.answered("m", 99, 1, TIMING, wall_ns=1001)
    assert set(statistics.models["m"]) == {1, *range(3, MAX_VERSIONS + 1), 99}
    statistics.failed("m", 0, "NOT_FOUND", Reason.VERSION_NOT_FOUND, 5)  # takes no version's place
    assert set(statistics.models["m"]) == {0, 1, *range(3, MAX_VERSIONS + 1), 99}
