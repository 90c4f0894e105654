"""A client to be measured: learned strategies on one instrument process ticks; little else is imported.

    python benchmarks/learned_client.py TARGET MODEL STRATEGIES FEATURE...

Writes an empty line once it has processed some ticks, and ends when its input does.
"""

import math
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final

from strategy_client import InferenceClient, MarketTick, StrategyConfig, StrategyFactory
from strategy_client.bindings import Bindings
from strategy_client.lineup import create_executors, wanted_models
from strategy_client.runner import RunnerOptions, StrategyRunner

TICKS: Final = 200
DEADLINE_MS: Final = 5_000.0
OPENED: Final = datetime(2024, 8, 8, 13, 30, tzinfo=UTC)


def main() -> None:
    """Process ticks, and wait."""
    target, model, count, *features = sys.argv[1:]
    parameters = {"model": model, "features": features, "outside_training_range": "count"}
    configs = [
        StrategyConfig(f"s{number}", "ml_momentum", dict(parameters), ("paper",), (1,))
        for number in range(int(count))
    ]
    executors = create_executors(configs, StrategyFactory())
    with InferenceClient(target) as client:
        client.wait_ready()
        bindings = Bindings(wanted_models(executors), client.describe)
        bindings.start()
        try:
            runner = StrategyRunner(executors, client, bindings, RunnerOptions(deadline_ms=DEADLINE_MS))
            for second in range(TICKS):
                price = Decimal(round(6560 + 4 * math.sin(second / 7))) / 4
                runner.process(MarketTick(1, price, OPENED + timedelta(seconds=second)))
            print(flush=True)
            sys.stdin.read()
        finally:
            bindings.close()


if __name__ == "__main__":
    main()
