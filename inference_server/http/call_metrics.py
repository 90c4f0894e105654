"""What was asked and how it ended: the numbers of `serving.statistics`, in Prometheus' words.

A series is there once it has counted something. Version 0 has the calls that reached no version, the model ""
those that name none that is known.
"""

from collections.abc import Iterator
from typing import Final

from prometheus_client.metrics_core import CounterMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector

from inference_server.http.metrics import SLICE, VERSION, gauges, histograms, slices
from inference_server.serving.statistics import Statistics, VersionStatistics

ENDED: Final = (*VERSION, "status", "reason")


class CallsCollector(Collector):
    """Says what the statistics say of calls and RPCs, at each scrape."""

    def __init__(self, statistics: Statistics) -> None:
        self._statistics = statistics

    def collect(self) -> Iterator[Metric]:
        """Yield every family, also those without a series now."""
        # A copy, for calls are counted between the slices.
        versions = [
            ((model, str(version)), counted)
            for model, of_model in self._statistics.models.items()
            for version, counted in of_model.items()
        ]
        yield from _ended(versions)
        answered = [(labels, counted) for labels, counted in versions if counted.answered]
        yield from histograms(
            "tickserve_call_seconds",
            "Calls answered, from the arrival of their message to the end of the answer's encoding.",
            VERSION,
            [(labels, counted.total) for labels, counted in answered],
        )
        yield from histograms(
            "tickserve_call_queue_seconds",
            "Calls answered: what passed before the run and was not decoding. Other calls, and the checks.",
            VERSION,
            [(labels, counted.queue) for labels, counted in answered],
        )
        yield from histograms(
            "tickserve_call_input_seconds",
            "Calls answered: decoding.",
            VERSION,
            [(labels, counted.input) for labels, counted in answered],
        )
        yield from histograms(
            "tickserve_call_inference_seconds",
            "Calls answered: the model's run.",
            VERSION,
            [(labels, counted.infer) for labels, counted in answered],
        )
        yield from histograms(
            "tickserve_call_output_seconds",
            "Calls answered: encoding.",
            VERSION,
            [(labels, counted.output) for labels, counted in answered],
        )
        yield from gauges(
            "tickserve_rpcs_in_flight",
            "RPCs that have not ended, open streams among them.",
            ("method",),
            [((method,), count) for method, count in self._statistics.rpcs_in_flight.items()],
        )
        yield from histograms(
            "tickserve_rpc_seconds",
            "RPCs ended, with their gRPC status. A stream is one RPC, from its opening to its end.",
            ("method", "status"),
            list(self._statistics.rpcs.items()),
        )


def _ended(versions: list[tuple[tuple[str, str], VersionStatistics]]) -> Iterator[Metric]:
    counts = [
        (labels, status, reason, count)
        for labels, counted in versions
        for status, reason, count in (
            *((("OK", "", counted.answered),) if counted.answered else ()),
            *((status, reason.value, it.count) for (status, reason), it in counted.failed.items()),
        )
    ]
    for some in slices(counts, SLICE):
        calls = CounterMetricFamily(
            "tickserve_calls",
            "Calls ended: parts of Predict messages, and ModelInfers. No reason where it was answered.",
            labels=ENDED,
        )
        for labels, status, reason, count in some:
            calls.add_metric((*labels, status, reason), count)
        yield calls
    failed = [
        ((*labels, status, reason.value), durations)
        for labels, counted in versions
        for (status, reason), durations in counted.failed.items()
    ]
    for some_failed in slices(failed, SLICE):
        seconds = SummaryMetricFamily(
            "tickserve_failed_call_seconds",
            "Calls not answered, from the arrival of their message to their end.",
            labels=ENDED,
        )
        for ended, durations in some_failed:
            seconds.add_metric(ended, durations.count, durations.sum_ns / 1e9)
        yield seconds
