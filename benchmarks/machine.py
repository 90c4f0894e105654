"""What machine a measurement ran on, and how much of it others took meanwhile."""

import importlib.metadata
import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

LIBRARIES: Final = ("grpcio", "protobuf", "numpy", "onnxruntime", "scikit-learn", "tritonclient")


@dataclass(frozen=True, slots=True)
class Ticks:
    """The system's counts of processor time, in ticks: all, idle, stolen by other guests."""

    all: int
    idle: int
    stolen: int
    at_s: float

    @classmethod
    def now(cls) -> Self:
        """Read /proc/stat."""
        names = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
        line = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:]
        counts = dict(zip(names, map(int, line[: len(names)]), strict=True))
        return cls(sum(counts.values()), counts["idle"] + counts["iowait"], counts["steal"], time.monotonic())


def describe_machine() -> dict[str, Any]:
    """Return processor, cores, system and the versions that matter."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            if line.startswith(("model name", "Hardware", "CPU part"))
        ),
        platform.machine(),
    )
    return {
        "processor": model,
        "cores": len(os.sched_getaffinity(0)),
        "system": platform.platform(),
        "python": platform.python_version(),
        "libraries": {name: importlib.metadata.version(name) for name in LIBRARIES},
    }


def load_between(before: Ticks, after: Ticks) -> dict[str, float]:
    """Return which parts of the processor time between were idle and stolen, 0 to 1, and for how long."""
    passed = max(1, after.all - before.all)
    return {
        "seconds": round(after.at_s - before.at_s, 1),
        "idle": round((after.idle - before.idle) / passed, 3),
        "stolen": round((after.stolen - before.stolen) / passed, 4),
    }
