"""How cost grows: a tick by strategies, instruments and models; a call by models served and by rows.

Each point of a curve takes its turn in each round. The models are one small forest under many names, so that
only their number grows; the sidecars of a curve run side by side.
"""

import contextlib
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import numpy as np
from answered import answered, outcomes_of
from bench import Effort
from finding import Curve, Finding
from interleaved import Subject, interleave
from many_models import FEATURES, make_copies, random_walk
from sidecar_process import sidecar_process

from strategy_client import InferenceClient, MarketTick, StrategyConfig, StrategyFactory
from strategy_client.bindings import Bindings
from strategy_client.lineup import create_executors, wanted_models
from strategy_client.predictor.port import Question
from strategy_client.runner import RunnerOptions, StrategyRunner

SIZES: Final = [1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000]
MODELS: Final = [1, 10, 100, 1_000]
# Cheap points are called more often: what a point takes in a round is about the same.
MOST_CALLS: Final = 200
LEAST_CALLS: Final = 20
CALLS_OVER_SIZES: Final = 40_000
WARM_UP_TICKS: Final = 60
DEADLINE_MS: Final = 5_000.0
TIMEOUT_NS: Final = 5_000_000_000
OPENED: Final = datetime(2024, 8, 8, 13, 30, tzinfo=UTC)
MOMENTUM: Final = {"momentum_threshold": "0.0015", "lookback_periods": 20}

Calls = Mapping[int, Callable[[], Any]]


def ticks(tokens: Sequence[int]) -> Iterator[MarketTick]:
    """Give the ticks of a random walk, on and on, to one instrument after another."""
    prices, turns = itertools.cycle(random_walk(20_000, 11)), itertools.cycle(tokens)
    for second, (price, token) in enumerate(zip(prices, turns, strict=False)):
        yield MarketTick(token, Decimal(str(price)), OPENED + timedelta(seconds=second))


def warm(runner: StrategyRunner, tokens: Sequence[int], known: int) -> Callable[[], Any]:
    """Have a runner process ticks until nothing warms up; return a function that processes the next one."""
    coming = ticks(tokens)
    for tick in itertools.islice(coming, known):
        runner.process(tick)
    return lambda: runner.process(next(coming))


def traditional(count: int) -> Callable[[], Any]:
    """Return a tick of so many traditional strategies on one instrument."""
    configs = [StrategyConfig(f"s{n}", "momentum", dict(MOMENTUM), ("paper",), (1,)) for n in range(count)]
    return warm(StrategyRunner(create_executors(configs, StrategyFactory())), (1,), WARM_UP_TICKS)


def instruments(count: int) -> Callable[[], Any]:
    """Return a tick of one of so many instruments, in turn, each with one strategy."""
    tokens = tuple(range(1, count + 1))
    config = StrategyConfig("s", "momentum", dict(MOMENTUM), ("paper",), tokens)
    runner = StrategyRunner(create_executors([config], StrategyFactory()))
    return warm(runner, tokens, 25 * count)


@contextlib.contextmanager
def learned(client: InferenceClient, models: Sequence[str]) -> Iterator[Callable[[], Any]]:
    """Give a tick of learned strategies on one instrument, one for each model that is named."""
    parameters = {"features": list(FEATURES), "outside_training_range": "count"}
    configs = [
        StrategyConfig(f"s{n}", "ml_momentum", {"model": model, **parameters}, ("paper",), (1,))
        for n, model in enumerate(models)
    ]
    executors = create_executors(configs, StrategyFactory())
    bindings = Bindings(wanted_models(executors), client.describe)
    bindings.start()
    try:
        runner = StrategyRunner(executors, client, bindings, RunnerOptions(deadline_ms=DEADLINE_MS))
        yield warm(runner, (1,), WARM_UP_TICKS)
        outcomes_of(runner)
    finally:
        bindings.close()


def question(model: str, rows: int = 1) -> Question:
    """Return a question of so many rows that all differ."""
    values = np.random.default_rng(1).normal(0, 1e-3, (rows, len(FEATURES)))
    return Question(model, values.astype(np.float32))


def asking(client: InferenceClient, questions: Sequence[Question]) -> Callable[[], Any]:
    """Return a function that asks all in one request and waits for the answers."""
    return lambda: answered(client.submit(questions, time.monotonic_ns() + TIMEOUT_NS).result())


def curve(name: str, calls: Calls, effort: Effort) -> Curve:
    """Measure the points of a curve by turns."""
    subjects = [
        Subject(str(size), call, effort.calls(max(LEAST_CALLS, min(MOST_CALLS, CALLS_OVER_SIZES // size))))
        for size, call in calls.items()
    ]
    series = interleave(subjects, effort.rounds)
    return Curve.through(name, {size: series[str(size)] for size in calls})


def curves_in_process(effort: Effort) -> list[Curve]:
    """Measure what needs no sidecar."""
    sizes = effort.sizes(SIZES)
    return [
        curve("a tick by traditional strategies", {size: traditional(size) for size in sizes}, effort),
        curve("a tick by instruments", {size: instruments(size) for size in sizes}, effort),
    ]


def curves_by_models(effort: Effort) -> list[Curve]:
    """Measure sidecars of so many models side by side, and the largest asked for all of them."""
    sizes = effort.sizes(MODELS)
    with contextlib.ExitStack() as stack:
        clients = {}
        for size in sizes:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            make_copies(folder, [f"m{number}" for number in range(size)])
            sidecar = stack.enter_context(sidecar_process(folder))
            clients[size] = stack.enter_context(InferenceClient(sidecar.target))
            clients[size].wait_ready()
        last = clients[sizes[-1]]
        one = {size: asking(client, [question("m0")]) for size, client in clients.items()}
        every = {size: asking(last, [question(f"m{n}") for n in range(size)]) for size in sizes}
        names = [f"m{number}" for number in range(sizes[-1])]
        ticked = {size: stack.enter_context(learned(last, names[:size])) for size in sizes}
        return [
            curve("a question to one model by models served", one, effort),
            curve("a request to all by models", every, effort),
            curve("a tick by models asked", ticked, effort),
        ]


def curves_by_size(effort: Effort) -> list[Curve]:
    """Measure one sidecar of one model, asked by more strategies and for more rows."""
    sizes = effort.sizes(SIZES)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        make_copies(folder, ["m0"])
        sidecar = stack.enter_context(sidecar_process(folder))
        client = stack.enter_context(InferenceClient(sidecar.target))
        client.wait_ready()
        asked = {size: asking(client, [question("m0", size)]) for size in sizes}
        ticked = {size: stack.enter_context(learned(client, ["m0"] * size)) for size in sizes}
        return [
            curve("a question by rows", asked, effort),
            curve("a tick by learned strategies", ticked, effort),
        ]


def measure(effort: Effort) -> Finding:
    """Measure all curves."""
    curves = [*curves_in_process(effort), *curves_by_size(effort), *curves_by_models(effort)]
    return Finding("growth", "How cost grows", curves=curves)
