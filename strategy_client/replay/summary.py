"""What came of a replay, in numbers that add up."""

from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from strategy_client.drift import DriftCounts
from strategy_client.edge import TickCounts
from strategy_client.executor import StrategyExecutor
from strategy_client.predictor.connection import PredictorCounts
from strategy_client.processors.processor import LearnedProcessor
from strategy_client.runner import StrategyRunner
from strategy_client.shadow import ShadowSummary, shadow_id
from strategy_client.sources.bad_line import BadLines

NS_PER_US: Final = 1_000
NS_PER_S: Final = 1_000_000_000
SIDES: Final = ("BUY", "SELL")


@dataclass(frozen=True, slots=True)
class ModelAnswers:
    """How often one version of a model answered a strategy."""

    model: str
    version: int
    digest: str
    answers: int


@dataclass(frozen=True, slots=True)
class StrategySummary:
    """One strategy. `outcomes` has a number for BUY, SELL and each reason; together they are `ticks`.

    `drift` is None where no feature left its training range, `shadow` where it has none.
    """

    strategy_id: str
    strategy_type: str
    learned: bool
    ticks: int
    outcomes: Mapping[str, int]
    models: Sequence[ModelAnswers]
    drift: DriftCounts | None = None
    shadow: ShadowSummary | None = None
    shadow_models: Sequence[ModelAnswers] = ()

    def more(self) -> dict[str, Any]:
        """Return as plain values what there is of drift and of a shadow."""
        more: dict[str, Any] = {}
        if self.drift is not None:
            more["drift"] = {
                "rows": self.drift.rows,
                "below": dict(sorted(self.drift.below.items())),
                "above": dict(sorted(self.drift.above.items())),
            }
        if self.shadow is not None:
            models = [asdict(model) for model in self.shadow_models]
            more["shadow"] = {**self.shadow.to_json(), "models": models}
        return more

    @property
    def signals(self) -> int:
        """How many of its ticks gave a signal."""
        return sum(self.outcomes.get(side, 0) for side in SIDES)

    @property
    def reasons(self) -> Mapping[str, int]:
        """How many of its ticks gave no signal, by reason, the most frequent first."""
        named = {name: count for name, count in self.outcomes.items() if name not in SIDES}
        return dict(sorted(named.items(), key=lambda item: (-item[1], item[0])))


@dataclass(frozen=True, slots=True)
class Replaced:
    """A model file that was replaced just before a tick. `refused` is why it was not taken, if so."""

    tick: int
    model: str
    file: str
    digest: str
    refused: str


@dataclass(slots=True)
class TickLog:
    """What is written down on the way: ticks by instrument, and the time of each where they go one by one."""

    durations_ns: "array[int]" = field(default_factory=lambda: array("q"))
    by_instrument: Counter[int] = field(default_factory=Counter)

    @property
    def ticks(self) -> int:
        """How many ticks were taken."""
        return self.by_instrument.total()

    def latency(self) -> "TickLatency | None":
        """Return how long the ticks took; None where they were asked in windows."""
        if not self.durations_ns:
            return None
        durations_us = np.frombuffer(self.durations_ns, dtype=np.int64) / NS_PER_US
        return TickLatency(*np.quantile(durations_us, [0.5, 0.99, 1.0]).round(1).tolist())


@dataclass(frozen=True, slots=True)
class TickLatency:
    """From a tick's begin to its last outcome, in microseconds."""

    median: float
    p99: float
    longest: float


@dataclass(frozen=True, slots=True)
class Summary:
    """A replay. `calls` is None where no strategy needed a sidecar.

    `window` is how many ticks were asked together at most; `latency_us` is None where it is more than one.
    """

    ticks: int
    seconds: float
    window: int
    latency_us: TickLatency | None
    strategies: Sequence[StrategySummary]
    edge: TickCounts
    bad_lines: int
    first_bad_lines: Sequence[str]
    replaced: Sequence[Replaced]
    calls: PredictorCounts | None
    files: Mapping[str, str]
    deadline_ms: float | None = None

    @property
    def ticks_per_s(self) -> float:
        """Ticks a second, the whole loop counted."""
        return self.ticks / self.seconds if self.seconds else 0.0

    @property
    def latency_note(self) -> str | None:
        """Why no tick has a latency; None where each has."""
        if self.latency_us:
            return None
        return f"Ticks were asked {self.window} at a time, so none has a latency of its own: see --window 1."

    @property
    def failed_calls(self) -> int:
        """Requests to the sidecar that failed or were not answered in time."""
        return self.calls.failed + self.calls.missed if self.calls else 0

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "ticks": self.ticks,
            "seconds": round(self.seconds, 3),
            "ticks_per_s": round(self.ticks_per_s, 1),
            "window": self.window,
            "deadline_ms": self.deadline_ms,
            "tick_latency_us": asdict(self.latency_us) if self.latency_us else None,
            "latency_note": self.latency_note,
            "strategies": {
                each.strategy_id: {
                    "type": each.strategy_type,
                    "learned": each.learned,
                    "ticks": each.ticks,
                    "signals": each.signals,
                    "outcomes": dict(each.outcomes),
                    "models": [asdict(model) for model in each.models],
                    **each.more(),
                }
                for each in self.strategies
            },
            "edge": asdict(self.edge),
            "bad_lines": {"count": self.bad_lines, "first": list(self.first_bad_lines)},
            "replaced": [asdict(each) for each in self.replaced],
            "calls": asdict(self.calls) if self.calls else None,
            "failed_calls": self.failed_calls,
            "files": dict(self.files),
        }


def summarise_strategy(
    executor: StrategyExecutor, log: TickLog, runner: StrategyRunner, shadow: ShadowSummary | None
) -> StrategySummary:
    """Return what came of one strategy; its ticks are counted apart from its outcomes."""
    strategy_id = executor.strategy_id
    drift = runner.drift.get(strategy_id)
    return StrategySummary(
        strategy_id=executor.strategy_id,
        strategy_type=executor.config.strategy_type,
        learned=isinstance(executor.processor, LearnedProcessor),
        ticks=sum(log.by_instrument[token] for token in executor.config.instrument_tokens),
        outcomes=dict(sorted(executor.counts.items())),
        models=_answers(runner, strategy_id),
        drift=drift if drift is not None and (drift.below or drift.above) else None,
        shadow=shadow,
        shadow_models=_answers(runner, shadow_id(strategy_id)),
    )


def _answers(runner: StrategyRunner, name: str) -> list[ModelAnswers]:
    return [ModelAnswers(*key, count) for key, count in runner.answered_by.get(name, Counter()).items()]


def summarise(
    runner: StrategyRunner,
    log: TickLog,
    *,
    shadows: Mapping[str, ShadowSummary],
    deadline_ms: float,
    bad: BadLines,
    replaced: Sequence[Replaced],
    calls: PredictorCounts | None,
    duration_ns: int,
    window: int,
    files: Mapping[str, Path],
) -> Summary:
    """Put a replay's numbers together."""
    return Summary(
        ticks=log.ticks,
        seconds=duration_ns / NS_PER_S,
        window=window,
        latency_us=log.latency(),
        strategies=[
            summarise_strategy(executor, log, runner, shadows.get(executor.strategy_id))
            for executor in runner.executors
        ],
        edge=runner.counts,
        bad_lines=bad.count,
        first_bad_lines=[str(line) for line in bad.first],
        replaced=replaced,
        calls=calls,
        files={name: str(path) for name, path in files.items()},
        deadline_ms=deadline_ms,
    )
