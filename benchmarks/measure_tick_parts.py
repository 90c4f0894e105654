"""Where the time of a tick goes: the parts of the tick of `measure_tick`, one after the other.

The parts are timed within whole ticks, so each runs as cold as it does there: between two ticks the processor
has done something else.
"""

import contextlib
import itertools
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Final

from answered import outcomes_of
from bench import Effort
from finding import Finding, Line
from interleaved import NS_PER_US, Series
from many_models import make_models
from measure_tick import EACH, runner_on, ticks
from sidecar_process import sidecar_process

from strategy_client import MarketTick
from strategy_client.runner import StrategyRunner

PARTS: Final = (
    "histories and features take the tick, questions are written",
    "the request is sent",
    "traditional strategies decide",
    "waiting, and reading the answer",
    "outcomes are made of it",
)
TICKS: Final = 300


def time_parts(runner: StrategyRunner, tick: MarketTick) -> list[int]:
    """Process a tick; return how long each part took, in nanoseconds."""
    now_ns = time.perf_counter_ns
    began_ns = now_ns()
    pending = runner.prepare(tick)
    asked_ns = now_ns()
    runner._send(pending)  # noqa: SLF001 - part of `begin`, which is timed as a whole elsewhere
    sent_ns = now_ns()
    runner.decide(pending)
    decided_ns = now_ns()
    answers = pending.answers.result() if pending.answers is not None else ()
    answered_ns = now_ns()
    runner.conclude(pending, answers, {"latency_us": 0, "request_id": ""})
    marks = [began_ns, asked_ns, sent_ns, decided_ns, answered_ns, now_ns()]
    return [after - before for before, after in itertools.pairwise(marks)]


def measure(effort: Effort) -> Finding:
    """Measure the parts, on one model and on many."""
    names = [f"m{number}" for number in range(2 if effort.short else EACH)]
    series: dict[str, Series] = defaultdict(lambda: Series("us"))
    notes = []
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        make_models(folder, names)
        sidecar = stack.enter_context(sidecar_process(folder))
        runners = {
            models: stack.enter_context(runner_on(sidecar.target, names[:models]))[0]
            for models in (1, len(names))
        }
        coming = ticks(skip=10_000)
        for _ in range(effort.rounds):
            for models, runner in runners.items():
                times = [time_parts(runner, next(coming)) for _ in range(effort.calls(TICKS))]
                for part, values in zip(PARTS, zip(*times, strict=True), strict=True):
                    series[f"{models} models: {part}"].values.append(median(values) / NS_PER_US)
        notes = [f"outcomes, {models} models: {outcomes_of(runner)}" for models, runner in runners.items()]
    return Finding(
        "tick_parts",
        "Where the time of a tick goes",
        [Line(name, values) for name, values in series.items()],
        notes=notes,
    )
