"""The public surface as a user's type checker sees it; mypy reads this file, nothing runs it."""

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import assert_type

import numpy as np

from inference_server.core.contract import Contract
from model_export import ExportReport, export_model
from strategy_client import InferenceClient, MarketTick, SignalResult, StrategyRunner
from strategy_client.events import NoSignal, Outcome, Signal
from strategy_client.predictor.port import Answer, Prediction, Predictor
from strategy_client.processors.processor import StrategyProcessor


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


def an_export_reports(estimator: object) -> None:
    """An export says where the file is and what it promises."""
    report = export_model(estimator, name="m", models="models", samples=[[1.0]], feature_names=["a"])
    assert_type(report, ExportReport)
    assert_type(report.path, Path)
    assert_type(report.contract, Contract)
