"""Runs `stress_client.py`: in processes that last, and in ones that are killed again and again."""

import contextlib
import itertools
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

END_TIMEOUT_S: Final = 60.0
# How long a client that is to crash asks before that.
LIFE_S: Final = 0.5
PATIENCE_S: Final = 5.0
SCRIPT: Final = Path(__file__).with_name("stress_client.py")


@dataclass(frozen=True, slots=True)
class Asked:
    """What clients ask: of which sidecar, which models, how often, and the file of what is expected."""

    target: str
    models: tuple[str, ...]
    rate_hz: float
    facts: Path


class ClientProcess:
    """One client that asks in one way, from its first phase to `end`."""

    def __init__(self, kind: str, asked: Asked, timeout_s: float = PATIENCE_S) -> None:
        self.kind = kind
        self._process = subprocess.Popen(  # noqa: S603 - our own script
            [
                *(sys.executable, str(SCRIPT), kind, asked.target, ",".join(asked.models)),
                *(str(asked.rate_hz), str(timeout_s), str(asked.facts)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def wait_ready(self) -> None:
        """Wait until it could ask."""
        if self._process.stdout is None or self._process.stdout.readline() != "ready\n":
            raise RuntimeError(f"the client {self.kind} did not start")

    def begin(self, phase: str) -> None:
        """Tell it which phase begins."""
        if self._process.stdin is None:
            raise RuntimeError("the client was started without pipes")
        self._process.stdin.write(phase + "\n")
        self._process.stdin.flush()

    def end(self) -> dict[str, dict[str, Any]]:
        """End it; return what it saw, by phase."""
        seen: dict[str, dict[str, Any]] = json.loads(self._process.communicate(timeout=END_TIMEOUT_S)[0])
        return seen

    def kill(self) -> None:
        """End it by SIGKILL, in the middle of whatever it does."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


@contextlib.contextmanager
def client_processes(
    kinds: tuple[str, ...], asked: Asked, timeout_s: float = PATIENCE_S
) -> Iterator[list[ClientProcess]]:
    """Run a client of each kind; killed at the block's end if they are still there."""
    with contextlib.ExitStack() as stack:
        clients = []
        for kind in kinds:
            clients.append(ClientProcess(kind, asked, timeout_s))
            stack.callback(clients[-1].kill)
        for client in clients:
            client.wait_ready()
        yield clients


class CrashingClients:
    """A thread that starts clients, one of each kind after the other, and kills each while it asks."""

    def __init__(self, kinds: tuple[str, ...], asked: Asked) -> None:
        self._kinds = kinds
        self._asked = asked
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.killed = 0

    @contextlib.contextmanager
    def crashing(self) -> Iterator[None]:
        """Let them crash until the block ends."""
        self._thread.start()
        try:
            yield
        finally:
            self._stopped.set()
            self._thread.join()

    def _run(self) -> None:
        for kind in itertools.cycle(self._kinds):
            with client_processes((kind,), self._asked) as [client]:
                client.begin("crash")
                if self._stopped.wait(LIFE_S):
                    return
            self.killed += 1
