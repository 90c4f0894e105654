"""What there is to see of a live run: the table, the metrics and the probes read it, and change nothing."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from strategy_client.audit import AuditLog
from strategy_client.binding import Binding, Bound, Unbound
from strategy_client.bindings import Bindings
from strategy_client.executor import StrategyExecutor
from strategy_client.live.account import Account
from strategy_client.live.configuration_watch import ConfigurationWatch
from strategy_client.live.intake import Intake
from strategy_client.live.journal import Journal
from strategy_client.live.loop import LiveLoop
from strategy_client.live.recorder import Recorder
from strategy_client.live.silence import SilenceWatch
from strategy_client.predictor.connection import PredictorCounts
from strategy_client.predictor.endpoints import Endpoints, EndpointState
from strategy_client.runner import StrategyRunner
from strategy_client.sinks.fan_out import FanOut
from strategy_client.sinks.queued_sink import SinkCounts
from strategy_client.sources.bad_line import BadLines

NS_PER_S: Final = 1_000_000_000
# More than a tick takes with every processor at its slowest; the loop looks around four times a second.
ALIVE_S: Final = 10.0
DIGEST_DIGITS: Final = 12


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a run that are looked at."""

    runner: StrategyRunner
    intake: Intake
    account: Account
    silence: SilenceWatch
    journal: Journal
    watch: ConfigurationWatch
    bindings: Bindings
    predictor: Endpoints
    bad: BadLines
    recorder: Recorder | None = None
    fan_out: FanOut | None = None
    audit: AuditLog | None = None


class View:
    """Reads the counters of a run's parts.

    What only a lock of the tick path protects, the state and counts of sidecars and sinks, is read by
    `refresh`, which the loop itself calls; everybody else gets what it found. Any thread may read.
    """

    def __init__(
        self, parts: Parts, deadline_ms: float, now_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self.parts = parts
        self.deadline_ms = deadline_ms
        self.loop: LiveLoop | None = None
        self.stopping = False
        self.loads: Counter[tuple[str, bool]] = Counter()
        self._now_ns = now_ns
        self._began_ns = now_ns()
        self._bound: Mapping[str, Binding] = {}
        self.calls: Mapping[str, PredictorCounts] = {}
        self.endpoints: Sequence[EndpointState] = ()
        self.edge: Mapping[str, int] = {}
        self.sinks: Mapping[str, SinkCounts] = {}
        self.refresh()

    def __repr__(self) -> str:
        return f"<View of {self.parts.runner!r}>"

    @property
    def seconds(self) -> float:
        """How long the run has been."""
        return (self._now_ns() - self._began_ns) / NS_PER_S

    @property
    def heartbeat_age_s(self) -> float:
        """How long ago the loop last came round."""
        return (self._now_ns() - self.loop.heartbeat_ns) / NS_PER_S if self.loop else 0.0

    @property
    def alive(self) -> bool:
        """Whether the loop still comes round."""
        return self.heartbeat_age_s < ALIVE_S

    @property
    def executors(self) -> Sequence[StrategyExecutor]:
        """The strategies that run now."""
        return self.parts.runner.executors

    @property
    def bindings(self) -> Mapping[str, Binding]:
        """What each learned strategy is bound to, by its id."""
        return self.parts.bindings.all

    @property
    def call_counts(self) -> PredictorCounts:
        """What happened to the requests, over all sidecars."""
        total: Counter[str] = Counter()
        for counts in self.calls.values():
            total.update(asdict(counts))
        return PredictorCounts(**total)

    def refresh(self) -> None:
        """Look at what has a lock; the loop's thread only."""
        self.calls = dict(self.parts.predictor.counts_by_target)
        self.endpoints = self.parts.predictor.states
        if self.parts.fan_out is not None:
            self.sinks = dict(self.parts.fan_out.counts)
        self.edge = asdict(self.parts.runner.counts)
        bound = self.bindings
        for strategy_id, binding in bound.items():
            before = self._bound.get(strategy_id)
            # The first word of a strategy that was never bound is that it is not bound yet.
            if before is None and isinstance(binding, Unbound):
                continue
            if binding != before:
                self._tell(strategy_id, binding)
        self._bound = bound

    def _tell(self, strategy_id: str, binding: Binding) -> None:
        self.loads[strategy_id, isinstance(binding, Bound)] += 1
        if isinstance(binding, Bound):
            digest = binding.digest[:DIGEST_DIGITS]
            self.parts.journal.told(f"strategy {strategy_id}: bound to version {binding.version}, {digest}")
        else:
            text = f"strategy {strategy_id}: {binding.reason.value}: {binding.detail}"
            self.parts.journal.problem("model", text)

    def degraded(self) -> list[str]:
        """Return what does not run as it should, a line each; empty when all does."""
        parts = self.parts
        lines = []
        if not self.alive:
            lines.append(f"the loop has not come round for {self.heartbeat_age_s:.0f} s")
        if self.stopping or parts.intake.ended:
            lines.append("the run is ending")
        if parts.intake.problem:
            lines.append(parts.intake.problem)
        if parts.silence.feed_silent:
            lines.append("the feed is silent")
        enabled = {executor.strategy_id for executor in self.executors if executor.enabled}
        lines += [
            f"strategy {strategy_id}: {binding.reason.value} {binding.detail}"
            for strategy_id, binding in self.bindings.items()
            if isinstance(binding, Unbound) and strategy_id in enabled
        ]
        lines += [f"configuration: {problem}" for problem in parts.watch.problems]
        if parts.recorder is not None and parts.recorder.problem:
            lines.append(f"recording: {parts.recorder.problem}")
        return lines
