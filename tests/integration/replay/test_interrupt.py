"""A replay that is interrupted leaves nothing behind."""

import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest
from fixtures_session import csv_lines, walk, write_csv, write_models, write_strategies
from sidecars import eventually


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_replay_stops_its_sidecar(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C and SIGTERM stop the sidecar, remove its folder, and exit 130 without a traceback."""
    ticks = write_csv(tmp_path / "t.csv", csv_lines(1, walk(50, 100, 1)))
    command = [sys.executable, "-c", "from strategy_client.cli import main; main()", "replay", str(ticks)]
    options = {
        "--strategies": write_strategies(tmp_path / "s.yaml", [1]),
        "--models": write_models(tmp_path / "models"),
        "--out": tmp_path / "out",
        "--speed": "1.0",
    }
    # A temporary folder of its own shows what is left in it; a socket's path has to be short.
    with tempfile.TemporaryDirectory(prefix="ts") as temporary:
        process = subprocess.Popen(
            [*command, *(str(word) for pair in options.items() for word in pair)],
            env={"TMPDIR": temporary},
            stderr=subprocess.PIPE,
            text=True,
        )
        # The file of outcomes is opened when the sidecar is ready.
        eventually((tmp_path / "out" / "outcomes.jsonl").exists, "the replay is under way")
        (sidecar,) = psutil.Process(process.pid).children()
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
        assert process.returncode == 130
        assert not sidecar.is_running()
        assert list(Path(temporary).glob("tickserve-*")) == []
    assert "Traceback" not in errors
