"""The drop-ins' counters for Prometheus, by the names that Alpha Panda planned; needs prometheus_client."""

from collections.abc import Iterator

from strategy_client.configuration import ConfigurationError, Problem
from strategy_client.drop_in.processor import LearnedDropInProcessor, live_processors

try:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, SummaryMetricFamily
    from prometheus_client.metrics_core import Metric
    from prometheus_client.registry import Collector
except ModuleNotFoundError as error:
    text = "metrics need prometheus_client: pip install 'tickserve[client]'"
    raise ConfigurationError(Problem("", text)) from error

NS_PER_S = 1_000_000_000


class DropInCollector(Collector):
    """Reads the counts of all learned drop-ins of this process when it is scraped; costs a tick nothing.

    `ml_inference_total{strategy, outcome}` counts each side and each reason, `ml_inference_latency_seconds`
    sums the time of their calls, `ml_model_bound{strategy}` is 1 while the strategy can ask its model.
    """

    def collect(self) -> Iterator[Metric]:
        """Give the three families."""
        total = CounterMetricFamily(
            "ml_inference",
            "Ticks of a learned strategy by what came of them.",
            labels=["strategy", "outcome"],
        )
        latency = SummaryMetricFamily(
            "ml_inference_latency_seconds", "Time in a learned strategy's calls.", labels=["strategy"]
        )
        bound = GaugeMetricFamily("ml_model_bound", "1 while the model can be asked.", labels=["strategy"])
        for processor in live_processors():
            if not isinstance(processor, LearnedDropInProcessor):
                continue
            name = processor.strategy_id
            for outcome, count in sorted(processor.outcomes.copy().items()):
                total.add_metric([name, outcome], count)
            latency.add_metric([name], processor.calls, processor.duration_ns / NS_PER_S)
            bound.add_metric([name], float(processor.model is not None))
        yield from (total, latency, bound)


def register_metrics(registry: CollectorRegistry) -> DropInCollector:
    """Let a registry, as that of Alpha Panda's own metrics, tell of the drop-ins; return what was added."""
    collector = DropInCollector()
    registry.register(collector)
    return collector
