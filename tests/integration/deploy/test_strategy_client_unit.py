"""The client's systemd unit: what systemd's own tools say of it, and that a run lives within its bounds."""

import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
from fixtures_session import csv_lines, walk, write_csv, write_strategies

from strategy_client.audit.folder import lock_folder
from strategy_client.audit.log import CLOSE_TIMEOUT_S
from strategy_client.live.intake import STOP_S
from strategy_client.live.session import DEADLINE_MS, FLUSH_S, LAST_TICK_S
from strategy_client.recording.folder_lock import FolderLock

ROOT = Path(__file__).resolve().parents[3]
SYSTEMD = ROOT / "deploy" / "systemd"
UNIT = SYSTEMD / "strategy-client.service"
PROGRAM = Path(sys.executable).with_name("strategy-client")
# In tenths: 0 is the tightest, 100 has no bound at all.
MOST_EXPOSED = 14
DENY_WRITE_EXECUTE = """
import ctypes, os, sys
if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0):  # PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN
    sys.exit("this kernel has no PR_SET_MDWE")
os.execv(sys.argv[1], sys.argv[1:])
"""

needs_analyze = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not here")


def settings() -> dict[str, list[str]]:
    """The unit's settings: each value by key, in order."""
    found: dict[str, list[str]] = defaultdict(list)
    for key, value in re.findall(r"^(\w+)=((?:.*\\\n)*.*)$", UNIT.read_text(), re.MULTILINE):
        found[key].append(value)
    return found


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze."""
    command = ["systemd-analyze", "--no-pager", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def calls_of(name: str) -> set[str]:
    """A system call, or those of a group."""
    if not name.startswith("@"):
        return {name}
    told = [line.strip() for line in analyze("syscall-filter", name).stdout.splitlines()[1:]]
    return set().union(*(calls_of(line) for line in told if line and not line.startswith("#")))


def allowed_calls() -> set[str]:
    """The system calls that the unit's filters let through."""
    allowed: set[str] = set()
    for line in settings()["SystemCallFilter"]:
        named = set().union(*(calls_of(name) for name in line.removeprefix("~").split()))
        allowed = allowed - named if line.startswith("~") else allowed | named
    return allowed


@needs_analyze
def test_systemd_understands_the_client_unit(tmp_path: Path) -> None:
    """`systemd-analyze verify` has nothing to say, the program being where it is on this machine."""
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/tickserve/bin/strategy-client", str(PROGRAM)))
    done = analyze("verify", str(unit))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@needs_analyze
def test_client_unit_is_as_tight_as_it_was() -> None:
    """`systemd-analyze security` finds no more exposure than when the unit was written."""
    done = analyze("security", "--offline=true", f"--threshold={MOST_EXPOSED}", str(UNIT))
    assert done.returncode == 0, done.stdout


def test_stop_of_the_unit_waits_for_the_client_to_end() -> None:
    """The tick in hand, the source, and three flushes in a row fit into the time that systemd gives."""
    bound_s = DEADLINE_MS / 1_000 + LAST_TICK_S + 2 * FLUSH_S + CLOSE_TIMEOUT_S + 3 * STOP_S
    assert float(settings()["TimeoutStopSec"][0]) > bound_s


def test_command_of_the_unit_is_one_that_run_takes() -> None:
    """Each option of the unit and of its file of variables is one of `strategy-client run`."""
    variables = re.findall(r"^(\w+)=(.*)$", (SYSTEMD / "strategy-client.env").read_text(), re.MULTILINE)
    (command,) = settings()["ExecStart"]
    used = set(re.findall(r"\$\{?(\w+)\}?", command))
    assert used == {name for name, _ in variables}
    told = subprocess.run(
        [str(PROGRAM), "run", "--help"],
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=True,
    )
    options = set(re.findall(r"--[a-z-]+", command + dict(variables)["MORE"]))
    assert options
    assert options <= set(re.findall(r"--[a-z-]+", told.stdout))


@needs_analyze
@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not here")
def test_run_needs_no_system_call_and_no_memory_that_the_unit_denies(tmp_path: Path) -> None:
    """Running, recording, auditing, serving metrics and ending make only calls that the filter lets through.

    All of it under the kernel's own denial of writable and executable memory.
    """
    denying = [sys.executable, "-c", DENY_WRITE_EXECUTE]
    if subprocess.run(
        [*denying, sys.executable, "-c", ""], check=False, stderr=subprocess.DEVNULL
    ).returncode:
        pytest.skip("this kernel has no PR_SET_MDWE")
    trace = tmp_path / "trace"
    ticks = write_csv(tmp_path / "t.csv", csv_lines(1, walk(50, 100, 1)))
    strategies = write_strategies(tmp_path / "s.yaml", [1])
    run = [sys.executable, str(PROGRAM), "run", "--source", str(ticks), "--strategies", str(strategies)]
    run += ["--out", str(tmp_path / "out"), "--audit", str(tmp_path / "audit"), "--http", "127.0.0.1:0"]
    run += ["--sink", f"file:{tmp_path}/{{broker}}.jsonl"]
    done = subprocess.run(
        ["strace", "-f", "-qq", "-o", str(trace), *denying, *run],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "out" / "outcomes.jsonl").read_text().splitlines()) == 50
    made = set(re.findall(r"^\d+ +(\w+)\(", trace.read_text(errors="replace"), re.MULTILINE))
    assert {"execve", "mmap", "listen", "socket"} <= made
    assert made - allowed_calls() == set()


def test_client_comes_back_by_itself_where_another_process_holds_its_folder(tmp_path: Path) -> None:
    """A folder of `--out` or `--audit` that is held ends a run with a status that systemd tries again.

    What is wrong with the configuration ends it with the one that systemd does not.
    """
    ticks = write_csv(tmp_path / "t.csv", csv_lines(1, walk(5, 100, 1)))
    strategies = write_strategies(tmp_path / "s.yaml", [1])
    run = [str(PROGRAM), "run", "--source", str(ticks), "--strategies", str(strategies)]
    held = tmp_path / "held"
    audit = lock_folder(held)
    try:
        with FolderLock(held):
            codes = [
                subprocess.run([*run, *flags], capture_output=True, check=False, timeout=60).returncode
                for flags in (["--out", held], ["--audit", held], ["--out", ticks], ["--source", "x:"])
            ]
    finally:
        os.close(audit)
    assert settings()["Restart"] == ["on-failure"]
    final = {int(code) for value in settings()["RestartPreventExitStatus"] for code in value.split()}
    assert [code in final for code in codes] == [False, False, True, True]
    assert 0 not in codes
