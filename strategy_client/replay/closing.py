"""A replay's numbers at its end."""

from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from strategy_client.executor import StrategyExecutor
from strategy_client.predictor.connection import PredictorCounts
from strategy_client.predictor.transport import TransportInUse
from strategy_client.processors.processor import LearnedProcessor
from strategy_client.recording.summary import ModelAnswers, Replaced, StrategySummary, Summary, TickLatency
from strategy_client.runner import StrategyRunner
from strategy_client.shadow import ShadowSummary, shadow_id
from strategy_client.sources.bad_line import BadLines

NS_PER_US: Final = 1_000
NS_PER_S: Final = 1_000_000_000


@dataclass(slots=True)
class TickLog:
    """What is written down on the way: ticks by instrument, and the time of each where they go one by one."""

    durations_ns: "array[int]" = field(default_factory=lambda: array("q"))
    by_instrument: Counter[int] = field(default_factory=Counter)

    @property
    def ticks(self) -> int:
        """How many ticks were taken."""
        return self.by_instrument.total()

    def latency(self) -> TickLatency | None:
        """Return how long the ticks took; None where they were asked in windows."""
        if not self.durations_ns:
            return None
        durations_us = np.frombuffer(self.durations_ns, dtype=np.int64) / NS_PER_US
        return TickLatency(*np.quantile(durations_us, [0.5, 0.99, 1.0]).round(1).tolist())


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
    transports: Sequence[TransportInUse],
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
        transports=transports,
    )
