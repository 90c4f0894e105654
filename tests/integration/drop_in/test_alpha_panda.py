"""Alpha Panda's own code with our processors in it, where a folder of it is named."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from fixtures_session import write_model
from readme_blocks import readme_block
from sidecars import process_sidecar

ROOT = Path(__file__).resolve().parents[3]
# ALPHA_PANDA is a checkout of it, ALPHA_PANDA_PYTHON an interpreter that has what it imports.
FOLDER = os.environ.get("ALPHA_PANDA")
PYTHON = os.environ.get("ALPHA_PANDA_PYTHON", sys.executable)
pytestmark = pytest.mark.skipif(not FOLDER, reason="ALPHA_PANDA names no checkout of Alpha Panda")


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What came of a session in its own service."""
    folder = tmp_path_factory.mktemp("alpha_panda")
    (folder / "own_strategy.py").write_text(readme_block("own_strategy.py"), encoding="utf-8")
    path = os.pathsep.join(map(str, (FOLDER, ROOT, ROOT / "proto", folder)))
    write_model(folder / "models", "up_momentum", ("return_20", "volatility_20"))
    write_model(folder / "models", "up_reversion", ("zscore_20",))
    with process_sidecar(folder / "models") as sidecar:
        try:
            done = subprocess.run(
                [PYTHON, ROOT / "tests" / "alpha_panda_child.py", sidecar.target, str(sidecar.process.pid)],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": path},
                capture_output=True,
                text=True,
                check=False,
                timeout=100,
            )
        finally:
            os.kill(sidecar.process.pid, signal.SIGCONT)
    if "ModuleNotFoundError" in done.stderr:
        pytest.skip(f"ALPHA_PANDA_PYTHON lacks a package: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.strip().splitlines()[-1])


def test_its_service_loads_what_can_work(seen: dict[str, Any]) -> None:
    """A learned strategy is healthy there, a wrong one of either kind is left out and ends nothing."""
    assert seen["executors"] == ["learned", "second", "rule", "own"]
    assert seen["loaded"] == {"learned": True, "second": True}


def test_its_service_emits_our_signals(seen: dict[str, Any]) -> None:
    """Signals of rules, models and the README's own strategy pass its validation, with their provenance."""
    data = [each["data"] for each in seen["sent"]]
    assert {each["strategy_id"] for each in data} == {"learned", "second", "rule", "own"}
    assert {each["topic"] for each in seen["sent"]} == {"paper.signals.raw"}
    for each in data:
        assert 0 < each["confidence"] <= 1
        assert each["signal_type"] in ("BUY", "SELL")
        assert abs(float(each["price"]) - each["instrument_token"]) < 2, "the price of another instrument"
    made_by = [each["metadata"] for each in data if each["strategy_id"] in ("learned", "second")]
    assert all(len(each["digest"]) == 64 and each["model"].startswith("up_") for each in made_by)


def test_each_tick_there_has_one_outcome(seen: dict[str, Any]) -> None:
    """Each strategy counts as many outcomes as ticks, 19 of them per instrument while a model warms up."""
    assert {name: sum(counted.values()) for name, counted in seen["outcomes"].items()} == dict.fromkeys(
        ("learned", "second", "rule", "own"), seen["ticks"]
    )
    assert seen["outcomes"]["learned"]["WARMING_UP"] == 2 * 19
    assert seen["errors"] == 0


def test_a_paused_sidecar_costs_its_loop_one_deadline(seen: dict[str, Any]) -> None:
    """H4: with the sidecar paused under two strategies, one tick of one of them waits, the rest go on."""
    together = sum((Counter(counted) for counted in seen["paused"].values()), Counter())
    assert together.total() == 80
    assert together["DEADLINE_EXCEEDED"] == 1
    assert set(together) <= {"DEADLINE_EXCEEDED", "BREAKER_OPEN", "OUT_OF_RANGE"}
