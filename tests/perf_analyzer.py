"""Triton's load generator, fetched from PyPI."""

import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

from fetched import CannotRunError, fetched, run

# A tritonclient whose wheel holds the program (2.52 and later want a newer glibc, or hold none), and the
# library of NVIDIA's that it is linked with. It runs without a GPU.
WHEELS = ("tritonclient==2.50.0", "nvidia-cuda-runtime-cu12==12.9.79")
PROGRAM = Path("tritonclient-2.50.0.data/data/bin/perf_analyzer")
CUDA = Path("nvidia/cuda_runtime/lib")
DEBIAN = Path("usr/lib/x86_64-linux-gnu")
# Three windows, and their mean, however much they differ; one in which nothing came, on a machine that stood
# still, begins them anew. Not `--request-count`: with it the program now and then waits for ever for requests
# that were all answered, and divides by whole seconds.
THREE_WINDOWS = ("--stability-percentage", "999", "--measurement-interval")
WINDOW_MS = 500
RUN_S = 100.0


@dataclass(frozen=True)
class Report:
    """What one run told."""

    text: str

    def number(self, label: str) -> int:
        """Return the count after a label of the text."""
        return int(self._after(label))

    @property
    def rate(self) -> float:
        """Requests answered a second."""
        return float(self._after("Throughput").removesuffix(" infer/sec"))

    @property
    def p50_us(self) -> float:
        """The median latency, in microseconds."""
        return float(self._after("p50 latency").removesuffix(" usec"))

    @property
    def p99_us(self) -> float:
        """The 99th percentile of the latency, in microseconds."""
        return float(self._after("p99 latency").removesuffix(" usec"))

    def _after(self, label: str) -> str:
        lines = [line for line in self.text.splitlines() if line.strip().startswith(f"{label}: ")]
        assert len(lines) == 1, f"{label!r} in:\n{self.text}"
        return lines[0].rpartition(": ")[2]


class PerfAnalyzer:
    """The program, ready to run."""

    def __init__(self, folder: Path) -> None:
        self._program = folder / PROGRAM
        self._environment = {"LD_LIBRARY_PATH": f"{folder / CUDA}:{folder / DEBIAN}"}

    def run(self, *arguments: str, window_ms: int = WINDOW_MS) -> Report:
        """Measure in three windows; an exit code but 0, or no end, fails the test in its own words."""
        command = (*arguments, *THREE_WINDOWS, str(window_ms))
        try:
            done = self._start(*command)
        except subprocess.TimeoutExpired as error:
            said = b"".join(part for part in (error.stdout, error.stderr) if isinstance(part, bytes))
            raise AssertionError(
                f"perf_analyzer did not end within {RUN_S:g} s: {' '.join(command)}\n{said.decode()}"
            ) from None
        assert done.returncode == 0, done.stdout + done.stderr
        return Report(done.stdout + done.stderr)

    def check(self) -> None:
        """Raise CannotRunError where it does not start."""
        try:
            done = self._start("--version")
        except (OSError, subprocess.TimeoutExpired) as error:
            raise CannotRunError(f"perf_analyzer does not start: {error}") from None
        if done.returncode:
            raise CannotRunError(f"perf_analyzer does not start: {done.stderr.strip()}")

    def _start(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self._program, *arguments],
            env=os.environ | self._environment,
            capture_output=True,
            text=True,
            timeout=RUN_S,
            check=False,
        )


def perf_analyzer() -> PerfAnalyzer:
    """Return it, fetched where it is not there yet; CannotRunError where it cannot be had or started."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise CannotRunError("perf_analyzer is built for Linux on x86-64 only")
    found = PerfAnalyzer(fetched("perf_analyzer", WHEELS, _finish))
    found.check()
    return found


def _finish(folder: Path) -> None:
    """Make the program executable, and give it the library of Debian's that the system may not have."""
    (folder / PROGRAM).chmod(0o755)
    needs = subprocess.run(["ldd", folder / PROGRAM], capture_output=True, text=True, check=False).stdout
    if any("libb64" in line and "not found" in line for line in needs.splitlines()):
        run("apt-get", "download", "libb64-0d", cwd=folder)
        for package in folder.glob("*.deb"):
            run("dpkg-deb", "--extract", str(package), str(folder))
            package.unlink()
