"""A replay that is interrupted or killed leaves nothing running behind."""

import contextlib
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from fixtures_session import csv_lines, walk, write_csv, write_models, write_strategies
from sidecars import eventually

from strategy_client.sidecar import leash


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the models once."""
    return write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def temporary() -> Iterator[Path]:
    """Give a temporary folder that shows what is left in it; a socket's path has to be short."""
    with tempfile.TemporaryDirectory(prefix="ts") as folder:
        yield Path(folder)


def start(folder: Path, models: Path, temporary: Path) -> tuple[subprocess.Popen[str], psutil.Process]:
    """Start a replay at the ticks' own pace; return it and its sidecar once it is under way."""
    ticks = write_csv(folder / "t.csv", csv_lines(1, walk(50, 100, 1)))
    options = {
        "--strategies": write_strategies(folder / "s.yaml", [1]),
        "--models": models,
        "--out": folder / "out",
        "--speed": "1.0",
    }
    command = [sys.executable, "-c", "from strategy_client.cli import main; main()", "replay", str(ticks)]
    process = subprocess.Popen(
        [*command, *(str(word) for pair in options.items() for word in pair)],
        env={"TMPDIR": str(temporary)},
        stderr=subprocess.PIPE,
        text=True,
    )
    # The file of outcomes is opened when the sidecar is ready.
    eventually((folder / "out" / "outcomes.jsonl").exists, "the replay is under way")
    (sidecar,) = psutil.Process(process.pid).children()
    return process, sidecar


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_replay_stops_its_sidecar(
    tmp_path: Path, models: Path, temporary: Path, number: signal.Signals
) -> None:
    """Ctrl-C and SIGTERM stop the sidecar, remove its folder, and exit 130 without a traceback.

    The summary of a run before is gone: it would tell of other signals than those that lie beside it.
    """
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "summary.json").write_text("{}")
    process, sidecar = start(tmp_path, models, temporary)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert not sidecar.is_running()
    assert list(temporary.glob("tickserve-*")) == []
    assert "Traceback" not in errors
    assert not (tmp_path / "out" / "summary.json").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its parent's death")
def test_killed_replay_leaves_no_sidecar(tmp_path: Path, models: Path, temporary: Path) -> None:
    """SIGKILL of the replay, which can stop nothing any more, ends its sidecar as well."""
    process, sidecar = start(tmp_path, models, temporary)
    process.kill()
    process.communicate(timeout=30)
    eventually(
        lambda: not sidecar.is_running() or sidecar.status() == psutil.STATUS_ZOMBIE, "the sidecar ended"
    )


def test_sidecar_of_a_parent_that_is_gone_never_starts(tmp_path: Path) -> None:
    """A parent that died before its child could ask to be told of it leaves no orphan either."""
    started = tmp_path / "started"
    command = [
        sys.executable,
        "-I",
        leash.__file__,
        "1",
        sys.executable,
        "-c",
        f"open({str(started)!r}, 'w')",
    ]
    subprocess.run(command, check=True, timeout=30)
    assert not started.exists()


# Stands in for a library whose import takes its time: it says that it has begun, and waits for a signal.
SLOW = "import signal\nprint('begun', flush=True)\nsignal.pause()\nraise SystemExit('went on')\n"


@contextlib.contextmanager
def starting(folder: Path, library: str, before: str = "") -> Iterator[subprocess.Popen[str]]:
    """Start the command line and wait until it imports a library."""
    (folder / f"{library}.py").write_text(SLOW)
    process = subprocess.Popen(
        [sys.executable, "-c", f"{before}from strategy_client.cli import main; main()", "--help"],
        env={"PYTHONPATH": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("library", ["typer", "numpy", "grpc"])
def test_a_start_is_interrupted_without_a_traceback(
    tmp_path: Path, library: str, number: signal.Signals
) -> None:
    """While libraries are still being imported Ctrl-C and SIGTERM end the command: 130, and no word."""
    with starting(tmp_path, library) as process:
        process.send_signal(number)
        assert process.communicate(timeout=30) == ("", "")
        assert process.returncode == 130


def test_who_is_not_to_be_interrupted_is_not(tmp_path: Path) -> None:
    """Where a shell that runs us in the background has Ctrl-C ignored it stays so; SIGTERM does not."""
    ignoring = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); "
    with starting(tmp_path, "typer", ignoring) as process:
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=30) == ("", "")
        assert process.returncode == 130
    told = (
        f"{ignoring}from strategy_client.commands import command_line\n"
        "command_line.app = lambda: print(signal.getsignal(signal.SIGINT))\n"
        "from strategy_client.cli import main; main()"
    )
    ran = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout == f"{signal.SIG_IGN}\n"


def test_an_interrupt_between_import_and_command_has_no_traceback() -> None:
    """Ctrl-C while the arguments are looked at, before any command has them, is 130 and no word as well."""
    code = (
        "from strategy_client.commands import command_line\n"
        "import os, signal\n"
        "command_line.app = lambda: os.kill(os.getpid(), signal.SIGINT) or signal.pause()\n"
        "from strategy_client.cli import main; main()"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (130, "", "")
