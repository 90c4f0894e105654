"""A sidecar that is stopped while it starts, whatever moment that is: it ends, and leaves nothing behind."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from onnx_files import endless_model, score_model
from sidecars import PATIENCE_S, eventually, put

MOMENTS = 30
MARK = "TEST_STARTED_IN"
LINES = ("kept in", "listening on", "found model=one", "found model=spins", "available model=one")
# One interrupt in what Python runs when an import lets go of its lock: an exception of there goes nowhere.
INTERRUPTED_IN_A_CALLBACK = """
import signal, weakref
from inference_server import cli

class Lock:
    pass

def read(*_):
    lock = Lock()
    reference = weakref.ref(lock, lambda _: signal.raise_signal(signal.SIGINT))
    del lock
    print("went on")
    raise SystemExit(0)

cli.read_plain = read
cli.main()
"""


class Started:
    """A sidecar with HTTP, one good file and one that hangs its judge, from its first moment on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = folder / "s.sock"
        self._log = folder / "log"
        put(folder / "models" / "one.onnx", score_model("one"))
        put(folder / "models" / "spins.onnx", endless_model())
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "inference_server", "serve", "--models", str(folder / "models")),
                    *("--listen", f"unix:{self.socket}", "--http", "127.0.0.1:0"),
                    *("--state", str(folder / "state")),
                ],
                stdout=log,
                stderr=log,
                env={**os.environ, MARK: str(folder)},
            )

    def told(self, text: str) -> bool:
        """Whether the log has this."""
        assert self.process.poll() is None, self._log.read_text()
        return text in self._log.read_text()

    def stop(self, number: int) -> int:
        """Send a signal and return the exit code, once nothing of it is left."""
        self.process.send_signal(number)
        code = self.process.wait(PATIENCE_S)
        assert not self.socket.exists()
        eventually(lambda: not self.left(), "its vetting processes have ended")
        return code

    def left(self) -> list[int]:
        """The processes that are left of it."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(MARK) == str(self.folder):
                    found.append(process.pid)
        return found


@contextlib.contextmanager
def started(folder: Path) -> Iterator[Started]:
    """Start a sidecar; killed if it is still there at the end."""
    folder.mkdir()
    sidecar = Started(folder)
    try:
        yield sidecar
    finally:
        sidecar.process.kill()
        sidecar.process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_at_any_moment_of_a_start_ends_it(tmp_path: Path, number: int) -> None:
    """F3: it ends, its children end, and its socket is gone, however far it had come."""
    began_s = time.monotonic()
    with started(tmp_path / "whole") as sidecar:
        eventually(lambda: sidecar.told("available model=one"), "a whole start")
        whole_s = time.monotonic() - began_s
        assert sidecar.stop(number) == 0
    for moment in range(MOMENTS):
        with started(tmp_path / str(moment)) as sidecar:
            threading.Event().wait(1.5 * whole_s * moment / MOMENTS)
            sidecar.stop(number)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_after_any_line_of_the_log_is_a_stop_as_ever(tmp_path: Path, number: int) -> None:
    """F3: once it says anything it has handlers, and what it has begun is ended in order, with 0."""
    for count, line in enumerate(LINES):
        with started(tmp_path / str(count)) as sidecar:
            eventually(lambda line=line: sidecar.told(line), line)  # type: ignore[misc]
            assert sidecar.stop(number) == 0


def test_an_interrupt_that_no_exception_would_tell_of_ends_it() -> None:
    """F3: Ctrl-C during the imports is not lost where an exception is printed and passed over."""
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_IN_A_CALLBACK], check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (130, "")


@pytest.mark.parametrize("ignored", [False, True])
def test_an_ignored_interrupt_stays_ignored_during_the_imports(ignored: bool) -> None:
    """A script's background processes are started so, and Ctrl-C is not for them."""
    answer = "SIG_IGN" if ignored else "default_int_handler"
    script = (
        f"import signal; signal.signal(signal.SIGINT, signal.{answer})\n"
        "from inference_server.leaving import leave_when_told\n"
        "leave_when_told(); signal.raise_signal(signal.SIGINT)"
    )
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True)
    assert done.returncode == (0 if ignored else 130)


def test_a_command_is_left_by_an_interrupt_as_ever() -> None:
    """`leave_when_told` is over for other commands, which clean up behind them."""
    script = (
        "import signal, sys; from inference_server import cli, command_line\n"
        "def run():\n"
        "    try: signal.raise_signal(signal.SIGINT)\n"
        "    except KeyboardInterrupt: print('left')\n"
        "command_line.app = run; sys.argv = ['inference-server', 'status']; cli.main()"
    )
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "left\n", "")


def test_a_vetting_process_whose_server_has_gone_imports_nothing() -> None:
    """It is asked for before it can be told: its libraries take longer than a start may have lasted."""
    requests, asking = os.pipe()
    os.close(asking)
    with os.fdopen(requests) as pipe:
        done = subprocess.run(
            [sys.executable, "-X", "importtime", "-m", "inference_server.adapters.vetting_child", "1", "1"],
            stdin=pipe,
            check=False,
            capture_output=True,
            text=True,
        )
    assert (done.returncode, "onnxruntime" in done.stderr) == (1, False)
