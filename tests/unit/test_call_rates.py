"""What `status` shows of calls: totals, and rates between two looks."""

import io

import pytest
from open_inference.v2 import inference_pb2 as oip
from rich.console import Console

from inference_server.call_rates import Counts, Look, calls_view, shown_duration


def statistics(
    version: str, *, answered: int = 0, failed: int = 0, rows: int = 0, call_ns: int = 0
) -> oip.ModelStatistics:
    """What a sidecar says of a version: a tenth of each call's time was waiting, a half of it the run."""
    return oip.ModelStatistics(
        name="momentum",
        version=version,
        inference_count=rows,
        execution_count=answered,
        inference_stats=oip.InferStatistics(
            success=oip.StatisticDuration(count=answered, ns=answered * call_ns),
            fail=oip.StatisticDuration(count=failed, ns=failed * 7),
            queue=oip.StatisticDuration(count=answered, ns=answered * call_ns // 10),
            compute_infer=oip.StatisticDuration(count=answered, ns=answered * call_ns // 2),
        ),
    )


def look(at_s: float, *versions: oip.ModelStatistics) -> Look:
    """What was counted at a moment."""
    return Look.at(at_s, oip.ModelStatisticsResponse(model_stats=versions))


def shown(now: Look, earlier: Look | None) -> list[list[str]]:
    """The cells of each line, on 80 columns."""
    stream = io.StringIO()
    Console(file=stream, width=80).print(calls_view(now, earlier))
    lines = stream.getvalue().splitlines()
    assert all(len(line) <= 80 for line in lines)
    return [line.split() for line in lines]


def test_the_first_look_shows_totals() -> None:
    """Without an earlier look it is what was counted since the start, and mean times."""
    now = look(100.0, statistics("3", answered=4, failed=1, rows=40, call_ns=200_000))
    assert shown(now, None) == [
        ["in", "all", "answered", "failed", "rows", "time", "wait", "run"],
        ["momentum:3", "4", "1", "40", "200", "us", "20.0", "us", "100", "us"],
    ]


def test_a_later_look_shows_what_came_a_second() -> None:
    """Counts and times are of the calls between the two looks alone."""
    earlier = look(100.0, statistics("3", answered=4, failed=1, rows=40, call_ns=200_000))
    now = look(102.0, statistics("3", answered=10, failed=2, rows=50, call_ns=200_000))
    counts, times = ["3.0", "0.5", "5.0"], ["200", "us", "20.0", "us", "100", "us"]
    assert shown(now, earlier)[1] == ["momentum:3", *counts, *times]


def test_a_version_that_is_new_counts_from_nothing() -> None:
    """A version that the earlier look had not, all came since."""
    now = look(101.0, statistics("4", answered=2, rows=2, call_ns=1000))
    assert shown(now, look(100.0))[1][:4] == ["momentum:4", "2.0", "0.0", "2.0"]


def test_a_sidecar_that_started_again_shows_no_negative_rate() -> None:
    """Counts that fell are those of another process: all of them came since."""
    earlier = look(100.0, statistics("3", answered=1000, rows=1000, call_ns=1000))
    now = look(101.0, statistics("3", answered=2, rows=2, call_ns=1000))
    assert shown(now, earlier)[1][:4] == ["momentum:3", "2.0", "0.0", "2.0"]


def test_times_are_left_out_where_nothing_was_answered() -> None:
    """A pause shows zeros, not the times of calls before it."""
    only = statistics("3", answered=4, failed=1, rows=40, call_ns=200_000)
    assert shown(look(101.0, only), look(100.0, only))[1] == ["momentum:3", "0.0", "0.0", "0.0"]


def test_a_version_that_was_never_called_has_no_row() -> None:
    """What is only served stands in the table above."""
    assert calls_view(look(1.0, statistics("3")), None).row_count == 0
    assert Look.at(1.0, oip.ModelStatisticsResponse(model_stats=[statistics("3")])).counts == {
        "momentum:3": Counts()
    }


@pytest.mark.parametrize(
    ("duration_ns", "told"),
    [
        (0, "0.0 us"),
        (8_540, "8.5 us"),
        (99_949, "99.9 us"),
        (99_951, "100 us"),
        (999_499, "999 us"),
        (999_501, "1.0 ms"),
        (250_000_000, "250 ms"),
        (999_600_000, "1.0 s"),
        (61_000_000_000, "61.0 s"),
    ],
)
def test_durations_have_the_unit_that_suits_them(duration_ns: int, told: str) -> None:
    """Three digits at most before the unit."""
    assert shown_duration(duration_ns) == told
