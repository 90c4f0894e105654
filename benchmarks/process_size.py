"""How large a process is, and whether it grows."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

# The first swaps fill caches and pools; a slope is taken after them.
SETTLING_PART: Final = 0.2


@dataclass(frozen=True, slots=True)
class Size:
    """How large the sidecar is after so many swaps; `vetting_mib` is its child's memory."""

    swaps: int
    resident_mib: float
    vetting_mib: float
    threads: int
    descriptors: int

    @classmethod
    def of(cls, pid: int, swaps: int) -> "Size":
        """Read it from the kernel."""
        fields = _status(pid)
        tasks = Path(f"/proc/{pid}/task").iterdir()
        children = {int(child) for task in tasks for child in _text(task / "children").split()}
        return cls(
            swaps,
            _resident_mib(fields),
            sum(_resident_mib(_status(child)) for child in children),
            int(fields["Threads"]),
            len(list(Path(f"/proc/{pid}/fd").iterdir())),
        )


def slope(sizes: Sequence[Size], name: str) -> float:
    """Return the growth per 1,000 swaps, by least squares, after the settling part."""
    steady = [size for size in sizes if size.swaps >= SETTLING_PART * sizes[-1].swaps]
    if len({size.swaps for size in steady}) < 2:
        return float("nan")
    return float(np.polyfit([s.swaps for s in steady], [getattr(s, name) for s in steady], 1)[0] * 1000)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (FileNotFoundError, ProcessLookupError):  # a thread or child that ended meanwhile
        return ""


def _status(pid: int) -> dict[str, str]:
    return dict(line.split(":", 1) for line in _text(Path(f"/proc/{pid}/status")).splitlines())


def _resident_mib(fields: dict[str, str]) -> float:
    return int(fields.get("VmRSS", "0 kB").split()[0]) / 1024
