"""Drives Alpha Panda's own service with our processors, in a process that can import it, and prints JSON.

    python tests/alpha_panda_child.py TARGET PID      # of a sidecar with the models of fixtures_session

Its service is made without its infrastructure: no broker, no database, no settings. What loads strategies,
takes ticks, validates and emits is its own code.
"""

import asyncio
import json
import os
import signal
import sys
import time
from collections import defaultdict
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import numpy as np
from core.logging import get_error_logger_safe, get_trading_logger_safe
from services.strategy_runner.service import StrategyRunnerService
from strategies.core.factory import StrategyFactory

TOKENS = (101, 105)
OPEN = datetime(2024, 8, 8, 3, 45, tzinfo=UTC)
OURS = "strategy_client.drop_in.create_{}_processor"
PATIENCE_S = 60.0
TARGET, PID = sys.argv[1], int(sys.argv[2])
THEIRS = {"signal_result": "strategies.core.protocols.SignalResult", "validator": "standard"}
LEARNED = {**THEIRS, "endpoint": TARGET, "deadline_ms": 10_000, "confidence_threshold": 0}
MOMENTUM, REVERSION = {"features": ["return_20", "volatility_20"]}, {"features": ["zscore_20"]}
STRATEGIES = {
    "learned": (
        "ml_mean_reversion",
        {**LEARNED, **REVERSION, "model_path": "strategies/models/up_reversion.joblib"},
    ),
    "second": ("MLMomentumProcessor", {**LEARNED, **MOMENTUM, "model": "up_momentum"}),
    "rule": ("momentum", {**THEIRS, "momentum_threshold": "0.001"}),
    "wrong": ("ml_momentum", {**LEARNED, "model": "up_momentun"}),
    "wrong_rule": ("mean_reversion", {**THEIRS, "lookback_periods": "many"}),
    "own": (
        "round_number",
        {**THEIRS, "step": "0.1", "strategy_type": "own_strategy.create_round_number_processor"},
    ),
}

# Its service makes a new factory for each strategy, so each has to know our functions.
make_factory = StrategyFactory.__init__


def make_factory_with_ours(factory):
    """Make one, and register."""
    make_factory(factory)
    for name in ("momentum", "mean_reversion", "ml_momentum", "ml_mean_reversion"):
        factory.register_processor(name, OURS.format(name))
    factory.register_processor("MLMomentumProcessor", OURS.format("ml_momentum"))
    factory.register_processor("round_number", "strategy_client.drop_in.create_processor")


class Producer:
    """Keeps what is emitted."""

    def __init__(self):
        self.sent = []

    async def send(self, **message):
        """Take a message."""
        self.sent.append({name: str(message[name]) for name in ("topic", "key")} | {"data": message["data"]})


class Database:
    """A table of `STRATEGIES`."""

    @asynccontextmanager
    async def get_session(self):
        """Answer the one query with all rows."""
        rows = [
            SimpleNamespace(
                id=name,
                strategy_type=of_type,
                parameters=parameters,
                instruments=list(TOKENS),
                zerodha_trading_enabled=False,
            )
            for name, (of_type, parameters) in STRATEGIES.items()
        ]

        async def execute(_):
            return SimpleNamespace(scalars=lambda: SimpleNamespace(all=lambda: rows))

        yield SimpleNamespace(execute=execute)


def make_service(producer):
    """Make the service with what its own methods use."""
    service = object.__new__(StrategyRunnerService)
    service.logger = get_trading_logger_safe("strategy_runner")
    service.error_logger = get_error_logger_safe("strategy_runner_errors")
    service.db_manager = Database()
    service.market_hours_checker = SimpleNamespace(is_market_open=lambda: True)
    service.metrics_collector = service.prom_metrics = service.last_signal_time = None
    service.active_brokers = ["paper"]
    service.strategy_executors, service.strategy_instruments = {}, {}
    service.instrument_to_strategies = defaultdict(list)
    for counter in ("signals_generated", "strategies_processed", "ml_strategies_loaded"):
        setattr(service, counter, 0)
    service.ml_inference_count = service.ml_inference_errors = 0
    service.orchestrator = SimpleNamespace(producers=[producer])
    return service


async def main():
    """Load, feed a session, pause the sidecar, go on."""
    StrategyFactory.__init__ = make_factory_with_ours
    producer = Producer()
    service = make_service(producer)
    await service._load_strategies()
    second = 0
    # As the sessions that the models were fitted to, so that their features lie in the training range.
    prices = {
        token: np.round(token * np.exp(np.cumsum(np.random.default_rng(token).normal(0, 8e-4, 5_000))), 2)
        for token in TOKENS
    }

    async def feed(count):
        nonlocal second
        for _ in range(count):
            second += 1
            for token in TOKENS:
                price = float(prices[token][second])
                when = (OPEN + timedelta(seconds=second)).isoformat()
                data = {"instrument_token": token, "last_price": price, "timestamp": when, "volume_traded": 9}
                await service._handle_market_tick({"type": "market_tick", "data": data}, "market.ticks")

    processors = {name: each.processor for name, each in service.strategy_executors.items()}
    learned = [processors["learned"], processors["second"]]
    loaded = {name: each.model is not None for name, each in processors.items() if each in learned}
    await feed(60)
    session = list(producer.sent)
    outcomes = {name: dict(each.outcomes) for name, each in processors.items()}
    for each in learned:
        each.outcomes.clear()
    os.kill(PID, signal.SIGSTOP)
    await feed(20)
    paused = {name: dict(processors[name].outcomes) for name in ("learned", "second")}
    os.kill(PID, signal.SIGCONT)
    resumed_until_s = time.monotonic() + PATIENCE_S
    while not any(each.outcomes["BUY"] + each.outcomes["SELL"] for each in learned):
        assert time.monotonic() < resumed_until_s, [
            (name, each.processor, each.processor.last_outcome)
            for name, each in service.strategy_executors.items()
        ]
        await feed(1)
        await asyncio.sleep(0.01)
    sys.stdout.write(
        json.dumps(
            {
                "loaded": loaded,
                "executors": list(service.strategy_executors),
                "sent": session,
                "outcomes": outcomes,
                "paused": paused,
                "errors": service.ml_inference_errors,
                "ticks": 60 * len(TOKENS),
            }
        )
    )


asyncio.run(main())
