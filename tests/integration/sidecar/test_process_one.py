"""The sidecar as process 1, which it is in a container."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from sidecars import PATIENCE_S, eventually

UNSHARE = ("unshare", "--pid", "--fork", "--kill-child")


def handled(pid: int) -> int:
    """The signals for which a process has handlers, a bit each."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("SigCgt:"):
            return int(line.split()[1], 16)
    return 0


@pytest.mark.skipif(
    not shutil.which("unshare")
    or subprocess.run([*UNSHARE, "true"], check=False, capture_output=True).returncode,
    reason="a process namespace cannot be made here",
)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_during_the_start_is_heeded(tmp_path: Path, number: int) -> None:
    """F3: a signal that comes before `serve` has begun ends it, though a process 1 could pass over it."""
    serve = [sys.executable, "-m", "inference_server", "serve", "--models", str(tmp_path), "--http", "off"]
    outside = subprocess.Popen(
        [*UNSHARE, *serve, "--listen", f"unix:{tmp_path}/s", "--state", str(tmp_path / "state")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        listed = Path(f"/proc/{outside.pid}/task/{outside.pid}/children")
        inside = int(eventually(lambda: listed.read_text().split(), "it is started")[0])
        bit = 1 << (signal.SIGTERM - 1)
        eventually(lambda: handled(inside) & bit, "it has a handler")
        subprocess.run(["kill", f"-{number}", str(inside)], check=True)
        assert outside.wait(PATIENCE_S) == 128 + number
    finally:
        outside.kill()
        outside.wait()
