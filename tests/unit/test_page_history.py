"""The steps that the status page's charts are drawn from."""

import math

import pytest
from manual_clock import ManualClock

from inference_server.core.errors import Reason
from inference_server.http.page_history import STEPS, TOTAL, History, quantile_us
from inference_server.serving.statistics import (
    BOUNDS_NS,
    MAX_VERSIONS,
    NO_MODEL,
    Durations,
    Statistics,
    Timing,
)

KNOWN = ("momentum", "carry")


@pytest.fixture
def clock() -> ManualClock:
    """A clock that the test moves."""
    return ManualClock()


@pytest.fixture
def statistics() -> Statistics:
    """Counters that the test fills."""
    return Statistics()


@pytest.fixture
def history(statistics: Statistics, clock: ManualClock) -> History:
    """A history that has no step yet."""
    return History(statistics, clock)


def answer(statistics: Statistics, calls: int, total_us: int = 200, *, version: int = 1, model="momentum"):
    """Count calls that were answered in that time."""
    for _ in range(calls):
        statistics.answered(model, version, 1, Timing(0, 0, 0, 0, total_us * 1000), wall_ns=version)


def steps(history: History, model: str = "momentum"):
    """Return what is told of all steps that are kept; None: nothing happened."""
    series = history.copies().get(model)
    return series and series.document(history.numbers_after(0))


def test_a_step_holds_what_came_since_the_last_one(statistics, history, clock) -> None:
    """F5: rates are what was counted in a step by its real length; a step without calls has no latency."""
    answer(statistics, 10)
    clock.advance(2)
    history.step(KNOWN)
    clock.advance(2)
    history.step(KNOWN)
    answer(statistics, 30)
    statistics.failed("momentum", 1, "DEADLINE_EXCEEDED", Reason.TOO_SLOW, 10**6)
    clock.advance(5)  # the loop was held up: the step is longer, the rate is not higher
    history.step(KNOWN)
    found = steps(history)
    assert found["answered_per_s"] == [5.0, 0.0, 6.0]
    assert found["failed_per_s"] == [0.0, 0.0, 0.2]
    assert found["p50_us"][1] is None
    assert 100 <= found["p50_us"][0] <= 250
    assert found["p50_us"][0] < found["p99_us"][0] <= 250


def test_all_models_together_count_what_named_none(statistics, history, clock) -> None:
    """F5: the total has every call, also those that named no model that is known; these have no series."""
    answer(statistics, 4)
    answer(statistics, 2, model="carry")
    statistics.failed(NO_MODEL, 0, "NOT_FOUND", Reason.MODEL_NOT_FOUND, 10**6)
    clock.advance(2)
    history.step(KNOWN)
    assert steps(history, TOTAL)["answered_per_s"] == [3.0]
    assert steps(history, TOTAL)["failed_per_s"] == [0.5]
    assert set(history.copies()) == {TOTAL, *KNOWN}


def test_old_steps_give_way(statistics, history, clock) -> None:
    """What is kept is bounded: the newest steps, numbered on."""
    for number in range(STEPS + 20):
        answer(statistics, 1 + (number == STEPS + 19))
        clock.advance(1)
        history.step(KNOWN)
    found = steps(history)["answered_per_s"]
    assert history.numbers_after(0) == range(21, STEPS + 21)
    assert len(found) == STEPS
    assert found[-2:] == [1.0, 2.0]
    assert history.numbers_after(STEPS + 19) == range(STEPS + 20, STEPS + 21)
    assert not history.numbers_after(STEPS + 20)
    assert not history.numbers_after(10**9)


def test_models_that_are_gone_are_forgotten(statistics, history, clock) -> None:
    """The memory is bounded by the models that are known: the steps of one that is gone go with it."""
    answer(statistics, 5)
    clock.advance(1)
    history.step(KNOWN)
    clock.advance(1)
    history.step(["carry"])
    assert set(history.copies()) == {TOTAL}
    assert repr(history) == "<History of 0 models at step 2>"


def test_a_swap_by_number_takes_nothing_from_the_rates(statistics, history, clock) -> None:
    """B3: when the counts of an old version are forgotten, the rate is that of the versions that answered."""
    answer(statistics, 50, version=1)
    clock.advance(1)
    history.step(KNOWN)
    for version in range(2, MAX_VERSIONS + 2):
        answer(statistics, 1, version=version)
    assert 1 not in statistics.models["momentum"]
    clock.advance(1)
    history.step(KNOWN)
    assert steps(history)["answered_per_s"] == [50.0, float(MAX_VERSIONS)]


def test_a_version_that_comes_back_counts_from_nothing(statistics, history, clock) -> None:
    """B3: counts that began again count as they are, and give no rate below 0."""
    answer(statistics, 50, version=1)
    clock.advance(1)
    history.step(KNOWN)
    for version in range(2, MAX_VERSIONS + 2):
        answer(statistics, 1, version=version)
    answer(statistics, 3, version=1)
    clock.advance(1)
    history.step(KNOWN)
    assert 2 not in statistics.models["momentum"]
    assert steps(history)["answered_per_s"][1] == MAX_VERSIONS - 1 + 3


def test_a_clock_that_stands_still_makes_no_step(statistics, history) -> None:
    """No rate is divided by nothing."""
    answer(statistics, 5)
    history.step(KNOWN)
    assert history.number == 0


def test_copies_do_not_change(statistics, history, clock) -> None:
    """What is being written down stays as it was when the next step comes."""
    answer(statistics, 5)
    clock.advance(1)
    history.step(KNOWN)
    copy = history.copies()["momentum"]
    for _ in range(STEPS):
        clock.advance(1)
        history.step(KNOWN)
    assert copy.document(range(1, 2))["answered_per_s"] == [5.0]


@pytest.mark.parametrize("part", [0.5, 0.99])
def test_quantiles_lie_in_their_bucket(part: float) -> None:
    """A quantile of any durations lies within the bucket of the one that has that rank."""
    durations = [10_000, 30_000, 40_000, 90_000, 700_000, 2_000_000, 2_100_000, 9_000_000]
    counted = Durations()
    for duration in durations:
        counted.add(duration)
    exact = sorted(durations)[math.ceil(part * len(durations)) - 1]
    high = next(bound for bound in BOUNDS_NS if bound >= exact)
    low = max((bound for bound in BOUNDS_NS if bound < exact), default=0)
    assert low / 1e3 <= quantile_us(counted.buckets, part) <= high / 1e3


def test_quantiles_at_the_ends() -> None:
    """None at all is no number; what is beyond the last bound is told as the bound."""
    empty = Durations()
    assert math.isnan(quantile_us(empty.buckets, 0.5))
    endless = Durations()
    endless.add(10**12)
    assert quantile_us(endless.buckets, 0.99) == BOUNDS_NS[-1] / 1e3
