"""The tick loop's inside: a tick in, exactly one outcome for each strategy of its instrument out."""

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from strategy_client.bindings import Bindings
from strategy_client.configuration import ConfigurationError, Problem
from strategy_client.events import MarketTick, Outcome, Reason
from strategy_client.executor import StrategyExecutor
from strategy_client.history import History
from strategy_client.learned import Asked, FeatureRow, LearnedStrategy
from strategy_client.predictor.port import Answer, PendingAnswers, Predictor
from strategy_client.processors.processor import LearnedProcessor
from strategy_client.questions import QuestionSheet

NS_PER_MS: Final = 1_000_000
NS_PER_US: Final = 1_000


@dataclass(frozen=True, slots=True)
class RunnerOptions:
    """`deadline_ms` is the time that all learned strategies of one tick have together."""

    deadline_ms: float = 50.0

    def __post_init__(self) -> None:
        if not 0 < self.deadline_ms < math.inf:
            raise ValueError(f"deadline_ms: expected more than 0, came {self.deadline_ms}")


@dataclass(slots=True)
class TickCounts:
    """Ticks by what was noticed at the edge; an invalid one gives every strategy on it a reason."""

    taken: int = 0
    unknown_instrument: int = 0
    invalid: int = 0
    out_of_order: int = 0


class TraditionalStrategy:
    """A strategy in-process, with its own history of one instrument."""

    __slots__ = ("executor", "history")

    def __init__(self, executor: StrategyExecutor) -> None:
        self.executor = executor
        self.history = History(max(executor.required_history, 1))


@dataclass(slots=True)
class Instrument:
    """Everything that a tick of one instrument touches; `strategies` in the order of their outcomes."""

    strategies: list[TraditionalStrategy | LearnedStrategy] = field(default_factory=list)
    rows: dict[tuple[str, ...], FeatureRow] = field(default_factory=dict)
    newest: datetime | None = None


class PendingTick:
    """A tick between `begin` and `finish`: an outcome, or what was asked, for each strategy."""

    __slots__ = ("answers", "sent_ns", "sheet", "slots", "strategies", "tick")

    def __init__(
        self,
        tick: MarketTick,
        strategies: Sequence[TraditionalStrategy | LearnedStrategy],
        sheet: QuestionSheet | None = None,
    ) -> None:
        self.tick = tick
        self.strategies = strategies
        self.slots: list[Outcome | Asked | None] = [None] * len(strategies)
        self.sheet = QuestionSheet() if sheet is None else sheet
        self.answers: PendingAnswers | None = None
        self.sent_ns = 0


class StrategyRunner:
    """Runs strategies over ticks, one tick at a time, from one thread.

    `predictor` and `bindings` serve the learned strategies; without them these get UNAVAILABLE. `answered_by`
    counts each learned strategy's answers by model, version and digest. Raises ConfigurationError for two
    strategies of one id, or an instrument that a processor does not support.
    """

    def __init__(
        self,
        executors: Sequence[StrategyExecutor],
        predictor: Predictor | None = None,
        bindings: Bindings | None = None,
        options: RunnerOptions | None = None,
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.executors = tuple(executors)
        self.counts = TickCounts()
        self.answered_by: dict[str, Counter[tuple[str, int, str]]] = {}
        self._predictor = predictor
        self._bindings = bindings if predictor is not None else None
        self._deadline_ns = int((options or RunnerOptions()).deadline_ms * NS_PER_MS)
        self._now_ns = now_ns
        self._instruments: dict[int, Instrument] = {}
        seen: set[str] = set()
        for executor in self.executors:
            if executor.strategy_id in seen:
                raise ConfigurationError(Problem("strategy_id", f"{executor.strategy_id!r} stands twice"))
            seen.add(executor.strategy_id)
            for token in executor.config.instrument_tokens:
                self._add(executor, token)

    def __repr__(self) -> str:
        return f"<StrategyRunner {len(self.executors)} strategies, {len(self._instruments)} instruments>"

    @property
    def instruments(self) -> Mapping[int, int]:
        """How many strategies look at each instrument."""
        return {token: len(instrument.strategies) for token, instrument in self._instruments.items()}

    def process(self, tick: MarketTick) -> list[Outcome]:
        """Return one outcome for each strategy of the tick's instrument, in the order of the strategies.

        Never raises for what a tick, a processor or the sidecar does. Waits for the sidecar until the tick's
        deadline at most.
        """
        return self.finish(self.begin(tick))

    def begin(self, tick: MarketTick) -> PendingTick:
        """Take a tick up to the point where only the sidecar's answers are missing.

        The learned strategies' questions leave as one request before the traditional strategies run. A
        second tick may be begun before the first is finished: nothing of a tick depends on an answer.
        """
        pending = self.prepare(tick)
        self._send(pending)
        self.decide(pending)
        return pending

    def prepare(self, tick: MarketTick, sheet: QuestionSheet | None = None) -> PendingTick:
        """Check a tick, take it into histories and features, and write down what is to be asked.

        Several ticks may write on one `sheet`; without one the tick has its own.
        """
        instrument = self._instruments.get(tick.instrument_token)
        if instrument is None:
            self.counts.unknown_instrument += 1
            return PendingTick(tick, (), sheet)
        self.counts.taken += 1
        pending = PendingTick(tick, instrument.strategies, sheet)
        problem = find_problem(tick)
        if problem is not None:
            self.counts.invalid += 1
            pending.slots = [each.executor.no_signal(tick, *problem) for each in instrument.strategies]
            return pending
        if instrument.newest is not None and tick.timestamp < instrument.newest:
            self.counts.out_of_order += 1
        else:
            instrument.newest = tick.timestamp
        price = float(tick.last_price)
        for row in instrument.rows.values():
            row.update(price)
        for slot, strategy in enumerate(instrument.strategies):
            if isinstance(strategy, TraditionalStrategy):
                strategy.history.append(tick)
            if not strategy.executor.enabled:
                pending.slots[slot] = strategy.executor.no_signal(tick, Reason.DISABLED)
            elif isinstance(strategy, LearnedStrategy):
                pending.slots[slot] = strategy.ask(tick, pending.sheet)
        return pending

    def decide(self, pending: PendingTick) -> None:
        """Run the traditional strategies on a prepared tick, before the next one is prepared."""
        for slot, strategy in enumerate(pending.strategies):
            if pending.slots[slot] is None and isinstance(strategy, TraditionalStrategy):
                pending.slots[slot] = strategy.executor.decide(pending.tick, strategy.history)

    def finish(self, pending: PendingTick) -> list[Outcome]:
        """Collect the answers, until the deadline at most, and return the outcomes. Call it once a tick."""
        if pending.answers is None:
            return self.conclude(pending, (), {})
        answers = pending.answers.result()
        latency_us = (self._now_ns() - pending.sent_ns) // NS_PER_US
        provenance = {"latency_us": latency_us, "request_id": pending.answers.request_id}
        return self.conclude(pending, answers, provenance)

    def ask_again(self, pending: PendingTick) -> None:
        """Send what a tick asks as a request of its own, where the one that it shared was not answered."""
        pending.sheet = QuestionSheet()
        for slot, strategy in enumerate(pending.strategies):
            asked = pending.slots[slot]
            if isinstance(asked, Asked) and isinstance(strategy, LearnedStrategy):
                pending.slots[slot] = strategy.ask_again(asked, pending.sheet)
        self._send(pending)

    def conclude(
        self, pending: PendingTick, answers: Sequence[Answer], provenance: Mapping[str, Any]
    ) -> list[Outcome]:
        """Return the outcomes of a tick from the answers to its sheet; once a tick, in their order.

        `provenance` goes into the metadata of what the answers became.
        """
        for slot, strategy in enumerate(pending.strategies):
            asked = pending.slots[slot]
            if isinstance(asked, Asked) and isinstance(strategy, LearnedStrategy):
                answer = answers[asked.place.question]
                pending.slots[slot] = strategy.conclude(pending.tick, asked, answer, provenance)
        outcomes: list[Outcome] = []
        for outcome, strategy in zip(pending.slots, pending.strategies, strict=True):
            if outcome is None or isinstance(outcome, Asked):
                raise RuntimeError(f"{strategy.executor.strategy_id} was left without an outcome")
            strategy.executor.count(outcome)
            outcomes.append(outcome)
        return outcomes

    def _send(self, pending: PendingTick) -> None:
        if pending.sheet and self._predictor is not None:
            pending.sent_ns = self._now_ns()
            pending.answers = self._predictor.submit(
                pending.sheet.questions(), pending.sent_ns + self._deadline_ns
            )

    def _add(self, executor: StrategyExecutor, token: int) -> None:
        processor = executor.processor
        if not processor.supports_instrument(token):
            text = f"strategy {executor.strategy_id!r} does not support instrument {token}"
            raise ConfigurationError(Problem("instrument_tokens", text))
        instrument = self._instruments.setdefault(token, Instrument())
        if isinstance(processor, LearnedProcessor):
            features = processor.features
            row = instrument.rows.setdefault(features.names, FeatureRow(features))
            answered_by = self.answered_by.setdefault(executor.strategy_id, Counter())
            instrument.strategies.append(
                LearnedStrategy(executor, processor, row, self._bindings, answered_by)
            )
        else:
            instrument.strategies.append(TraditionalStrategy(executor))


def find_problem(tick: MarketTick) -> tuple[Reason, str] | None:
    """Return why a tick cannot be used; None when it can."""
    # Three cases: a price that is no finite number, one that nothing trades at, and a time that could be
    # any of twenty-four hours' and so cannot be called fresh.
    try:
        price = float(tick.last_price)
    except (TypeError, ValueError):
        price = math.nan
    if not math.isfinite(price):
        return Reason.NON_FINITE, f"price {tick.last_price}: expected a finite number"
    if price <= 0:
        return Reason.OUT_OF_RANGE, f"price {tick.last_price}: expected more than 0"
    if tick.timestamp.tzinfo is None:
        return Reason.STALE_TICK, f"timestamp {tick.timestamp}: expected one with a time zone"
    return None
