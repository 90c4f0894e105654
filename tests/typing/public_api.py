"""The public surface as a user's type checker sees it; mypy reads this file, nothing runs it."""

from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

import strategy_client
from inference_server.core.contract import Contract
from model_export import ExportReport, export_model
from strategy_client import (
    Endpoints,
    InferenceClient,
    MarketTick,
    OpenedReplay,
    ReplayResult,
    SignalResult,
    StrategyRunner,
    open_replay,
)
from strategy_client.drop_in import Creator, DropInProcessor, creator
from strategy_client.events import NoSignal, Outcome, ProcessedTick, Signal
from strategy_client.predictor.endpoints import EndpointState
from strategy_client.predictor.port import Answer, Prediction, Predictor
from strategy_client.processors.processor import StrategyProcessor
from strategy_client.testing import FakeModel, FakePredictor


class Mine:
    """A processor as a user writes one."""

    def get_strategy_name(self) -> str:
        """Return the name."""
        return "mine"

    def get_required_history_length(self) -> int:
        """Return the number of ticks needed."""
        return 2

    def supports_instrument(self, token: int) -> bool:
        """Take every instrument."""
        return token > 0

    def process_tick(self, tick: MarketTick, history: Sequence[MarketTick]) -> SignalResult | None:
        """Buy what rises."""
        if history[-2].last_price < tick.last_price:
            return SignalResult("BUY", 1.0, 1, Decimal(tick.last_price))
        return None


def a_users_processor_is_one(mine: Mine) -> StrategyProcessor:
    """A class with the four methods is a processor."""
    return mine


def a_tick_gives_outcomes(runner: StrategyRunner, tick: MarketTick) -> None:
    """Each outcome is a signal or a reason."""
    for outcome in assert_type(runner.process(tick), list[Outcome]):
        if isinstance(outcome, Signal):
            assert_type(outcome.price, Decimal)
        else:
            assert_type(outcome, NoSignal)


def a_client_predicts(target: str, rows: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> Predictor:
    """The client answers with a prediction, and is the runner's predictor."""
    with InferenceClient(target) as client:
        assert_type(client.predict("m", rows), Prediction)
        assert_type(client.submit([], 0).result(), Sequence[Answer])
        return client


def several_sidecars_are_one(targets: list[str]) -> Predictor:
    """Endpoints are asked as one client is, and tell how each target is."""
    with Endpoints(targets) as endpoints:
        assert_type(endpoints.predict("m", [1.0]), Prediction)
        assert_type(endpoints.states, tuple[EndpointState, ...])
        return endpoints


def an_export_reports(estimator: object) -> None:
    """An export says where the file is and what it promises."""
    report = export_model(estimator, name="m", models="models", samples=[[1.0]], feature_names=["a"])
    assert_type(report, ExportReport)
    assert_type(report.path, Path)
    assert_type(report.contract, Contract)


def a_replay_is_led_by_hand(path: Path, ticks: list[MarketTick]) -> None:
    """A replay gives processed ticks, and its result arrays."""
    with open_replay(ticks, {"strategy_name": "m"}, models=path) as replay:
        for processed in assert_type(iter(replay), Iterator[ProcessedTick]):
            assert_type(processed.outcomes, Sequence[Outcome])
        result = assert_type(replay.result(), ReplayResult)
    assert_type(result.emitted, Sequence[Signal])
    assert_type(result.signals()["confidence"], NDArray[Any])


def a_test_needs_no_sidecar(ticks: list[MarketTick]) -> None:
    """A FakePredictor takes the sidecar's place."""
    fake = FakePredictor({"m": FakeModel(["return_3"], [0.1, 0.9])})
    assert_type(open_replay(ticks, "strategies.yaml", predictor=fake), OpenedReplay)


def another_runner_makes_processors(config: dict[str, object]) -> None:
    """A function made by `creator` is a factory of Alpha Panda's."""
    create = assert_type(creator("ml_momentum", SignalResult), Creator)
    assert_type(create(config), DropInProcessor)


def no_name_is_taken_on_trust() -> None:
    """Names come when they are asked for, and one that there is not is an error all the same."""
    _ = strategy_client.InferenceClint  # type: ignore[attr-defined]
