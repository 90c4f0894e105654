"""The sidecar as a whole: what it is, its bounds and what is taken of them, the lag of its event loop."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from inference_server.http.metrics import gauges, histograms
from inference_server.serving.loop_lag import LoopLag


@dataclass(frozen=True, slots=True)
class Bounded:
    """What is taken of something now, and the bound on it."""

    taken: Callable[[], int]
    bound: int


class ServerCollector(Collector):
    """Says it at each scrape. `builds` are versions by label: `version` is ours, others are of libraries."""

    def __init__(
        self, builds: dict[str, str], calls: Bounded, memory_bytes: Bounded, loop_lag: LoopLag
    ) -> None:
        self._builds = builds
        self._calls = calls
        self._memory_bytes = memory_bytes
        self._loop_lag = loop_lag

    def collect(self) -> Iterator[Metric]:
        """Yield every family."""
        yield from gauges(
            "tickserve_build_info",
            "Always 1: the versions of this build.",
            tuple(self._builds),
            [(tuple(self._builds.values()), 1)],
        )
        yield from gauges(
            "tickserve_calls_in_flight",
            "Calls admitted whose callers wait for them.",
            (),
            [((), self._calls.taken())],
        )
        yield from gauges(
            "tickserve_calls_in_flight_bound",
            "Calls that may be in flight; one more is refused with RESOURCE_EXHAUSTED.",
            (),
            [((), self._calls.bound)],
        )
        yield from gauges(
            "tickserve_models_memory_bytes",
            "What all models take, by what vetting measured; equal bytes count once.",
            (),
            [((), self._memory_bytes.taken())],
        )
        yield from gauges(
            "tickserve_models_memory_bound_bytes",
            "What all models may take; a file that would pass it is refused.",
            (),
            [((), self._memory_bytes.bound)],
        )
        yield from histograms(
            "tickserve_event_loop_lag_seconds",
            "How much later than asked for the event loop woke a task, ten times a second.",
            (),
            [((), self._loop_lag.durations)],
        )
