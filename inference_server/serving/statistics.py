"""What was asked and how it ended, in numbers that only grow.

The one source of every number that is told of calls: metrics, ModelStatistics, the status page. It lives on
the event loop's thread, and its readers read there too.
"""

from array import array
from bisect import bisect_left
from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from inference_server.core.errors import Reason

# Upper ends of the histograms' buckets: from what one row of a small forest takes to a caller's patience.
BOUNDS_NS: Final = (
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    1_000_000_000,
    10_000_000_000,
)
# Versions come with every swap by number, models with every folder: what ended a call longest ago is
# forgotten, and counts from 0 when it comes back. Version 0, calls that reached none, stays with its model.
MAX_VERSIONS: Final = 8
MAX_MODELS: Final = 4096
# Calls whose times are noted one after the other and counted together: by itself each would cost as much as
# the run of a small model.
COUNTED_TOGETHER: Final = 128
# Calls that name no model that is known here are counted under this.
NO_MODEL: Final = ""


class Durations:
    """A histogram of durations: `buckets[i]` counts those up to BOUNDS_NS[i], its last one what is longer."""

    __slots__ = ("buckets", "count", "sum_ns")

    def __init__(self) -> None:
        self.buckets = [0] * (len(BOUNDS_NS) + 1)
        self.count = 0
        self.sum_ns = 0

    def __repr__(self) -> str:
        return f"<Durations {self.count} of {self.sum_ns} ns together>"

    def add(self, duration_ns: int) -> None:
        """Count one."""
        self.buckets[bisect_left(BOUNDS_NS, duration_ns)] += 1
        self.count += 1
        self.sum_ns += duration_ns

    def add_all(self, durations_ns: NDArray[np.int64]) -> None:
        """Count several, shape (n,)."""
        places = np.searchsorted(BOUNDS_NS, durations_ns)  # to the left, as `add`
        counts = np.bincount(places, minlength=len(self.buckets)).tolist()
        self.buckets = [before + more for before, more in zip(self.buckets, counts, strict=True)]
        self.count += len(durations_ns)
        self.sum_ns += int(durations_ns.sum())


class Timing(NamedTuple):
    """Where the time of one call that was answered went.

    `input_ns` is decoding, `infer_ns` the model's run, `output_ns` encoding, `total_ns` from the message's
    arrival to the end of the encoding, and `queue_ns` everything before the run that was not decoding: other
    calls of the same message, other callers, the checks.
    """

    queue_ns: int
    input_ns: int
    infer_ns: int
    output_ns: int
    total_ns: int


class VersionStatistics:
    """The calls of one version: those answered, with their times, and those that failed, by why.

    Each call that was answered adds one to all five durations. A key of `failed` is the gRPC status by its
    name, and the reason; its durations are from the arrival to the end.
    """

    __slots__ = ("_counted", "_noted", "failed", "last_answered_ns", "rows", "turn")

    def __init__(self) -> None:
        self.rows = 0
        self.last_answered_ns = 0  # wall time
        self.turn = 0  # of the last call that ended, among all calls
        self.failed: dict[tuple[str, Reason], Durations] = {}
        self._counted = tuple(Durations() for _ in Timing._fields)
        # Timings, each number after the other.
        self._noted = array("q")

    def __repr__(self) -> str:
        return f"<VersionStatistics {self.answered} calls answered, {self.failures} failed>"

    def note(self, timing: Timing) -> None:
        """Count a call that was answered."""
        self._noted.extend(timing)
        if len(self._noted) >= COUNTED_TOGETHER * len(timing):
            self._count()

    @property
    def queue(self) -> Durations:
        """As in `Timing`, like the four that follow."""
        return self._count()[0]

    @property
    def input(self) -> Durations:
        """Decoding."""
        return self._count()[1]

    @property
    def infer(self) -> Durations:
        """The model's runs."""
        return self._count()[2]

    @property
    def output(self) -> Durations:
        """Encoding."""
        return self._count()[3]

    @property
    def total(self) -> Durations:
        """From the message's arrival to the end of the encoding."""
        return self._count()[4]

    @property
    def answered(self) -> int:
        """Calls answered."""
        return self.total.count

    @property
    def failures(self) -> int:
        """Calls that were not."""
        return sum(durations.count for durations in self.failed.values())

    def _count(self) -> tuple[Durations, ...]:
        """Count what is noted; return the durations in the order of `Timing`."""
        if self._noted:
            timings = np.frombuffer(self._noted, np.int64).reshape(-1, len(self._counted))
            for durations, column in zip(self._counted, timings.T, strict=True):
                durations.add_all(column)
            self._noted = array("q")
        return self._counted


class Statistics:
    """Counts calls by model and version, and RPCs by method and status.

    Whoever counts names only models that are known here, or NO_MODEL: what a caller makes up takes no memory.
    """

    def __init__(self) -> None:
        self._models: dict[str, dict[int, VersionStatistics]] = {}
        self._rpcs: dict[tuple[str, str], Durations] = {}
        self._in_flight: dict[str, int] = {}
        self._turn = 0

    def __repr__(self) -> str:
        ended = sum(durations.count for durations in self._rpcs.values())
        return f"<Statistics of {len(self._models)} models, {ended} RPCs ended>"

    # Counting.

    def answered(self, model: str, version: int, rows: int, timing: Timing, wall_ns: int) -> None:
        """Count a call that a version answered at this time."""
        statistics = self._version(model, version)
        statistics.rows += rows
        statistics.last_answered_ns = wall_ns
        statistics.note(timing)

    def failed(self, model: str, version: int, status: str, reason: Reason, total_ns: int) -> None:
        """Count a call that was not answered; `version` 0 where it never reached one, or none is known."""
        failed = self._version(model, version).failed
        durations = failed.get((status, reason))
        if durations is None:
            durations = failed[status, reason] = Durations()
        durations.add(total_ns)

    def rpc_began(self, method: str) -> None:
        """Count an RPC in."""
        self._in_flight[method] = self._in_flight.get(method, 0) + 1

    def rpc_ended(self, method: str, status: str, duration_ns: int) -> None:
        """Count an RPC out, with the gRPC status by its name; of a stream, when the stream ends."""
        self._in_flight[method] -= 1
        durations = self._rpcs.get((method, status))
        if durations is None:
            durations = self._rpcs[method, status] = Durations()
        durations.add(duration_ns)

    # Reading.

    @property
    def models(self) -> Mapping[str, Mapping[int, VersionStatistics]]:
        """By model and version; version 0 has the calls that never reached one."""
        return self._models

    @property
    def rpcs(self) -> Mapping[tuple[str, str], Durations]:
        """How long RPCs took, by method (`/service/Name`) and status."""
        return self._rpcs

    @property
    def rpcs_in_flight(self) -> Mapping[str, int]:
        """RPCs that have not ended, open streams among them, by method."""
        return self._in_flight

    def _version(self, model: str, version: int) -> VersionStatistics:
        versions = self._models.get(model)
        if versions is None:
            if len(self._models) >= MAX_MODELS:
                del self._models[min(self._models, key=self._last_turn)]
            versions = self._models[model] = {}
        statistics = versions.get(version)
        if statistics is None:
            numbered = versions.keys() - {0}
            if version and len(numbered) >= MAX_VERSIONS:
                del versions[min(numbered, key=lambda known: versions[known].turn)]
            statistics = versions[version] = VersionStatistics()
        self._turn += 1
        statistics.turn = self._turn
        return statistics

    def _last_turn(self, model: str) -> int:
        return max(statistics.turn for statistics in self._models[model].values())
