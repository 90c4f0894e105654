"""How long the model itself takes to load: ONNX Runtime alone, in a warm process of its own.

    python benchmarks/load_time.py          # reads a file's path a line, writes the milliseconds a line

Warm: the libraries are imported and one session was made before. The session's options are the sidecar's.
"""

import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from inference_server.adapters.onnx_session import OnnxSession


class LoadClock:
    """The process that loads; a context manager."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - this file
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def load_ms(self, file: Path) -> float:
        """Return how long making a session from the file's bytes took; reading them is not in it."""
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the process was started without pipes")
        self._process.stdin.write(f"{file}\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())


def main() -> None:
    """Load what is asked until the input ends."""
    warm = False
    for line in sys.stdin:
        model = Path(line.rstrip("\n")).read_bytes()
        if not warm:
            OnnxSession(model)
            warm = True
        began_ns = time.perf_counter_ns()
        OnnxSession(model)
        print((time.perf_counter_ns() - began_ns) / 1e6, flush=True)


if __name__ == "__main__":
    main()
