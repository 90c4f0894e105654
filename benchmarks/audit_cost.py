"""What the audit log costs: on the tick's way, on a core, and on the disk; beside runs without one.

    python benchmarks/audit_cost.py [--rounds 5] [--ticks 3000]

Four strategies on one instrument, two of them learned and answered in this process, so that a tick is short
and the log's part of it is large; most outcomes are no signal. Runs with a log and without take turns, so
that what else the machine does falls on both. Told is the median over the rounds of

- `tick`: from a tick to its last outcome, median and 99th percentile; beside it the log's thread may hold
  the interpreter;
- `took`: how long the loop's thread is in `AuditLog.took`, median and 99th percentile;
- `core`: processor time of the whole process a tick, the log's thread and its end included;
- bytes a tick in the log's segments.

Once at full speed, which no feed has, and once at a tick a millisecond.
"""

import argparse
import gc
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np

from strategy_client.audit import AuditLog, AuditOptions
from strategy_client.bindings import Bindings
from strategy_client.configuration import StrategyConfig
from strategy_client.events import MarketTick, ProcessedTick
from strategy_client.factory import StrategyFactory
from strategy_client.lineup import create_executors, wanted_models
from strategy_client.runner import StrategyRunner
from strategy_client.testing import FakePredictor

OPENED = datetime(2024, 8, 8, 3, 45, tzinfo=UTC)
FEATURES = ("return_20", "momentum_5", "volatility_20", "price")
PACE_NS = 1_000_000
NS_PER_US = 1_000


@dataclass(frozen=True, slots=True)
class Run:
    """What one run cost, in microseconds a tick, and what the log says of itself."""

    tick_us: float
    tick_p99_us: float
    took_us: float
    took_p99_us: float
    core_us: float
    bytes_a_tick: float
    dropped: int


def strategies() -> list[StrategyConfig]:
    """Return four strategies, most of whose outcomes are no signal."""
    learned = {"confidence_threshold": 0.9, "features": list(FEATURES), "outside_training_range": "count"}

    def make(name: str, kind: str, **parameters: object) -> StrategyConfig:
        return StrategyConfig(name, kind, parameters, ("paper",), (256265,))

    return [
        make("nifty_momentum", "momentum", momentum_threshold="0.01"),
        make("nifty_reversion", "mean_reversion", std_deviation_threshold=4.0),
        make("nifty_learned_a", "ml_momentum", model="up", **learned),
        make("nifty_learned_b", "ml_mean_reversion", model="reversion", **learned),
    ]


def session(count: int) -> list[MarketTick]:
    """Return ticks of a random walk, with what a feed gives of each."""
    prices = np.round(24_000 * np.exp(np.random.default_rng(1).normal(0, 1e-4, count).cumsum()), 2)
    return [
        MarketTick(256265, Decimal(f"{price:.2f}"), OPENED + timedelta(milliseconds=250 * index), "NIFTY 50")
        for index, price in enumerate(prices.tolist())
    ]


def run(ticks: Sequence[MarketTick], pace_ns: int, *, with_log: bool) -> Run:
    """Run the ticks once through new strategies."""
    executors = create_executors(strategies(), StrategyFactory())
    wanted = wanted_models(executors)
    fake = FakePredictor.for_wanted(wanted, [0.48, 0.52])
    bindings = Bindings(wanted, fake.describe)
    bindings.refresh()
    runner = StrategyRunner(executors, fake, bindings)
    tick_ns, took_ns = [], []
    with tempfile.TemporaryDirectory(prefix="tickserve-bench-") as place:
        folder = Path(place)
        gc.collect()
        core_ns = time.process_time_ns()
        with ExitStack() as stack:
            options = AuditOptions(max_queued=len(ticks) + 1, keep_free_bytes=0)
            log = stack.enter_context(AuditLog(folder, executors, bindings, options)) if with_log else None
            due_ns = time.perf_counter_ns()
            for index, tick in enumerate(ticks):
                due_ns += pace_ns
                while pace_ns and (left_ns := due_ns - time.perf_counter_ns()) > 0:
                    time.sleep(left_ns / 1e9)  # the pace of the ticks
                began_ns = time.perf_counter_ns()
                outcomes = runner.process(tick)
                done_ns = time.perf_counter_ns()
                processed = ProcessedTick(index, tick, outcomes, done_ns - began_ns)
                if log is not None:
                    begun_ns = time.perf_counter_ns()
                    log.took(processed)
                    took_ns.append(time.perf_counter_ns() - begun_ns)
                tick_ns.append(done_ns - began_ns)
        core_ns = time.process_time_ns() - core_ns
        size = sum(path.stat().st_size for path in folder.glob("audit-*.jsonl"))
    tick_us, took_us = (np.asarray(each or [0]) / NS_PER_US for each in (tick_ns, took_ns))
    return Run(
        *np.quantile(tick_us, [0.5, 0.99]).tolist(),
        *np.quantile(took_us, [0.5, 0.99]).tolist(),
        core_us=core_ns / NS_PER_US / len(ticks),
        bytes_a_tick=size / len(ticks),
        dropped=log.counts.dropped if log is not None else 0,
    )


def measure(rounds: int, count: int, pace_ns: int) -> dict[str, list[Run]]:
    """Let runs without and with a log take turns."""
    ticks = session(count)
    runs: dict[str, list[Run]] = {"without": [], "with": []}
    for _ in range(rounds):
        for kind, each in runs.items():
            each.append(run(ticks, pace_ns, with_log=kind == "with"))
    return runs


def medians(runs: Sequence[Run]) -> Run:
    """Return the median of each number."""
    return Run(*(np.median([getattr(each, name) for each in runs]).item() for name in Run.__slots__))


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ticks", type=int, default=3_000)
    options = parser.parse_args()
    for title, pace_ns in (("full speed", 0), ("a tick a millisecond", PACE_NS)):
        runs = {kind: medians(each) for kind, each in measure(options.rounds, options.ticks, pace_ns).items()}
        print(f"{title}, {options.ticks} ticks, medians of {options.rounds} rounds")
        for kind, each in runs.items():
            print(
                f"  {kind:8} tick {each.tick_us:7.1f} µs, p99 {each.tick_p99_us:7.1f}; "
                f"took {each.took_us:5.2f} µs, p99 {each.took_p99_us:6.2f}; "
                f"core {each.core_us:7.1f} µs; "
                f"{each.bytes_a_tick:5.0f} bytes a tick; {each.dropped:.0f} dropped"
            )
        print(f"  the log's own: {runs['with'].core_us - runs['without'].core_us:.1f} µs of a core a tick")


if __name__ == "__main__":
    main()
