"""`inference-server status`: the calls that a sidecar answered, and how long they took."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path

from onnx_files import score_model
from sidecars import eventually, put, thread_sidecar
from typer.testing import CliRunner

from inference_server import command_line


def run(target: str, *arguments: str) -> str:
    """What a command prints that is to succeed."""
    ran = CliRunner().invoke(command_line.app, [*arguments, "--target", target])
    assert (ran.exit_code, ran.stderr) == (0, "")
    return ran.stdout


def test_calls_are_shown_once_there_are_any(tmp_path: Path) -> None:
    """F5: the counts of status are those of the calls, in the table and in the JSON."""
    put(tmp_path / "models" / "sums.onnx", score_model("sums"))
    with thread_sidecar(tmp_path / "models") as sidecar:
        assert "in all" not in run(sidecar.unix, "status")
        run(sidecar.unix, "predict", "sums", "1", "2", "3")
        run(sidecar.unix, "predict", "sums", "1", "2", "3")
        shown = [line.split() for line in run(sidecar.unix, "status").splitlines()]
        assert ["in", "all", "answered", "failed", "rows", "time", "wait", "run"] in shown
        (calls,) = [line for line in shown if line[:1] == ["sums:1"] and line[-1] in {"us", "ms", "s"}]
        assert calls[1:4] == ["2", "0", "2"]
        (counted,) = json.loads(run(sidecar.unix, "status", "--json"))["model_stats"]
        assert (counted["inference_count"], counted["inference_stats"]["success"]["count"]) == ("2", "2")


def test_a_watch_shows_rates_from_the_second_look(tmp_path: Path) -> None:
    """E9: totals first, then what came a second, as text where piped; it goes on without the sidecar."""
    put(tmp_path / "models" / "sums.onnx", score_model("sums"))
    with contextlib.ExitStack() as stack:
        running = stack.enter_context(contextlib.ExitStack())
        sidecar = running.enter_context(thread_sidecar(tmp_path / "models"))
        run(sidecar.unix, "predict", "sums", "1", "2", "3")
        log = tmp_path / "watched"
        with log.open("wb") as stream:
            watching = subprocess.Popen(
                [sys.executable, "-m", "inference_server", "status", "--watch", "--target", sidecar.unix],
                stdout=stream,
            )
        stack.callback(watching.wait)
        stack.callback(watching.kill)
        eventually(lambda: "a second" in log.read_text(), "a second look is shown")
        running.close()
        eventually(lambda: "; trying again" in log.read_text(), "it goes on without the sidecar")
        text = log.read_text()
        assert text.index("in all") < text.index("a second")
        assert "\x1b" not in text
