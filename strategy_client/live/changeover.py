"""Another configuration taken over between two ticks, whole or not at all."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from strategy_client.audit import AuditLog
from strategy_client.bindings import Bindings
from strategy_client.configuration import ConfigurationError, Problem
from strategy_client.executor import StrategyExecutor
from strategy_client.factory import StrategyFactory
from strategy_client.lineup import renew, wanted_models
from strategy_client.live.account import Account
from strategy_client.live.configuration_watch import ConfigurationWatch
from strategy_client.live.journal import Journal
from strategy_client.live.shadow_predictor import ShadowPredictor
from strategy_client.live.silence import SilenceWatch
from strategy_client.processors.limits import shadow_of
from strategy_client.processors.processor import LearnedProcessor
from strategy_client.runner import StrategyRunner
from strategy_client.sinks.fan_out import PAPER, FanOut
from strategy_client.sinks.unrouted import unrouted
from strategy_client.store.store import StrategySet


@dataclass(frozen=True, slots=True)
class Changed:
    """Everything that a change of the configuration reaches."""

    runner: StrategyRunner
    account: Account
    silence: SilenceWatch
    tokens: set[int]
    bindings: Bindings
    shadows: ShadowPredictor
    targets: Sequence[str] = ()
    fan_out: FanOut | None = None
    audit: AuditLog | None = None


class Changeover:
    """Takes over what the watch has found. The loop's thread calls `apply`, between two ticks.

    Which brokers have no sink is told when it is made and after a change, each once for as long as it is so.

    Where a line-up is refused, by a processor that does not support its instrument, say, what runs goes on
    as it was, but for what stops: to stop a strategy works whatever else is wrong, and one that is gone
    stops. None is started, for what was to be started may have other parameters than what is there.
    """

    def __init__(
        self,
        watch: ConfigurationWatch,
        running: StrategySet,
        *,
        factory: StrategyFactory,
        changed: Changed,
        journal: Journal,
        now_ns: Callable[[], int],
    ) -> None:
        self._watch = watch
        self._running = running
        self._factory = factory
        self._changed = changed
        self._journal = journal
        self._now_ns = now_ns
        self._unrouted: tuple[Problem, ...] = ()
        self._tell_unrouted(running)

    def __repr__(self) -> str:
        return f"<Changeover {len(self._running.strategies)} strategies>"

    def apply(self) -> None:
        """Take over what has changed, if anything; never raises."""
        after = self._watch.take()
        if after is None:
            return
        before = self._running
        try:
            self._take(after)
        except ConfigurationError as error:
            self._refused(before, after, error.problems)
        # Told: what a user's processor raises must not end the loop.
        except (Exception, SystemExit) as error:  # noqa: BLE001
            problem = Problem("", f"could not be taken over: {type(error).__name__}: {error}")
            self._journal.problem("configuration", str(problem), error=error)
            self._refused(before, after, (problem,))

    def _refused(self, before: StrategySet, after: StrategySet, problems: Sequence[Problem]) -> None:
        on = {each.strategy_id for each in after.strategies if each.enabled}
        kept = tuple(
            replace(each, enabled=each.enabled and each.strategy_id in on) for each in before.strategies
        )
        running = replace(before, strategies=kept)
        try:
            self._take(running)
        except (Exception, SystemExit) as error:  # noqa: BLE001 told: what is to stop has stopped all the same
            problem = f"what ran could not be put together again: {type(error).__name__}: {error}"
            self._journal.problem("configuration", problem, error=error)
        self._watch.refuse(running, problems)

    def _take(self, after: StrategySet) -> None:
        changed = self._changed
        executors = renew(changed.runner.executors, after.strategies, self._factory)
        wanted = wanted_models(executors, changed.targets)
        if has_shadow(executors):
            changed.shadows.open()
        changed.bindings.change(wanted)
        changed.runner.change(executors)
        self._running = after
        changed.account.run(executors)
        tokens = {token for executor in executors for token in executor.config.instrument_tokens}
        changed.silence.watch(tokens, self._now_ns())
        # The source reads this very set.
        changed.tokens.update(tokens)
        changed.tokens.intersection_update(tokens)
        if changed.fan_out is not None:
            changed.fan_out.set_brokers(brokers_of(executors))
        if changed.audit is not None:
            changed.audit.changed(executors)
        self._tell_unrouted(after)
        self._journal.told(f"configuration taken over: {len(executors)} strategies")

    def _tell_unrouted(self, running: StrategySet) -> None:
        fan_out = self._changed.fan_out
        # Without any sink nobody has asked where signals go; they are counted and recorded.
        sinks = (PAPER,) if fan_out is None else tuple(fan_out.counts)
        told, self._unrouted = self._unrouted, unrouted(running.strategies, sinks)
        for problem in self._unrouted:
            if problem not in told:
                self._journal.problem("sink", problem.text)


def brokers_of(executors: Sequence[StrategyExecutor]) -> dict[str, tuple[str, ...]]:
    """Return the brokers of each strategy, by its id."""
    return {executor.strategy_id: executor.config.active_brokers for executor in executors}


def has_shadow(executors: Sequence[StrategyExecutor]) -> bool:
    """Say whether any of the strategies has a second model beside its own."""
    return any(
        isinstance(executor.processor, LearnedProcessor) and shadow_of(executor.processor) is not None
        for executor in executors
    )
