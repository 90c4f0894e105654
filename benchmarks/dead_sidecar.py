"""What a dead sidecar costs the traditional strategies of a runner that has learned ones too.

    python benchmarks/dead_sidecar.py [--rounds N] [--ticks N]         # or: make dead-sidecar

Runners take the same ticks, each in a process of its own, in turns: two without learned strategies,
which show how much two runs of one thing differ; one whose learned strategies ask a predictor that
refuses at once, which is what these cost by themselves (features, questions, outcomes); one whose
sidecar answers, one whose sidecar was killed and one whose sidecar was paused by SIGSTOP after the first
turn.

Prints the time of a tick until the last traditional strategy has decided, and until all outcomes are
there: the median of each turn, over all turns after the first, and its ratio to the run without learned
strategies and to the one that is refused at once, turn by turn. Exits 1 if a traditional strategy said
anything else than without learned ones, or if a dead sidecar cost more than one tick its deadline.
"""

import argparse
import contextlib
import hashlib
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import numpy as np

from strategy_client import InferenceClient, MarketTick, Signal, SignalResult, StrategyConfig, StrategyFactory
from strategy_client.bindings import Bindings
from strategy_client.events import Reason
from strategy_client.executor import StrategyExecutor
from strategy_client.lineup import create_executors, wanted_models
from strategy_client.predictor.port import PendingAnswers, Question, Refusal
from strategy_client.predictor.settled_answers import SettledAnswers
from strategy_client.runner import RunnerOptions, StrategyRunner
from strategy_client.sidecar.own_sidecar import OwnSidecar

ROOT: Final = Path(__file__).resolve().parent.parent
OUT: Final = Path("build/benchmarks/dead_sidecar.json")
ALONE: Final = "no learned strategies"
AGAIN: Final = "no learned strategies, again"
NOBODY: Final = "learned, refused at once"
ALIVE: Final = "sidecar answers"
KILLED: Final = "sidecar killed"
PAUSED: Final = "sidecar paused"
RUNNERS: Final = (ALONE, AGAIN, NOBODY, ALIVE, KILLED, PAUSED)
TRADITIONAL: Final = 20
DEADLINE_MS: Final = 50.0
WARM_UP_TICKS: Final = 200
NS_PER_US: Final = 1_000
OPENED: Final = datetime(2024, 8, 8, 13, 30, tzinfo=UTC)
LEARNED: Final = (
    ("ml_momentum", "es_momentum", ["return_50", "momentum_5", "volatility_50"]),
    ("ml_mean_reversion", "es_reversion", ["zscore_50", "zscore_20", "volatility_50"]),
)


class Mark:
    """The last of the traditional strategies: it notes when it is asked, and says nothing."""

    decided_ns = 0

    def process_tick(self, tick: MarketTick, history: Sequence[MarketTick]) -> SignalResult | None:  # noqa: ARG002 - the protocol's
        """Note the time."""
        self.decided_ns = time.perf_counter_ns()
        return None

    def get_required_history_length(self) -> int:
        """Return 1."""
        return 1

    def supports_instrument(self, token: int) -> bool:  # noqa: ARG002 - the protocol's
        """Take any."""
        return True

    def get_strategy_name(self) -> str:
        """Return "mark"."""
        return "mark"


class Nobody:
    """A predictor that refuses at once: what learned strategies cost without a sidecar."""

    def submit(self, questions: Sequence[Question], deadline_ns: int) -> PendingAnswers:  # noqa: ARG002 - the port's
        """Refuse."""
        return SettledAnswers([Refusal(Reason.BREAKER_OPEN, "nobody")] * len(questions))

    def close(self) -> None:
        """Nothing is open."""


def strategies(*, learned: bool) -> list[StrategyConfig]:
    """Return traditional strategies of many lookbacks, and the learned ones of `make run` where wanted."""

    def make(name: str, kind: str, parameters: dict[str, Any]) -> StrategyConfig:
        return StrategyConfig(name, kind, parameters, ("paper",), (1,))

    configs = [
        make(f"momentum_{n}", "momentum", {"momentum_threshold": "0.0003", "lookback_periods": 5 + n})
        if n % 2
        else make(
            f"reversion_{n}", "mean_reversion", {"std_deviation_threshold": 1.5, "lookback_periods": 5 + n}
        )
        for n in range(TRADITIONAL)
    ]
    if learned:
        configs += [make(kind, kind, {"model": model, "features": names}) for kind, model, names in LEARNED]
    return configs


def session(count: int) -> list[MarketTick]:
    """Return the ticks of a random walk, one a second."""
    steps = np.random.default_rng(11).normal(0, 2e-4, count)
    prices = np.round(1640 * np.exp(np.cumsum(steps)) * 4) / 4
    return [
        MarketTick(1, Decimal(str(price)), OPENED + timedelta(seconds=second))
        for second, price in enumerate(prices.tolist())
    ]


@dataclass(slots=True)
class Turn:
    """What one runner made of some ticks; times are medians in microseconds."""

    decided_us: float
    tick_us: float
    slowest_us: float
    traditional: str
    signals: int
    ticks_late: int = 0
    learned: dict[str, int] = field(default_factory=dict)


def run_turn(runner: StrategyRunner, mark: Mark, ticks: Sequence[MarketTick]) -> Turn:
    """Process some ticks; the digest is over all that the traditional strategies said."""
    decided_ns, tick_ns, said, learned, signals = [], [], hashlib.sha256(), Counter[str](), 0
    ticks_late = 0
    names = {kind for kind, _, _ in LEARNED}
    for tick in ticks:
        began_ns = time.perf_counter_ns()
        outcomes = runner.process(tick)
        tick_ns.append(time.perf_counter_ns() - began_ns)
        decided_ns.append(mark.decided_ns - began_ns)
        late = {getattr(outcome, "reason", None) for outcome in outcomes}
        ticks_late += Reason.DEADLINE_EXCEEDED in late
        for outcome in outcomes:
            told = outcome.signal_type if isinstance(outcome, Signal) else outcome.reason.value
            if outcome.strategy_id in names:
                learned[told] += 1
            else:
                signals += isinstance(outcome, Signal)
                confidence = outcome.confidence if isinstance(outcome, Signal) else ""
                said.update(f"{outcome.strategy_id} {outcome.timestamp} {told} {confidence}\n".encode())
    return Turn(
        statistics.median(decided_ns) / NS_PER_US,
        statistics.median(tick_ns) / NS_PER_US,
        max(tick_ns) / NS_PER_US,
        said.hexdigest(),
        signals,
        ticks_late,
        dict(learned),
    )


def be_runner(name: str, target: str, ticks_a_turn: int, turns: int, deadline_ms: float) -> None:
    """Be one of the processes: a turn for each line that comes, told as a line of JSON."""
    ticks = session(WARM_UP_TICKS + ticks_a_turn * turns)
    with contextlib.ExitStack() as stack:
        executors = create_executors(strategies(learned=bool(target)), StrategyFactory())
        mark = Mark()
        executors.insert(
            TRADITIONAL, StrategyExecutor(mark, StrategyConfig("mark", "mark", {}, ("paper",), (1,)))
        )
        client: InferenceClient | Nobody | None = None
        bindings = None
        if target:
            asked = client = stack.enter_context(InferenceClient(target))
            asked.wait_ready()
            bindings = Bindings(wanted_models(executors), asked.describe)
            stack.callback(bindings.close)
            bindings.start()
            if name == NOBODY:
                client = Nobody()
        runner = StrategyRunner(executors, client, bindings, RunnerOptions(deadline_ms=deadline_ms))
        run_turn(runner, mark, ticks[:WARM_UP_TICKS])
        print(json.dumps("ready"), flush=True)
        for turn, _ in enumerate(sys.stdin):
            first = WARM_UP_TICKS + turn * ticks_a_turn
            came = run_turn(runner, mark, ticks[first : first + ticks_a_turn])
            print(json.dumps({name: getattr(came, name) for name in Turn.__slots__}), flush=True)


class RunnerProcess:
    """One runner, which runs only in its turns."""

    def __init__(self, name: str, target: str, ticks_a_turn: int, turns: int, deadline_ms: float) -> None:
        command = [sys.executable, __file__, "--runner", name, "--target", target]
        command += ["--ticks", str(ticks_a_turn), "--rounds", str(turns), "--deadline-ms", str(deadline_ms)]
        self._process = subprocess.Popen(  # noqa: S603 - this file
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def hear(self) -> Any:
        """Return the next thing that it says."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a runner ended with {self._process.wait()}")
        return json.loads(line)

    def turn(self) -> Turn:
        """Let it run for one turn."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return Turn(**self.hear())

    def close(self) -> None:
        """End it."""
        self._process.communicate(timeout=30)


@contextlib.contextmanager
def runners(
    names: Sequence[str], ticks_a_turn: int, turns: int, deadline_ms: float
) -> Iterator[tuple[dict[str, RunnerProcess], dict[str, OwnSidecar]]]:
    """Start the runners, and a sidecar for each that has learned strategies; all are ready and warm."""
    with contextlib.ExitStack() as stack:
        sidecars, processes = {}, {}
        for name in names:
            if name not in (ALONE, AGAIN):
                sidecars[name] = stack.enter_context(OwnSidecar(ROOT / "models"))
                with InferenceClient(sidecars[name].target) as client:
                    sidecars[name].wait_ready(client)
        for name in names:
            target = sidecars[name].target if name in sidecars else ""
            processes[name] = RunnerProcess(name, target, ticks_a_turn, turns, deadline_ms)
            stack.callback(processes[name].close)
        for process in processes.values():
            process.hear()
        yield processes, sidecars


def measure(
    names: Sequence[str], ticks_a_turn: int, rounds: int, deadline_ms: float = DEADLINE_MS
) -> dict[str, list[Turn]]:
    """Return the turns of each runner; the first is before anything dies."""
    with (
        runners(names, ticks_a_turn, rounds + 1, deadline_ms) as (processes, sidecars),
        contextlib.ExitStack() as stack,
    ):
        turns = {name: [process.turn()] for name, process in processes.items()}
        if KILLED in sidecars:
            sidecars[KILLED].kill()
        if PAUSED in sidecars and (paused := sidecars[PAUSED].pid) is not None:
            os.kill(paused, signal.SIGSTOP)
            stack.callback(os.kill, paused, signal.SIGCONT)
        order = list(processes)
        for _ in range(rounds):
            for name in order:
                turns[name].append(processes[name].turn())
            order = [*order[1:], order[0]]
    return turns


def faults(turns: dict[str, list[Turn]]) -> list[str]:
    """Return what is not as it has to be."""
    wrong = []
    for name, came in turns.items():
        if [turn.traditional for turn in came] != [turn.traditional for turn in turns[ALONE]]:
            wrong.append(f"{name}: the traditional strategies said something else than without learned ones")
    for name in (each for each in (NOBODY, KILLED, PAUSED) if each in turns):
        reasons = sum((Counter(turn.learned) for turn in turns[name][1:]), Counter())
        paid = sum(turn.ticks_late for turn in turns[name][1:])
        if paid > 1:
            wrong.append(f"{name}: {paid} ticks paid a deadline, expected one at most")
        if not reasons["BREAKER_OPEN"]:
            wrong.append(f"{name}: the breaker never opened: {dict(reasons)}")
    return wrong


def figures(turns: dict[str, list[Turn]]) -> list[dict[str, Any]]:
    """Return a row for each runner and each of the two times."""
    rows = []
    for what in ("decided_us", "tick_us"):
        for name, came in turns.items():
            values = [getattr(turn, what) for turn in came[1:]]
            floors = {
                floor: [getattr(turn, what) for turn in turns.get(floor, came)[1:]]
                for floor in (ALONE, NOBODY)
            }
            rows.append(
                {
                    "what": what,
                    "runner": name,
                    "median_us": statistics.median(values),
                    "lowest_us": min(values),
                    "highest_us": max(values),
                    "to_alone": _ratio(values, floors[ALONE]),
                    "to_nobody": _ratio(values, floors[NOBODY]),
                    "slowest_ms": max(turn.slowest_us for turn in came[1:]) / NS_PER_US,
                    "learned": dict(sum((Counter(turn.learned) for turn in came[1:]), Counter())),
                }
            )
    return rows


def _ratio(values: Sequence[float], floor: Sequence[float]) -> float:
    return statistics.median(value / under for value, under in zip(values, floor, strict=True))


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Print the figures."""
    titles = {
        "decided_us": "until the last traditional strategy has decided",
        "tick_us": "until all outcomes are there",
    }
    for what, title in titles.items():
        print(f"\n{title:<50}{'median us':>10}{'lowest':>8}{'highest':>9}{'x alone':>9}{'x refused':>11}")
        for row in rows:
            if row["what"] == what:
                print(
                    f"  {row['runner']:<48}{row['median_us']:>10.1f}{row['lowest_us']:>8.1f}"
                    f"{row['highest_us']:>9.1f}{row['to_alone']:>9.2f}{row['to_nobody']:>11.2f}"
                )
    print()
    for row in rows:
        if row["what"] == "tick_us" and row["learned"]:
            told = ", ".join(f"{count} {reason}" for reason, count in sorted(row["learned"].items()))
            print(f"{row['runner']}: learned strategies said {told}; slowest tick {row['slowest_ms']:.1f} ms")


def main() -> None:
    """Measure, print, keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--ticks", type=int, default=1_000, help="in each turn")
    parser.add_argument("--deadline-ms", type=float, default=DEADLINE_MS, help="of a tick")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--runner", help=argparse.SUPPRESS)
    parser.add_argument("--target", default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.runner:
        be_runner(
            arguments.runner, arguments.target, arguments.ticks, arguments.rounds, arguments.deadline_ms
        )
        return
    turns = measure(RUNNERS, arguments.ticks, arguments.rounds, arguments.deadline_ms)
    rows, wrong = figures(turns), faults(turns)
    show(rows)
    signals = sum(turn.signals for turn in turns[ALONE])
    print(f"traditional signals: {signals}, the same in all runs: {'no' if wrong else 'yes'}")
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(
        json.dumps({"figures": rows, "faults": wrong}, indent=1) + "\n", encoding="utf-8"
    )
    for text in wrong:
        print(text)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
