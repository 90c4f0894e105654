"""A tick of 50 traditional and 50 learned strategies, beside a bare unary echo and scikit-learn in-process.

All strategies look at one instrument. The learned ones ask one model, or each a model of its own; what they
ask within a tick goes as one request. scikit-learn stands for strategies that hold their estimators: one
`predict_proba` of one row for each, on features that are worked out already.
"""

import contextlib
import itertools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from answered import outcomes_of
from bench import Effort
from echo import echo_server, unary_call
from finding import AT_LEAST, AT_MOST, Finding, compare
from interleaved import Series, Subject, interleave
from many_models import FEATURES, fit, make_models, random_walk
from sidecar_process import sidecar_process

from strategy_client import InferenceClient, MarketTick, StrategyConfig, StrategyFactory
from strategy_client.bindings import Bindings
from strategy_client.lineup import create_executors, wanted_models
from strategy_client.runner import RunnerOptions, StrategyRunner

EACH: Final = 50
DEADLINE_MS: Final = 5_000.0
WARM_UP_TICKS: Final = 200
OPENED: Final = datetime(2024, 8, 8, 13, 30, tzinfo=UTC)
ECHO: Final = "bare unary echo, Unix socket"
ONE: Final = f"tick: {EACH} traditional + {EACH} learned, one model"
MANY: Final = f"tick: {EACH} traditional + {EACH} learned, {EACH} models"
SKLEARN: Final = f"scikit-learn in-process, {EACH} x one row"
CLAIMED: Final = "Alpha Panda's claim for such a tick"
CLAIMED_US: Final = 5_030.0


def strategies(learned_models: Sequence[str], each: int = EACH) -> list[StrategyConfig]:
    """Return as many traditional as learned strategies; the models are taken in turn."""

    def make(name: str, kind: str, parameters: dict[str, Any]) -> StrategyConfig:
        return StrategyConfig(name, kind, parameters, ("paper",), (1,))

    traditional = [
        make(f"momentum_{n}", "momentum", {"momentum_threshold": "0.0015", "lookback_periods": 5 + n % 20})
        if n % 2
        else make(
            f"reversion_{n}",
            "mean_reversion",
            {"std_deviation_threshold": 2.5, "lookback_periods": 5 + n % 20},
        )
        for n in range(each)
    ]
    learned = [
        make(
            f"learned_{n}",
            "ml_momentum",
            {
                "model": learned_models[n % len(learned_models)],
                "features": list(FEATURES),
                "outside_training_range": "count",
            },
        )
        for n in range(each)
    ]
    return traditional + learned


def ticks(skip: int = 0) -> Iterator[MarketTick]:
    """Give the ticks of a random walk, one a second, on and on; from the one after `skip`."""
    prices = itertools.cycle(random_walk(100_000, 11))
    for second, price in itertools.islice(enumerate(prices), skip, None):
        yield MarketTick(1, Decimal(str(price)), OPENED + timedelta(seconds=second))


@contextlib.contextmanager
def runner_on(target: str, models: Sequence[str]) -> Iterator[tuple[StrategyRunner, Callable[[], Any]]]:
    """Give a runner of a sidecar that serves the models, and a function that processes the next tick."""
    with InferenceClient(target) as client:
        client.wait_ready()
        executors = create_executors(strategies(models), StrategyFactory())
        bindings = Bindings(wanted_models(executors), client.describe)
        bindings.start()
        try:
            runner = StrategyRunner(executors, client, bindings, RunnerOptions(deadline_ms=DEADLINE_MS))
            coming = ticks()
            for _ in range(WARM_UP_TICKS):
                runner.process(next(coming))
            yield runner, lambda: runner.process(next(coming))
        finally:
            bindings.close()


def measure(effort: Effort) -> Finding:
    """Measure ticks."""
    names = [f"m{number}" for number in range(EACH)]
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        make_models(folder, names[:2] if effort.short else names)
        served = sorted(path.stem for path in folder.glob("*.onnx"))
        sidecar = stack.enter_context(sidecar_process(folder))
        one, tick_one = stack.enter_context(runner_on(sidecar.target, served[:1]))
        many, tick_many = stack.enter_context(runner_on(sidecar.target, served))
        echo = stack.enter_context(unary_call(stack.enter_context(echo_server()), b"x" * 100))
        forest, rows = fit(0)
        forest.n_jobs = 1
        row = rows[:1]

        def predict_in_process() -> None:
            for _ in range(EACH):
                forest.predict_proba(row)

        series = dict(
            interleave(
                [
                    Subject(ECHO, echo, effort.calls(300)),
                    Subject(ONE, tick_one, effort.calls(300)),
                    Subject(MANY, tick_many, effort.calls(200)),
                    Subject(SKLEARN, predict_in_process, effort.calls(5)),
                ],
                effort.rounds,
            )
        )
        series[CLAIMED] = Series("us", [CLAIMED_US] * effort.rounds)
        return Finding(
            "tick",
            "A tick of many strategies",
            [
                compare(ONE, series, ECHO, bound=1.3, sense=AT_MOST),
                compare(ONE, series, CLAIMED, bound=0.2, sense=AT_MOST),
                compare(MANY, series, ECHO, bound=2.0, sense=AT_MOST),
                compare(SKLEARN, series, ONE, bound=40.0, sense=AT_LEAST),
            ],
            notes=[
                f"outcomes, one model: {outcomes_of(one)}",
                f"outcomes, {EACH} models: {outcomes_of(many)}",
            ],
        )
