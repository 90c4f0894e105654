"""Triton's load generator, fetched from PyPI."""

import json
import os
import platform
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from fetched import CannotRunError, fetched, run

# The newest tritonclient whose wheel holds the program, and the library of NVIDIA's that it is linked with.
# It runs without a GPU.
WHEELS = ("tritonclient==2.50.0", "nvidia-cuda-runtime-cu12==12.9.79")
PROGRAM = Path("tritonclient-2.50.0.data/data/bin/perf_analyzer")
CUDA = Path("nvidia/cuda_runtime/lib")
DEBIAN = Path("usr/lib/x86_64-linux-gnu")
RUN_S = 60.0


@dataclass(frozen=True)
class Report:
    """What one run told: its text, and how many requests it sent in the measurement."""

    text: str
    requests: int

    def number(self, label: str) -> int:
        """Return the number after a label of the text."""
        lines = [line for line in self.text.splitlines() if line.strip().startswith(f"{label}: ")]
        assert len(lines) == 1, f"{label!r} in:\n{self.text}"
        return int(lines[0].rpartition(": ")[2])


class PerfAnalyzer:
    """The program, ready to run."""

    def __init__(self, folder: Path) -> None:
        self._program = folder / PROGRAM
        self._environment = {"LD_LIBRARY_PATH": f"{folder / CUDA}:{folder / DEBIAN}"}

    def run(self, *arguments: str) -> Report:
        """Run it; an exit code other than 0 is a failed test, with its own words."""
        with tempfile.TemporaryDirectory(prefix="pa") as folder:
            export = Path(folder) / "requests.json"
            done = self._start(*arguments, "--profile-export-file", str(export))
            assert done.returncode == 0, done.stdout + done.stderr
            experiments = json.loads(export.read_text())["experiments"]
        return Report(done.stdout + done.stderr, sum(len(each["requests"]) for each in experiments))

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
