"""What is imported when: names come as they are asked for, and no tick waits for one."""

import subprocess
import sys
from pathlib import Path

from fixtures_session import write_models, write_strategies
from sidecars import process_sidecar

SCRIPT = """
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from strategy_client import InferenceClient, MarketTick, Signal, StrategyFactory, StrategyRunner
from strategy_client.bindings import Bindings
from strategy_client.lineup import create_executors, wanted_models
from strategy_client.store.strategy_file import read_strategies

factory = StrategyFactory()
executors = create_executors(read_strategies(Path({strategies!r}), factory).strategies, factory)
wanted = wanted_models(executors)
with InferenceClient({target!r}) as client:
    bindings = Bindings(wanted, client.describe)
    if {asked}:
        client.wait_ready(60.0)
        assert client.wait_connected(60.0)
    bindings.refresh()
    runner = StrategyRunner(executors, client, bindings)
    before = set(sys.modules)
    came = []
    for index in range(60):
        price = Decimal(100 + index % 7)
        opened = datetime(2024, 8, 8, 3, 45, tzinfo=UTC)
        came += runner.process(MarketTick(1, price, opened + timedelta(seconds=index)))
    imported = set(sys.modules) - before
    print(*sorted({{each.strategy_id for each in came if isinstance(each, Signal)}}))
    print(*sorted(imported))
"""


def run(strategies: Path, target: str, *, asked: bool) -> tuple[set[str], set[str]]:
    """Run some ticks in a fresh interpreter; return who gave signals, and what the ticks imported."""
    script = SCRIPT.format(strategies=str(strategies), target=target, asked=asked)
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr
    signalled, imported = ran.stdout.splitlines()
    return set(signalled.split()), set(imported.split())


def test_no_tick_pays_an_import(tmp_path: Path) -> None:
    """What a runner and its client need is there when they are made, be the sidecar there or gone."""
    models = write_models(tmp_path / "models")
    strategies = write_strategies(tmp_path / "s.yaml", [1])
    with process_sidecar(models) as sidecar:
        answered = run(strategies, sidecar.target, asked=True)
    gone = run(strategies, f"unix:{tmp_path}/nobody.sock", asked=False)
    assert (answered[1], gone[1]) == (set(), set())
    assert "learned_momentum" in answered[0]
    assert "momentum" in gone[0]
    assert "learned_momentum" not in gone[0]
