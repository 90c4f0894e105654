"""What a soak came to: its figures, and what of them is wrong."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from process_size import Size

# Growth is judged after the part in which caches and pools fill, and in runs of at least this length.
SETTLING_PART: Final = 0.25
LOW_PERCENTILE: Final = 10
MIN_JUDGED_S: Final = 300.0
# What may be called flat, between the first third of the rest of the run and the last.
MAX_GROWN: Final = {"resident_mib": 16.0, "threads": 3.0, "descriptors": 20.0}
# After everybody has left; threads and descriptors that a pool keeps come and go.
MAX_LEFT: Final = {"threads": 8, "descriptors": 4}


@dataclass(frozen=True, slots=True)
class State:
    """What there is after so many seconds: sums since the beginning, and the size, its `swaps` seconds."""

    seconds: int
    answered: Mapping[str, int]
    failed: int
    wrong: int
    slowest_ms: float
    faults: Sequence[str]
    hostile: Mapping[str, int]
    swaps: int
    killed: int
    bugs: int
    size: Size | None


@dataclass(slots=True)
class Soaked:
    """A whole run. `before` is the size before the callers came, `left` after they had gone."""

    minutes: float
    before: Size
    states: list[State]
    crashed: bool = False
    left: Size | None = None
    in_flight: int = 0
    log_tail: str = ""

    @property
    def last(self) -> State:
        """What there was at the end."""
        return self.states[-1]

    def grown(self, name: str) -> float:
        """How much higher the low-water mark of the last third of the settled part is than that of the first.

        Who floods holds descriptors and memory for a while; what leaks is there between the floods, too.
        """
        sizes = [state.size for state in self.states if state.size is not None]
        settled = [getattr(size, name) for size in sizes if size.swaps >= SETTLING_PART * self.last.seconds]
        third = len(settled) // 3
        if not third:
            return 0.0
        first, last = (np.percentile(part, LOW_PERCENTILE) for part in (settled[:third], settled[-third:]))
        return float(last - first)

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return asdict(self) | {"grown": {name: self.grown(name) for name in MAX_GROWN}}


def told(soaked: Soaked) -> str:
    """Tell the run so far in a line."""
    last = soaked.last
    size = last.size or soaked.left or soaked.before
    grown = ", ".join(f"{name} {soaked.grown(name):+.1f}" for name in MAX_GROWN)
    return (
        f"{last.seconds / 60:5.1f} min  answered {sum(last.answered.values()):,}  failed {last.failed}  "
        f"wrong {last.wrong}  slowest {last.slowest_ms:.0f} ms  bugs {last.bugs}  "
        f"crashes {int(soaked.crashed)}  swaps {last.swaps}  killed {last.killed}  "
        f"hostile {sum(last.hostile.values()):,}  RSS {size.resident_mib:.0f} MiB  threads {size.threads}  "
        f"descriptors {size.descriptors}  grown: {grown}"
    )


def problems(soaked: Soaked) -> list[str]:
    """Return what is wrong, in words; empty: nothing."""
    last = soaked.last
    found = [
        f"{count} {what}"
        for count, what in (
            (last.failed, "calls of well-behaved callers failed"),
            (last.wrong, "answers were wrong"),
            (last.bugs, "bugs are in the sidecar's log"),
            (soaked.in_flight, "calls are in flight after all callers have left"),
        )
        if count
    ]
    found += last.faults
    if last.bugs or soaked.crashed:
        found.append(f"the log ends so:\n{soaked.log_tail}")
    if soaked.crashed:
        found.append("the sidecar or a caller crashed")
    silent = [kind for kind, count in last.answered.items() if not count]
    silent += [way for way, count in last.hostile.items() if not count]
    if silent or not last.answered or not last.hostile or not last.swaps:
        found.append(
            f"not all of it took part: {', '.join(silent) or 'nobody asked, misbehaved or replaced'}"
        )
    if soaked.left is not None:
        for name, most in MAX_LEFT.items():
            more = getattr(soaked.left, name) - getattr(soaked.before, name)
            if more > most:
                found.append(f"{more} more {name} than before, after all callers have left")
    if last.seconds >= MIN_JUDGED_S:
        for name, flat in MAX_GROWN.items():
            if (grown := soaked.grown(name)) > flat:
                found.append(f"{name} grew by {grown:.1f} in the settled part of the run; flat is {flat:g}")
    return found
