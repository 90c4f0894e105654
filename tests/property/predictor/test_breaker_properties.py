"""What holds for the breaker whatever happens to it."""

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from strategy_client.predictor.backoff import Backoff, BackoffOptions
from strategy_client.predictor.breaker import Breaker, BreakerOptions, BreakerState

DEADLINE_NS = 50_000_000
LONGEST_MS = 80.0


class BreakerMachine(RuleBasedStateMachine):
    """Drives a breaker beside a plain account of what it must have seen."""

    @initialize(failures=st.integers(1, 4), misses=st.integers(1, 4), uniform=st.floats(0, 1))
    def make(self, failures: int, misses: int, uniform: float) -> None:
        """Begin with a closed one."""
        self.now_ns = 0
        self.options = BreakerOptions(failures, misses)
        self.it = Breaker(self.options, Backoff(BackoffOptions(10, LONGEST_MS), lambda: uniform))
        self.failures = self.misses = 0
        self.probed = True
        self.trials: list[int] = []

    @rule(step_ns=st.integers(0, 10**9))
    def wait(self, step_ns: int) -> None:
        """Let time pass; that alone never changes the state."""
        before = self.it.state
        self.now_ns += step_ns
        assert self.it.state is before

    @rule()
    def ask(self) -> None:
        """Never let a question through an open breaker, nor two trials at once."""
        admitted = self.it.admit(self.now_ns, self.now_ns + DEADLINE_NS)
        if self.it.state is BreakerState.OPEN:
            assert not admitted
        if self.it.state is BreakerState.CLOSED:
            assert admitted
        if self.it.state is BreakerState.HALF_OPEN and admitted:
            assert not self.trials or self.now_ns >= self.trials[-1] + DEADLINE_NS
            self.trials.append(self.now_ns)

    @rule()
    def succeed(self) -> None:
        """Close it only half-open."""
        was = self.it.state
        self.it.succeeded()
        self.failures = self.misses = 0
        assert (self.it.state is BreakerState.OPEN) == (was is BreakerState.OPEN)

    @rule()
    def fail(self) -> None:
        """Open it at the configured count, half-open at once."""
        was = self.it.state
        self.failures += 1
        self.it.failed(self.now_ns)
        self._expect_open(was, self.failures >= self.options.failures)

    @rule()
    def miss(self) -> None:
        """Open it at the configured count, half-open at once."""
        was = self.it.state
        self.misses += 1
        self.it.missed(self.now_ns)
        self._expect_open(was, self.misses >= self.options.misses)

    @rule(answered=st.booleans())
    def probe(self, answered: bool) -> None:
        """Leave OPEN by an answered probe only."""
        was = self.it.state
        if answered:
            self.it.probe_succeeded()
            if was is BreakerState.OPEN:
                assert self.it.state is BreakerState.HALF_OPEN
                self.trials.clear()
        else:
            self.it.probe_failed(self.now_ns)
            assert self.it.state is was

    @invariant()
    def probe_is_due_within_bounds(self) -> None:
        """Keep the next probe within the longest pause from now."""
        if hasattr(self, "it") and self.it.state is BreakerState.OPEN:
            assert self.it.probe_at_ns <= self.now_ns + LONGEST_MS * 1_000_000

    def _expect_open(self, was: BreakerState, enough: bool) -> None:
        opened = self.it.state is BreakerState.OPEN
        assert opened == (enough or was is not BreakerState.CLOSED)
        if opened:
            self.failures = self.misses = 0
            self.trials.clear()


TestBreakerMachine = BreakerMachine.TestCase


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_pauses_stay_within_bounds(jitter: list[float]) -> None:
    """Every pause lies between half of the first and the longest one, whatever the random gives."""
    values = iter(jitter)
    pauses = Backoff(BackoffOptions(10, LONGEST_MS), lambda: next(values))
    for _ in jitter:
        assert 5_000_000 <= pauses.next_ns() <= LONGEST_MS * 1_000_000
