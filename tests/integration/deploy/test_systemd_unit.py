"""The systemd unit: what systemd's own tools say of it, and that the sidecar lives within its bounds."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import grpc
import numpy as np
import pytest
from onnx_files import score_contract, score_model
from sidecars import PATIENCE_S, describe, eventually, put, stub
from tickserve.v1 import predictor_pb2 as wire

from inference_server.adapters.service_manager import AnnouncerOptions
from inference_server.rpc.listener import ListenerOptions
from inference_server.running import EXIT_S
from inference_server.serving.reconciler import ReconcilerOptions

SYSTEMD = Path(__file__).resolve().parents[3] / "deploy" / "systemd"
UNIT = SYSTEMD / "tickserve.service"
PROGRAM = Path(sys.executable).with_name("inference-server")
# In tenths: 0 is the tightest, 100 has no bound at all.
MOST_EXPOSED = 10
# Refuses memory that is writable and executable, or becomes executable, to the program that is run then.
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
    for key, value in re.findall(r"^(\w+)=(.*)$", UNIT.read_text(), re.MULTILINE):
        found[key].append(value)
    return found


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze."""
    command = ["systemd-analyze", "--no-pager", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def allowed_calls() -> set[str]:
    """The system calls that the unit's filters let through."""

    def members(name: str) -> set[str]:
        if not name.startswith("@"):
            return {name}
        told = [line.strip() for line in analyze("syscall-filter", name).stdout.splitlines()[1:]]
        return set().union(*(members(line) for line in told if line and not line.startswith("#")))

    allowed: set[str] = set()
    for line in settings()["SystemCallFilter"]:
        named = set().union(*(members(name) for name in line.removeprefix("~").split()))
        allowed = allowed - named if line.startswith("~") else allowed | named
    return allowed


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@needs_analyze
def test_systemd_understands_every_line(tmp_path: Path) -> None:
    """`systemd-analyze verify` has nothing to say, the program being where it is on this machine."""
    unit = tmp_path / UNIT.name
    text = UNIT.read_text()
    assert "/opt/tickserve/bin/inference-server" in text
    unit.write_text(text.replace("/opt/tickserve/bin/inference-server", str(PROGRAM)))
    done = analyze("verify", str(unit))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@needs_analyze
def test_it_is_as_tight_as_it_was() -> None:
    """`systemd-analyze security` finds no more exposure than when the unit was written."""
    done = analyze("security", "--offline=true", f"--threshold={MOST_EXPOSED}", str(UNIT))
    assert done.returncode == 0, done.stdout


def test_the_times_hold_what_the_sidecar_needs() -> None:
    """F3: a stop is not cut before the drain has ended, nor a start given up before READY=1 has to come."""
    seconds = {key: float(values[0]) for key, values in settings().items() if key.endswith("Sec")}
    draining_s = ListenerOptions().drain_timeout_s + ReconcilerOptions().drain_s + EXIT_S
    assert seconds["TimeoutStopSec"] > draining_s
    assert seconds["TimeoutStartSec"] > AnnouncerOptions().start_s


def test_its_configuration_is_valid_and_stays_in_its_folders() -> None:
    """The TOML file and the variables beside it are what serve takes; the socket is in the unit's folder."""
    found = settings()
    lines = re.findall(r"^#? ?(TICKSERVE_\w+)=(.*)$", (SYSTEMD / "tickserve.env").read_text(), re.MULTILINE)
    assert lines
    (program, *arguments) = found["ExecStart"][0].split()
    arguments[arguments.index("/etc/tickserve/tickserve.toml")] = str(SYSTEMD / "tickserve.toml")
    shown = subprocess.run(
        [str(PROGRAM), *arguments, "--show-config"],
        env={**os.environ, **dict(lines), "STATE_DIRECTORY": f"/var/lib/{found['StateDirectory'][0]}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (Path(program).name, shown.returncode, shown.stderr) == (PROGRAM.name, 0, "")
    assert f'"unix:/run/{found["RuntimeDirectory"][0]}/tickserve.sock"' in shown.stdout
    assert 'state = "/var/lib/tickserve/' in shown.stdout
    assert 'models = "/srv/models"' in shown.stdout
    assert 'socket.mode = "0660"' in shown.stdout  # the folder lets the group in, and so does the socket
    assert found["RuntimeDirectoryMode"] == ["0750"]
    assert found["User"] == found["Group"] == ["tickserve"]
    assert re.search(r"^u tickserve ", (SYSTEMD / "tickserve.sysusers.conf").read_text(), re.MULTILINE)


@needs_analyze
@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not here")
def test_it_needs_no_system_call_and_no_memory_that_the_unit_denies(tmp_path: Path) -> None:
    """Serving, vetting, refusing, reloading and ending make only calls that the filter lets through.

    All of it under the kernel's own denial of writable and executable memory.
    """
    denying = [sys.executable, "-c", DENY_WRITE_EXECUTE]
    if subprocess.run(
        [*denying, sys.executable, "-c", ""], check=False, stderr=subprocess.DEVNULL
    ).returncode:
        pytest.skip("this kernel has no PR_SET_MDWE")
    models, config, trace, log = (tmp_path / name for name in ("models", "serve.toml", "trace", "log"))
    put(models / "one.onnx", score_model("one"))
    config.write_text("")
    with tempfile.TemporaryDirectory(prefix="ts") as folder:
        target = f"unix:{folder}/s.sock"
        serve = [sys.executable, "-m", "inference_server", "serve", "--models", str(models)]
        serve += ["--listen", target, "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"]
        serve += ["--config", str(config), "--state", str(tmp_path / "state")]
        with log.open("wb") as stream:
            process = subprocess.Popen(
                ["strace", "-f", "-qq", "-o", str(trace), *denying, *serve], stdout=stream, stderr=stream
            )
        try:
            with grpc.insecure_channel(target) as channel:
                grpc.channel_ready_future(channel).result(PATIENCE_S)
                eventually(lambda: process.poll() is not None or describe(channel).ready, "it is ready")
                row = np.array([1, 2, 3], dtype="<f4").tobytes()
                question = wire.PredictRequest(parts=[wire.PredictPart(model="one", rows=1, features=row)])
                predict = stub(channel, "Predict", wire.PredictResponse)
                assert predict(question, timeout=PATIENCE_S).parts[0].status.code == 0
                put(models / "one.onnx", score_model("one", bias=0.01, contract=score_contract("one")))
                eventually(lambda: describe(channel).models[0].problem, "the bad file is refused")
            (server,) = children(process.pid)
            os.kill(server, signal.SIGHUP)
            eventually(lambda: "SIGHUP: took over" in log.read_text(), "it has read the configuration")
            os.kill(server, signal.SIGTERM)
            assert process.wait(PATIENCE_S) == 0
        finally:
            if process.poll() is None:
                for server in children(process.pid):
                    os.kill(
                        server, signal.SIGKILL
                    )  # strace ends with what it traces, not the other way round
            process.wait()
    made = set(re.findall(r"^\d+ +(\w+)\(", trace.read_text(errors="replace"), re.MULTILINE))
    assert {"execve", "mmap", "inotify_add_watch", "accept4"} <= made
    assert made - allowed_calls() == set()
