"""What came of a live run so far, in counters that never get fewer and hold no more than there are names."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from strategy_client.events import Outcome, ProcessedTick, ShadowComparison, Signal
from strategy_client.executor import StrategyExecutor
from strategy_client.live.histogram import FINE_BOUNDS_NS, SHOWN_BOUNDS_NS, Histogram
from strategy_client.processors.processor import LearnedProcessor
from strategy_client.shadow import ShadowSummary

NS_PER_US: Final = 1_000
NS_PER_MS: Final = 1_000_000
# Every strategy has it, whether it is named or not.
PAPER: Final = "paper"

ModelKey = tuple[str, int, str]


@dataclass(slots=True)
class StrategyAccount:
    """One strategy since the start, whether it still runs or not.

    `outcomes` has a number for BUY, SELL and each reason, `signals` one for each broker and side, `answers`
    one for each model, version and digest. `inference` is how long answers took. `shadow` is
    None as long as there was no comparison with one.
    """

    strategy_id: str
    strategy_type: str = ""
    learned: bool = False
    brokers: tuple[str, ...] = ()
    running: bool = True
    outcomes: Counter[str] = field(default_factory=Counter)
    signals: Counter[tuple[str, str]] = field(default_factory=Counter)
    answers: Counter[ModelKey] = field(default_factory=Counter)
    inference: Histogram = field(default_factory=lambda: Histogram(SHOWN_BOUNDS_NS))
    last_model: ModelKey | None = None
    shadow: ShadowSummary | None = None

    @property
    def ticks(self) -> int:
        """How many ticks it had an outcome on."""
        return sum(dict(self.outcomes).values())


class Account:
    """Counts what the loop did; a TickListener. The loop's thread writes, any thread reads without a lock."""

    def __init__(self, deadline_ms: float) -> None:
        self.ticks = 0
        self.over_deadline = 0
        self.latency = Histogram(FINE_BOUNDS_NS)
        self.shown_latency = Histogram(SHOWN_BOUNDS_NS)
        self._deadline_ns = int(deadline_ms * NS_PER_MS)
        self._strategies: dict[str, StrategyAccount] = {}

    def __repr__(self) -> str:
        return f"<Account of {self.ticks} ticks, {len(self._strategies)} strategies>"

    @property
    def strategies(self) -> list[StrategyAccount]:
        """Every strategy that has run, in the order of their first appearance."""
        return list(self._strategies.values())

    def run(self, executors: Sequence[StrategyExecutor]) -> None:
        """Take note of the strategies that run from now on; those that do not any more keep their counts."""
        running = {executor.strategy_id: executor for executor in executors}
        for strategy_id, account in self._strategies.items():
            account.running = strategy_id in running
        fresh = {
            strategy_id: StrategyAccount(strategy_id)
            for strategy_id in running
            if strategy_id not in self._strategies
        }
        # A new dict, so that a reader of the one before is not disturbed.
        self._strategies = {**self._strategies, **fresh}
        for strategy_id, executor in running.items():
            account = self._strategies[strategy_id]
            account.strategy_type = executor.config.strategy_type
            account.learned = isinstance(executor.processor, LearnedProcessor)
            account.brokers = tuple(dict.fromkeys((PAPER, *executor.config.active_brokers)))

    def took(self, processed: ProcessedTick) -> None:
        """Count a tick and its outcomes."""
        self.ticks += 1
        self.latency.add(processed.duration_ns)
        self.shown_latency.add(processed.duration_ns)
        if processed.duration_ns > self._deadline_ns:
            self.over_deadline += 1
        for outcome in processed.outcomes:
            self._count(self._strategies[outcome.strategy_id], outcome, processed.duration_ns)

    def compared(self, comparison: ShadowComparison) -> None:
        """Count what a shadow would have done."""
        account = self._strategies[comparison.live.strategy_id]
        if account.shadow is None:
            account.shadow = ShadowSummary()
        account.shadow.took(comparison)

    def _count(self, account: StrategyAccount, outcome: Outcome, duration_ns: int) -> None:
        if isinstance(outcome, Signal):
            account.outcomes[outcome.signal_type] += 1
            for broker in account.brokers:
                account.signals[broker, outcome.signal_type] += 1
        else:
            account.outcomes[outcome.reason.value] += 1
        made_by = outcome.metadata
        if account.learned and "digest" in made_by:
            account.last_model = (made_by["model"], made_by["version"], made_by["digest"])
            account.answers[account.last_model] += 1
            latency_us = made_by.get("latency_us")
            account.inference.add(duration_ns if latency_us is None else latency_us * NS_PER_US)
