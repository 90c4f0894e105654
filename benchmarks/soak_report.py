"""What a soak came to: its figures, and what of them is wrong."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from process_size import Size
from soak_memory import Memory

# Growth is judged after the part in which caches and pools fill, and in runs of at least this length.
SETTLING_PART: Final = 0.25
MIN_JUDGED_S: Final = 600.0
# Who floods holds descriptors and memory for a while; what leaks is there at the quietest of a minute, too.
MARK_S: Final = 60
# What may be called flat, over the settled part of the run. In an hour's run that is 45 minutes, so a leak of
# 8 MiB an hour in the heap, or of 16 MiB an hour anywhere, is found. What the allocator keeps is in resident
# memory only, and comes to a few MiB.
MAX_GROWN: Final = {
    "heap_mib": 6.0,
    "python_kblocks": 60.0,
    "resident_mib": 12.0,
    "threads": 3.0,
    "descriptors": 20.0,
}
# After everybody has left; threads and descriptors that a pool keeps come and go.
MAX_LEFT: Final = {"threads": 8, "descriptors": 4}


@dataclass(frozen=True, slots=True)
class State:
    """What there is after so many seconds: sums since the beginning, and the size, its `swaps` seconds.

    `size` and `memory` are None where they could not be had.
    """

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
    memory: Memory | None


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
        """How much it grew in the settled part: the median slope of its low-water marks, times their time.

        The slope is that of Theil and Sen, the median of those between any two marks: neither a mark that is
        high by chance nor one step moves it far, and what grows all the time shows whole.
        """
        marks = self.marks(name)
        slopes = [
            (later - earlier) / (number - before)
            for (before, earlier), (number, later) in itertools.combinations(marks.items(), 2)
        ]
        return float(np.median(slopes)) * (max(marks) - min(marks) + 1) if slopes else 0.0

    def marks(self, name: str) -> dict[int, float]:
        """Return the least of each settled minute, by its number."""
        marks: dict[int, float] = {}
        for state in self.states:
            told = [getattr(each, name) for each in (state.size, state.memory) if hasattr(each, name)]
            if told and state.seconds >= SETTLING_PART * self.last.seconds:
                minute = state.seconds // MARK_S
                marks[minute] = min(marks.get(minute, math.inf), *told)
        return marks

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return asdict(self) | {"grown": {name: self.grown(name) for name in MAX_GROWN}}


def told(soaked: Soaked) -> str:
    """Tell the run so far in a line."""
    last = soaked.last
    size = last.size or soaked.left or soaked.before
    grown = ", ".join(f"{name} {soaked.grown(name):+.1f}" for name in MAX_GROWN)
    memory = "" if last.memory is None else _told_memory(last.memory)
    return (
        f"{last.seconds / 60:5.1f} min  answered {sum(last.answered.values()):,}  failed {last.failed}  "
        f"wrong {last.wrong}  slowest {last.slowest_ms:.0f} ms  bugs {last.bugs}  "
        f"crashes {int(soaked.crashed)}  swaps {last.swaps}  killed {last.killed}  "
        f"hostile {sum(last.hostile.values()):,}  RSS {size.resident_mib:.0f} MiB  {memory}"
        f"threads {size.threads}  descriptors {size.descriptors}  grown: {grown}"
    )


def _told_memory(memory: Memory) -> str:
    return (
        f"PSS {memory.pss_mib:.0f} MiB  in use {memory.heap_mib:.1f} MiB and "
        f"{memory.python_kblocks:.0f},000 blocks  "
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
    return found + _growth(soaked)


def _growth(soaked: Soaked) -> list[str]:
    if soaked.last.seconds < MIN_JUDGED_S:
        return []
    found = []
    for name, flat in MAX_GROWN.items():
        if (grown := soaked.grown(name)) > flat:
            found.append(f"{name} grew by {grown:.1f} in the settled part of the run; flat is {flat:g}")
        elif len(soaked.marks(name)) < 2:
            found.append(f"{name} was not told, so that its growth is not known")
    return found
