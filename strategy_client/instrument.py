"""Everything that a tick of one instrument touches."""

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from strategy_client.binding import BindingsView
from strategy_client.configuration import ConfigurationError, Problem, describe_error
from strategy_client.drift import DriftCounts
from strategy_client.emission import Emission
from strategy_client.events import MarketTick, Outcome, Reason
from strategy_client.executor import StrategyExecutor
from strategy_client.feature_row import FeatureRow
from strategy_client.features import FeatureSet
from strategy_client.history import History
from strategy_client.learned import LearnedStrategy
from strategy_client.peers import Peers
from strategy_client.processors.limits import shadow_of
from strategy_client.processors.processor import LearnedProcessor
from strategy_client.shadow import ShadowStrategy, shadow_id

Key = tuple[str, int]


class TraditionalStrategy:
    """A strategy in-process, and the history of one instrument that it looks at."""

    __slots__ = ("_warm", "emission", "executor", "history")

    def __init__(self, executor: StrategyExecutor, history: History) -> None:
        self.executor = executor
        self.emission: Emission | None = None
        self.history = history
        self._warm = False

    def decide(self, tick: MarketTick) -> Outcome:
        """Run its processor on a tick that is in the history already."""
        executor = self.executor
        if not self._warm:
            self._warm = len(self.history) >= executor.required_history
            if not self._warm:
                return executor.no_signal(tick, Reason.WARMING_UP)
        return executor.decide(tick, self.history)


Strategy = TraditionalStrategy | LearnedStrategy


@dataclass(slots=True)
class Instrument:
    """`strategies` in the order of their outcomes; `newest_s` the time of the newest tick.

    `traditional` and `learned` are the same strategies by kind, each with its place in that order, the
    learned ones by their peerage.
    """

    strategies: list[Strategy] = field(default_factory=list)
    traditional: list[tuple[int, TraditionalStrategy]] = field(default_factory=list)
    learned: dict[Hashable, Peers] = field(default_factory=dict)
    histories: list[History] = field(default_factory=list)
    shadows: list[ShadowStrategy] = field(default_factory=list)
    rows: dict[tuple[str, ...], FeatureRow] = field(default_factory=dict)
    newest_s: float = -math.inf

    def take(self, tick: MarketTick, price: float) -> None:
        """Take a tick that passed the edge into histories; its features are worked out apart."""
        for history in self.histories:
            history.append(tick, price)

    def add(self, strategy: Strategy) -> None:
        """Take another strategy, after those that are there."""
        place = len(self.strategies)
        self.strategies.append(strategy)
        if isinstance(strategy, LearnedStrategy):
            self.learned.setdefault(strategy.peerage, Peers()).join(place, strategy)
            return
        self.traditional.append((place, strategy))
        if not any(strategy.history is history for history in self.histories):
            self.histories.append(strategy.history)

    def look_ahead(self, prices: Sequence[float]) -> None:
        """Work out the features of ticks that passed the edge, and are taken next, one after another."""
        for row in self.rows.values():
            row.look_ahead(prices)

    def work_out(self, price: float) -> None:
        """Take a tick that passed the edge into features, once and before the next one is taken."""
        for row in self.rows.values():
            row.update(price)


class LineUp:
    """The instruments of some strategies, and what is counted of the learned ones.

    Made over the line-up before it, it takes over what stays: the histories and rules of emission of each
    executor that is the same object, the features that are still looked at, the newest time of each
    instrument. That line-up stays whole, for the ticks that began with it. Raises ConfigurationError for two
    strategies of one id, an instrument that stands twice or that a processor does not support.
    """

    def __init__(
        self,
        executors: Sequence[StrategyExecutor],
        bindings: BindingsView | None,
        shadow_bindings: BindingsView | None,
        before: "LineUp | None" = None,
    ) -> None:
        self.executors = tuple(executors)
        self.instruments: dict[int, Instrument] = {}
        self.answered_by: dict[str, Counter[tuple[str, int, str]]] = {}
        self.drift: dict[str, DriftCounts] = {}
        self._bindings = bindings
        self._shadow_bindings = shadow_bindings
        self._before = before
        self._stay = frozenset(() if before is None else before.executors)
        self.shadows: dict[str, tuple[StrategyExecutor, LearnedProcessor]] = {}
        self._begun: dict[tuple[int, int], History] = {}
        self._check()
        for executor in self.executors:
            self._count(executor)
        kept = {} if before is None else before.find_strategies()
        for executor in self.executors:
            for token in executor.config.instrument_tokens:
                self._add(executor, token, kept.get((executor.strategy_id, token)))
        self._before = None

    def find_strategies(self) -> Mapping[Key, tuple[Strategy, ShadowStrategy | None]]:
        """Return each strategy, and its shadow, by its id and instrument."""
        return {
            (strategy.executor.strategy_id, token): (
                strategy,
                next((shadow for shadow in instrument.shadows if shadow.slot == slot), None),
            )
            for token, instrument in self.instruments.items()
            for slot, strategy in enumerate(instrument.strategies)
        }

    def _check(self) -> None:
        seen: set[str] = set()
        for executor in self.executors:
            names = [executor.strategy_id]
            if _shadow_logic(executor) is not None:
                names.append(shadow_id(executor.strategy_id))
            for name in names:
                if name in seen:
                    raise ConfigurationError(Problem("strategy_id", f"{name!r} stands twice"))
                seen.add(name)
            taken: set[int] = set()
            for token in executor.config.instrument_tokens:
                twice = f"names instrument {token} twice" if token in taken else ""
                taken.add(token)
                problem = twice or _find_token_problem(executor, token)
                if problem:
                    text = f"strategy {executor.strategy_id!r} {problem}"
                    raise ConfigurationError(Problem("instrument_tokens", text))

    def _count(self, executor: StrategyExecutor) -> None:
        logic = executor.processor
        if not isinstance(logic, LearnedProcessor):
            return
        stays = executor in self._stay
        self._count_answers(executor.strategy_id, logic, stays=stays)
        second = shadow_of(logic)
        if second is None:
            return
        name = shadow_id(executor.strategy_id)
        config = replace(executor.config, strategy_id=name)
        if stays and self._before is not None:
            beside, _ = self._before.shadows[executor.strategy_id]
            beside.reconfigure(config)
        else:
            beside = StrategyExecutor(second, config)
        self.shadows[executor.strategy_id] = beside, second
        self._count_answers(name, second, stays=stays)

    def _count_answers(self, strategy_id: str, logic: LearnedProcessor, *, stays: bool) -> None:
        before = self._before
        answered_by = before.answered_by.get(strategy_id) if before else None
        self.answered_by[strategy_id] = Counter() if answered_by is None else answered_by
        drift = before.drift[strategy_id] if before and stays else DriftCounts(logic.features.names)
        self.drift[strategy_id] = drift

    def _add(
        self,
        executor: StrategyExecutor,
        token: int,
        kept: tuple[Strategy, ShadowStrategy | None] | None,
    ) -> None:
        instrument = self.instruments.get(token)
        if instrument is None:
            instrument = self.instruments[token] = Instrument()
            earlier = self._before.instruments.get(token) if self._before else None
            if earlier is not None:
                instrument.newest_s = earlier.newest_s
        strategy, shadow = kept or (None, None)
        if strategy is None or strategy.executor is not executor:
            strategy = shadow = None
        logic = executor.processor
        if isinstance(logic, LearnedProcessor):
            strategy = self._learned(token, executor, logic, strategy, self._bindings)
            beside = self.shadows.get(executor.strategy_id)
            if beside is not None:
                again = None if shadow is None else shadow.strategy
                learned = self._learned(token, *beside, again, self._shadow_bindings)
                instrument.shadows.append(ShadowStrategy(len(instrument.strategies), learned))
        elif strategy is None:
            strategy = TraditionalStrategy(executor, self._history(executor, token))
        if executor.emission is None:
            strategy.emission = None
        instrument.add(strategy)

    def _history(self, executor: StrategyExecutor, token: int) -> History:
        # Strategies that begin together and look back equally far see the same ticks: one history is enough.
        # One that is disabled asks for its features later. By when they begin they differ in the last bits,
        # which are not to hang on what other strategies there are: it has a history of its own.
        capacity = max(executor.required_history, 1)
        if not executor.enabled:
            return History(capacity)
        history = self._begun.get((token, capacity))
        if history is None:
            history = self._begun[token, capacity] = History(capacity)
        return history

    def _learned(
        self,
        token: int,
        executor: StrategyExecutor,
        logic: LearnedProcessor,
        kept: Strategy | None,
        bindings: BindingsView | None,
    ) -> LearnedStrategy:
        row = self._row(token, logic.features)
        if isinstance(kept, LearnedStrategy):
            return kept
        name = executor.strategy_id
        return LearnedStrategy(
            executor, logic, row, bindings, answered_by=self.answered_by[name], drift=self.drift[name]
        )

    def _row(self, token: int, features: FeatureSet) -> FeatureRow:
        rows = self.instruments[token].rows
        row = rows.get(features.names)
        if row is None:
            earlier = self._before.instruments.get(token) if self._before else None
            row = earlier.rows.get(features.names) if earlier else None
            row = rows[features.names] = FeatureRow(features) if row is None else row
        return row


def _find_token_problem(executor: StrategyExecutor, token: int) -> str:
    try:
        supported = executor.processor.supports_instrument(token)
    except Exception as error:  # noqa: BLE001 whatever a user's processor raises is what is wrong with it
        return f"cannot say whether it supports instrument {token}: {describe_error(error)}"
    return "" if supported else f"does not support instrument {token}"


def _shadow_logic(executor: StrategyExecutor) -> LearnedProcessor | None:
    logic = executor.processor
    return shadow_of(logic) if isinstance(logic, LearnedProcessor) else None
