"""The circuit breaker, driven by hand."""

import pytest

from strategy_client.predictor.backoff import Backoff, BackoffOptions
from strategy_client.predictor.breaker import Breaker, BreakerOptions, BreakerState

MS = 1_000_000
DEADLINE = 50 * MS


def breaker(failures: int = 3, misses: int = 2, uniform: float = 1.0) -> Breaker:
    """Make a breaker whose pauses are 10, 20, 40 ms and no longer."""
    pauses = Backoff(BackoffOptions(first_ms=10, longest_ms=40), lambda: uniform)
    return Breaker(BreakerOptions(failures=failures, misses=misses), pauses)


def test_closed_until_failures_in_a_row() -> None:
    """H4: it opens at the third failure in a row; an answer in between begins the count anew."""
    it = breaker()
    for outcome in (it.failed, it.failed):
        outcome(0)
    it.succeeded()
    it.failed(0)
    it.failed(0)
    assert it.admit(0, DEADLINE)
    it.failed(0)
    assert it.state is BreakerState.OPEN
    assert not it.admit(0, DEADLINE)
    assert it.times_opened == 1


def test_missed_deadlines_open_it() -> None:
    """It opens when the deadline was missed the configured number of times in a row."""
    it = breaker(misses=2)
    it.missed(0)
    assert it.admit(0, DEADLINE)
    it.missed(0)
    assert it.state is BreakerState.OPEN


def test_one_miss_is_enough_by_default() -> None:
    """A sidecar that hangs costs one deadline, then nothing."""
    it = Breaker(BreakerOptions(), Backoff(uniform=lambda: 1.0))
    it.missed(0)
    assert not it.admit(0, DEADLINE)


def test_time_alone_never_closes_it() -> None:
    """An open breaker stays open, however long, until a probe is answered."""
    it = breaker(failures=1)
    it.failed(0)
    assert not it.admit(10**15, 10**15 + DEADLINE)
    it.probe_succeeded()
    assert it.admit(10**15, 10**15 + DEADLINE)


def test_one_trial_at_a_time() -> None:
    """Half-open, the second question waits until the first has been answered."""
    it = breaker(failures=1)
    it.failed(0)
    it.probe_succeeded()
    assert it.admit(0, DEADLINE)
    assert not it.admit(1, DEADLINE)
    it.succeeded()
    assert it.state is BreakerState.CLOSED
    assert it.admit(2, DEADLINE)


def test_a_trial_that_nobody_reports_on_is_given_up() -> None:
    """Half-open, another trial goes when the deadline of the first has passed without a word."""
    it = breaker(failures=1)
    it.failed(0)
    it.probe_succeeded()
    assert it.admit(0, DEADLINE)
    assert it.admit(DEADLINE, 2 * DEADLINE)


@pytest.mark.parametrize("verdict", ["failed", "missed"])
def test_a_failed_trial_opens_it_for_longer(verdict: str) -> None:
    """One failure or miss is enough half-open, and the pause has grown; after a success it is short again."""
    it = breaker(failures=3, misses=3)
    for _ in range(3):
        it.failed(0)
    assert it.probe_at_ns == 10 * MS
    it.probe_succeeded()
    assert it.admit(100 * MS, 150 * MS)
    getattr(it, verdict)(100 * MS)
    assert it.state is BreakerState.OPEN
    assert it.probe_at_ns == 120 * MS
    it.probe_succeeded()
    it.succeeded()
    for _ in range(3):
        it.failed(200 * MS)
    assert it.probe_at_ns == 210 * MS


def test_failed_probes_pause_longer_up_to_the_longest() -> None:
    """Each probe without an answer doubles the pause, to the longest one."""
    it = breaker(failures=1)
    it.failed(0)
    due = []
    for _ in range(4):
        it.probe_failed(0)
        due.append(it.probe_at_ns // MS)
    assert due == [20, 40, 40, 40]


def test_an_old_answer_does_not_close_it() -> None:
    """An answer to a question from before it opened leaves it open."""
    it = breaker(failures=1)
    it.failed(0)
    it.succeeded()
    assert it.state is BreakerState.OPEN


def test_jitter_halves_at_most() -> None:
    """The pause lies between half and all of its length, as the injected random says."""
    it = breaker(failures=1, uniform=0.0)
    it.failed(0)
    assert it.probe_at_ns == 5 * MS


@pytest.mark.parametrize(("field", "value"), [("failures", 0), ("misses", -1)])
def test_options_are_checked(field: str, value: int) -> None:
    """A count below 1 is refused by name."""
    with pytest.raises(ValueError, match=field):
        BreakerOptions(**{field: value})


@pytest.mark.parametrize("options", [{"first_ms": 0}, {"first_ms": 10, "longest_ms": 5}, {"factor": 0.5}])
def test_backoff_options_are_checked(options: dict[str, float]) -> None:
    """A pause of nothing, a longest below the first, or a shrinking one is refused."""
    with pytest.raises(ValueError, match="expected"):
        BackoffOptions(**options)
