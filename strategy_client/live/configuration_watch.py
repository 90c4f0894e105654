"""Changes of the configuration, read on a thread of their own and handed to the loop between two ticks."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from strategy_client.configuration import ConfigurationError, Problem
from strategy_client.live.journal import Journal
from strategy_client.store.store import StrategySet, StrategyStore

# How long one wait for a change lasts, and so how late a request to read again is heard.
WAIT_S: Final = 0.5
STOP_S: Final = 2.0
NS_PER_S: Final = 1_000_000_000


class ConfigurationWatch:
    """Reads the store again whenever it may have changed, or somebody asks.

    `prepare` is called with what runs and what is to run, and `wake` when the loop may take it. What is wrong
    is told once, and again when it is something else. A store that hangs or raises holds up this thread and
    nothing else.
    """

    def __init__(
        self,
        store: StrategyStore,
        running: StrategySet,
        journal: Journal,
        *,
        wake: Callable[[], None],
        prepare: Callable[[StrategySet, StrategySet], None] = lambda _before, _after: None,
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.problems: Sequence[Problem] = running.problems
        self.changes = 0
        self._store = store
        self._running = running
        self._journal = journal
        self._wake = wake
        self._prepare = prepare
        self._now_ns = now_ns
        self._read_ns = now_ns()
        self._pending: StrategySet | None = None
        self._lock = threading.Lock()
        self._asked = threading.Event()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="tickserve-configuration", daemon=True)

    def __repr__(self) -> str:
        return (
            f"<ConfigurationWatch {len(self._running.strategies)} strategies, {len(self.problems)} problems>"
        )

    @property
    def age_s(self) -> float:
        """How long ago the configuration was last read."""
        return (self._now_ns() - self._read_ns) / NS_PER_S

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def ask(self) -> None:
        """Have it read again soon; returns at once."""
        self._asked.set()

    def take(self) -> StrategySet | None:
        """Return what is to run from now on; None where nothing has changed since."""
        if self._pending is None:
            return None
        with self._lock:
            pending, self._pending = self._pending, None
            return pending

    def refuse(self, running: StrategySet, problems: Sequence[Problem]) -> None:
        """Take note that the loop could not run what it took, and what it runs instead."""
        with self._lock:
            self._running = running
        self._tell(problems)

    def close(self, timeout_s: float = STOP_S) -> None:
        """Stop watching; a store that hangs is left behind."""
        self._closed.set()
        self._asked.set()
        self._store.close()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def look(self) -> None:
        """Read the store now, and keep for the loop what has changed."""
        with self._lock:
            before = self._running
        after = self._store.read_again(before)
        self._read_ns = self._now_ns()
        if after.strategies != before.strategies:
            self._make_ready(before, after)
        with self._lock:
            changed = self._running is before and after.strategies != before.strategies
            if changed:
                self.changes += 1
                self._running = self._pending = after
        self._tell(after.problems)
        if changed:
            self._wake()

    def _make_ready(self, before: StrategySet, after: StrategySet) -> None:
        try:
            self._prepare(before, after)
        except ConfigurationError as error:
            # The loop finds the same when it takes the change, and knows what then runs.
            self._journal.told(f"configuration: {error}")

    def _tell(self, problems: Sequence[Problem]) -> None:
        told, self.problems = frozenset(self.problems), tuple(problems)
        for problem in self.problems:
            if problem not in told:
                self._journal.problem("configuration", str(problem))
        if told and not self.problems:
            self._journal.told("configuration: nothing is wrong with it any more")

    def _watch(self) -> None:
        while not self._closed.is_set():
            try:
                asked = self._asked.is_set()
                self._asked.clear()
                if asked or self._store.wait_for_change(WAIT_S):
                    self.look()
            # Told: whatever a store or a user's code in it raises, the loop goes on with what it has.
            except (Exception, SystemExit) as error:  # noqa: BLE001
                self._journal.problem(
                    "configuration", f"the store failed: {type(error).__name__}: {error}", error=error
                )
                # What changed meanwhile is not told a second time.
                self._asked.set()
                self._closed.wait(WAIT_S)
