"""Servers of the Open Inference Protocol with one model: ours, a bare echo of its messages, and peers.

Each is a process of its own on a port of loopback. The peers, MLServer and KServe, serve the same ONNX file
with the same ONNX Runtime on one thread, from environments that `make peers` makes. Each comes twice: as a
user gets it, with a line of log a call, and made quiet, the strongest form that its own settings give it.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import tritonclient.grpc as triton
from echo import free_port
from sidecar_process import sidecar_process
from tritonclient.utils import InferenceServerException

ROOT: Final = Path(__file__).resolve().parent.parent
HERE: Final = Path(__file__).resolve().parent
ENVIRONMENTS: Final = ROOT / "build" / "peers"
MODELS: Final = ROOT / "models"
MODEL: Final = "es_momentum"
INPUT: Final = "features"
WIDTH: Final = 3
MLSERVER_SETTINGS: Final = {"debug": False, "metrics_endpoint": None, "parallel_workers": 0}
READY_S: Final = 60.0
STOP_S: Final = 15.0
POLL_S: Final = 0.02
NS_PER_US: Final = 1_000
OURS: Final = "ours"
ECHO: Final = "bare grpc.aio echo"


@dataclass(frozen=True, slots=True)
class Peer:
    """Somebody else's server: the name of its package, and whether it is made quiet."""

    package: str
    quiet: bool

    def __str__(self) -> str:
        shown = {"mlserver": "MLServer", "kserve": "KServe"}[self.package]
        return f"{shown}, made quiet" if self.quiet else f"{shown} as it comes"

    @property
    def python(self) -> Path:
        """The interpreter of its environment, which may not be there."""
        return ENVIRONMENTS / self.package / "bin" / "python"

    @property
    def missing(self) -> str:
        """Why it cannot be measured; "" where it can."""
        if (ENVIRONMENTS / self.package / ".installed").exists():
            return ""
        return f"{self} is not measured: `make peers` installs it"

    @property
    def version(self) -> str:
        """What is installed, from its list of constraints."""
        lines = (HERE / "peers" / f"constraints-{self.package}.txt").read_text(encoding="ascii").splitlines()
        return next(line for line in lines if line.startswith(f"{self.package}=="))


PEERS: Final = tuple(Peer(package, quiet) for package in ("mlserver", "kserve") for quiet in (True, False))


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers: its addresses and its process."""

    address: str
    pid: int
    unix: str = ""

    def cpu_us(self) -> float:
        """Return the processor time that it and its children took so far, threads that ended included."""
        return sum(map(_cpu_ns, _family(self.pid))) / NS_PER_US


def _family(pid: int) -> list[int]:
    """Return a process, its children and theirs."""
    children: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # the thread ended
            children += map(int, task.read_text(encoding="ascii").split())
    return [pid, *(one for child in children for one in _family(child))]


def _cpu_ns(pid: int) -> int:
    """Return the time on the clock of clock_getcpuclockid(3); that of /proc goes in steps of 10 ms."""
    with contextlib.suppress(OSError):  # it ended
        return time.clock_gettime_ns((~pid << 3) | 2)
    return 0


@contextlib.contextmanager
def ours(*arguments: str) -> Iterator[Server]:
    """Run our sidecar over the sample models, on a port and on a Unix socket."""
    address = f"127.0.0.1:{free_port()}"
    with sidecar_process(MODELS, "--listen", address, *arguments) as sidecar:
        yield Server(address, sidecar.pid, sidecar.target)


@contextlib.contextmanager
def echo_of(server: Server) -> Iterator[Server]:
    """Run a bare server that answers with the same messages as this one."""
    address = f"127.0.0.1:{free_port()}"
    with started([sys.executable, str(HERE / "v2_echo.py"), address, server.address, MODEL], address) as echo:
        yield echo


@contextlib.contextmanager
def running(peer: Peer) -> Iterator[Server]:
    """Run a peer."""
    port = free_port()
    script = str(HERE / "peers" / f"{peer.package}_start.py")
    environment: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="peer") as folder:
        if peer.package == "mlserver":
            _configure_mlserver(Path(folder), port, quiet=peer.quiet)
            arguments = [folder, MODEL]
        else:
            ports = ["--grpc_port", str(port), "--http_port", str(free_port())]
            arguments = [str(MODELS / f"{MODEL}.onnx"), MODEL, *ports]
            if peer.quiet:
                arguments += ["--enable_latency_logging", "false"]
                environment["KSERVE_LOGLEVEL"] = "ERROR"
        command = [str(peer.python), script, *arguments]
        with started(command, f"127.0.0.1:{port}", environment, Path(folder)) as server:
            yield server


def _configure_mlserver(folder: Path, port: int, *, quiet: bool) -> None:
    """Write its files into a folder."""
    settings = {
        "host": "127.0.0.1",
        "grpc_port": port,
        "http_port": free_port(),
        "metrics_port": free_port(),
        **(MLSERVER_SETTINGS if quiet else {}),
    }
    (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    model = {
        "name": MODEL,
        "implementation": "onnx_model.OnnxModel",
        "inputs": [{"name": INPUT, "datatype": "FP32", "shape": [-1, WIDTH]}],
        "outputs": [
            {"name": "label", "datatype": "INT64", "shape": [-1]},
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, 2]},
        ],
        "parameters": {"uri": str(MODELS / f"{MODEL}.onnx"), "version": "1"},
    }
    (folder / MODEL).mkdir()
    (folder / MODEL / "model-settings.json").write_text(json.dumps(model), encoding="utf-8")


@contextlib.contextmanager
def started(
    command: Sequence[str], address: str, environment: dict[str, str] | None = None, folder: Path = ROOT
) -> Iterator[Server]:
    """Run a server from when it says that the model is ready."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MLSERVER_")}
    inherited["ORT_DISABLE_TELEMETRY"] = "1"
    with tempfile.TemporaryFile() as log:  # some write two lines a call, more than a pipe nobody reads takes
        process = subprocess.Popen(  # noqa: S603 - the commands above
            command,
            cwd=folder,
            env=inherited | (environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            if not _wait_ready(process, address):
                log.seek(0)
                raise RuntimeError(f"{command} is not ready\n{log.read().decode(errors='replace')[-3000:]}")
            yield Server(address, process.pid)
        finally:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_ready(process: "subprocess.Popen[bytes]", address: str) -> bool:
    """Ask until it says yes; False where it ended or does not come."""
    end_s = time.monotonic() + READY_S
    patience = [("grpc.max_reconnect_backoff_ms", 100)]
    with triton.InferenceServerClient(address, channel_args=patience) as client:
        while process.poll() is None and time.monotonic() < end_s:
            with contextlib.suppress(InferenceServerException):
                if client.is_model_ready(MODEL, client_timeout=1.0):
                    return True
            time.sleep(POLL_S)  # a process outside has no event to wait for
    return False
