"""What one traditional strategy costs a tick, beside an empty method call; and the look-up of an instrument.

The cost of one is the marginal one: two runners process the same ticks by turns, one with a hundred more
strategies than the other; the median difference is divided by a hundred. The strategies share what they look
at, as they do in use. The empty method is called as a processor is, with a tick and a history, and so is a
class, for each strategy owes an outcome: an empty outcome is a part that none can do without.

The look-up is that of a whole tick of a runner that has so many instruments: of an unknown one, which is
nothing but the look-up, and of a known one with one strategy.
"""

import itertools
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from bench import Effort
from finding import Finding, Line, compare
from interleaved import Series, Subject, interleave_measures, time_calls
from many_models import random_walk

from strategy_client import MarketTick, StrategyConfig, StrategyFactory
from strategy_client.events import NoSignal, Reason
from strategy_client.lineup import create_executors
from strategy_client.runner import StrategyRunner

FEW: Final = 100
MANY: Final = 200
TICKS: Final = 400
WARM_UP_TICKS: Final = 60
BATCH: Final = 1_000
BATCHES: Final = 200
NS_PER_US: Final = 1_000
OPENED: Final = datetime(2024, 8, 8, 13, 30, tzinfo=UTC)
EMPTY: Final = "empty method call"
OUTCOME: Final = "one outcome made, HOLD"
SIZES: Final = [1, 10, 100, 1_000, 10_000]
UNKNOWN: Final = 999_999_999
# Of each type: parameters by which no tick gives a signal, and others by which nearly each does.
PARAMETERS: Final = {
    ("momentum", "HOLD"): {"momentum_threshold": 5.0, "lookback_periods": 20},
    ("momentum", "signals"): {"momentum_threshold": 1e-9, "lookback_periods": 20},
    ("mean_reversion", "HOLD"): {"std_deviation_threshold": 50.0, "lookback_periods": 20},
    ("mean_reversion", "signals"): {"std_deviation_threshold": 1e-6, "lookback_periods": 20},
}


class Empty:
    """A processor that does nothing."""

    def process_tick(self, tick: MarketTick, history: Sequence[MarketTick]) -> None:
        """Do nothing."""


def empty_call_us(batches: int) -> float:
    """Return what an empty method call takes in a loop, the median of batches."""
    processor, tick, history = Empty(), next(ticks()), ()

    def call() -> None:
        for _ in range(BATCH):
            processor.process_tick(tick, history)

    return batch_us(call, batches)


def outcome_us(batches: int) -> float:
    """Return what it takes to make the outcome that says HOLD, in a loop."""
    tick = next(ticks())

    def make() -> None:
        for _ in range(BATCH):
            NoSignal("momentum_1", tick.instrument_token, tick.timestamp, Reason.HOLD, "", {})

    return batch_us(make, batches)


def batch_us(batch: Callable[[], None], batches: int) -> float:
    """Return the median of what one of a batch takes."""
    return time_calls(Subject("", batch, batches))[0] / BATCH


def ticks(token: int = 1) -> Iterator[MarketTick]:
    """Give the ticks of a random walk, on and on; each price differs from the one before."""
    second = 0
    before = 0.0
    for price in itertools.cycle(random_walk(20_000, 11)):
        if price != before:
            second += 1
            yield MarketTick(token, Decimal(str(price)), OPENED + timedelta(seconds=second))
        before = price


def runner_of(kind: str, parameters: dict[str, Any], count: int, instruments: int = 1) -> StrategyRunner:
    """Return a runner with so many strategies on each of so many instruments."""
    tokens = tuple(range(1, instruments + 1))
    configs = [
        StrategyConfig(f"{kind}_{number}", kind, dict(parameters), ("paper",), tokens)
        for number in range(count)
    ]
    return StrategyRunner(create_executors(configs, StrategyFactory()))


def tick_us(runner: StrategyRunner, coming: Iterator[MarketTick], count: int) -> float:
    """Return the median of what ticks take. They are made before, so that only processing is timed."""
    made, process, times_ns = list(itertools.islice(coming, count)), runner.process, []
    for tick in made:
        began_ns = time.perf_counter_ns()
        process(tick)
        times_ns.append(time.perf_counter_ns() - began_ns)
    return statistics.median(times_ns) / NS_PER_US


def warm(runner: StrategyRunner) -> Iterator[MarketTick]:
    """Have a runner process ticks until nothing warms up any more; return those that come after."""
    coming = ticks()
    for tick in itertools.islice(coming, WARM_UP_TICKS):
        runner.process(tick)
    return coming


class Marginal:
    """The cost of one strategy more of a kind."""

    def __init__(self, kind: str, parameters: dict[str, Any], count: int) -> None:
        self._few = runner_of(kind, parameters, FEW)
        self._many = runner_of(kind, parameters, MANY)
        self._coming = warm(self._few)
        warm(self._many)
        self._count = count

    def us(self) -> float:
        """Return it, over the next ticks; what others take of the machine hits both runners of a tick."""
        few, many, now_ns = self._few.process, self._many.process, time.perf_counter_ns
        differences_ns = []
        for tick in itertools.islice(self._coming, self._count):
            began_ns = now_ns()
            few(tick)
            between_ns = now_ns()
            many(tick)
            differences_ns.append(now_ns() - between_ns - (between_ns - began_ns))
        return statistics.median(differences_ns) / (MANY - FEW) / NS_PER_US

    def signals(self) -> float:
        """Return which part of the outcomes were signals, 0 to 1."""
        counts = sum((executor.counts for executor in self._many.executors), Counter[str]())
        return (counts["BUY"] + counts["SELL"]) / counts.total()


def look_up_us(instruments: int, count: int, *, known: bool) -> Callable[[], float]:
    """Return a function that gives the cost of a tick among so many instruments."""
    runner = runner_of("momentum", PARAMETERS["momentum", "HOLD"], 1, instruments)
    if known:
        coming = warm(runner)
        return lambda: tick_us(runner, coming, count)
    made = list(itertools.islice(ticks(UNKNOWN), count))
    return lambda: tick_us(runner, iter(made), count)


def look_up_lines(effort: Effort, *, known: bool) -> list[Line]:
    """Measure the look-up for each number of instruments, all in the same rounds."""
    sizes = effort.sizes(SIZES)
    told = "a known instrument" if known else "an unknown instrument"
    names = {size: f"tick of {told}, {size:,} instruments" for size in sizes}
    calls = effort.calls(TICKS)
    series = interleave_measures(
        {name: look_up_us(size, calls, known=known) for size, name in names.items()}, effort.rounds, "us"
    )
    last = names[sizes[-1]]
    return [
        compare(name, series, names[sizes[0]], bound=1.2 if name == last else None)
        for name in list(names.values())[1:]
    ]


def measure(effort: Effort) -> Finding:
    """Measure strategies and the look-up."""
    calls = effort.calls(TICKS)
    names = {key: f"one {key[0]} strategy on a tick, {key[1]}" for key in PARAMETERS}
    marginals = {names[key]: Marginal(key[0], given, calls) for key, given in PARAMETERS.items()}
    series: dict[str, Series] = dict(
        interleave_measures(
            {
                EMPTY: lambda: empty_call_us(effort.calls(BATCHES)),
                OUTCOME: lambda: outcome_us(effort.calls(BATCHES)),
                **{name: marginal.us for name, marginal in marginals.items()},
            },
            effort.rounds,
            "us",
        )
    )
    return Finding(
        "strategy",
        "One traditional strategy on a tick",
        [
            *(compare(names[key], series, EMPTY, bound=10) for key in PARAMETERS),
            compare(OUTCOME, series, EMPTY),
            *look_up_lines(effort, known=False),
            *look_up_lines(effort, known=True),
        ],
        notes=[
            f"an empty method call takes {series[EMPTY].median * NS_PER_US:.0f} ns",
            *(f"{name}: {each.signals():.0%} of the outcomes" for name, each in marginals.items()),
        ],
    )
