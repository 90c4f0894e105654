"""A sidecar for a benchmark to press: `inference-server serve` as a user starts it, and its log's events."""

import contextlib
import datetime as dt
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from strategy_client import InferenceClient
from strategy_client.predictor.status import InferenceError

START_TIMEOUT_S: Final = 120.0
STOP_TIMEOUT_S: Final = 15.0
POLL_S: Final = 0.02
TAIL_LINES: Final = 30
LOG_LINE: Final = re.compile(
    r"^(?P<time>\S+ \S+) INFO \S+ (?P<event>\w+) model=(?P<model>\S+) version=(?P<version>\d+) "
    r"digest=(?P<digest>[0-9a-f]+)"
)
LOG_TIME: Final = "%Y-%m-%d %H:%M:%S,%f"


@dataclass(frozen=True, slots=True)
class LogEvent:
    """A line of a version's life: `found`, `vetted`, `available`, …; `at_s` is wall time."""

    at_s: float
    event: str
    model: str
    version: int
    digest: str

    @classmethod
    def parse(cls, line: str) -> "LogEvent | None":
        """Return the event that the line tells; None for any other line."""
        match = LOG_LINE.match(line)
        if match is None:
            return None
        at = dt.datetime.strptime(match["time"], LOG_TIME).astimezone()
        return cls(at.timestamp(), match["event"], match["model"], int(match["version"]), match["digest"])


class SidecarProcess:
    """The process, its addresses and its log."""

    def __init__(self, process: subprocess.Popen[bytes], target: str, log: Path) -> None:
        self.process = process
        self.target = target
        self.log = log

    @property
    def pid(self) -> int:
        """The process's id."""
        return self.process.pid

    def log_text(self) -> str:
        """Return all that it logged so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def tail(self) -> str:
        """Return the end of its log."""
        return "\n".join(self.log_text().splitlines()[-TAIL_LINES:])

    def events(self) -> list[LogEvent]:
        """Return what it logged of versions so far."""
        told = (LogEvent.parse(line) for line in self.log_text().splitlines())
        return [event for event in told if event is not None]

    def http_address(self) -> str:
        """Return HOST:PORT of its probes, as the system chose it; models may be ready before it is."""
        end_s = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < end_s and self.process.poll() is None:
            if match := re.search(r"http on (\S+)", self.log_text()):
                return match[1]
            time.sleep(POLL_S)  # a process outside has no event to wait for
        raise RuntimeError(f"the sidecar has no HTTP\n{self.tail()}")

    def wait_ready(self) -> None:
        """Wait until every model found is served; RuntimeError with its log if that does not come."""
        end_s = time.monotonic() + START_TIMEOUT_S
        with InferenceClient(self.target) as client:
            while time.monotonic() < end_s and self.process.poll() is None:
                with contextlib.suppress(InferenceError):
                    if client.describe(timeout_s=1.0).ready:
                        return
                time.sleep(POLL_S)  # a process outside has no event to wait for
        raise RuntimeError(f"the sidecar is not ready\n{self.tail()}")


@contextlib.contextmanager
def sidecar_process(models: Path, *arguments: str) -> Iterator[SidecarProcess]:
    """Serve a folder on a private Unix socket, with HTTP on a free port and state of its own."""
    with tempfile.TemporaryDirectory(prefix="ts") as folder:
        log, target = Path(folder) / "log", f"unix:{folder}/s.sock"
        with log.open("wb") as stream:
            process = subprocess.Popen(  # noqa: S603 - our own module
                [
                    *(sys.executable, "-m", "inference_server", "serve", "--models", str(models)),
                    *("--listen", target, "--http", "127.0.0.1:0", "--state", f"{folder}/state"),
                    *arguments,
                ],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
            )
        try:
            sidecar = SidecarProcess(process, target, log)
            sidecar.wait_ready()
            yield sidecar
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
