"""The drop-ins' counters for Prometheus, by the names that Alpha Panda planned; needs prometheus_client."""

from collections import Counter
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
        for name, processors in _by_strategy().items():
            outcomes = sum((each.outcomes.copy() for each in processors), Counter())
            for outcome, count in sorted(outcomes.items()):
                total.add_metric([name, outcome], count)
            calls = sum(each.calls for each in processors)
            duration_ns = sum(each.duration_ns for each in processors)
            latency.add_metric([name], calls, duration_ns / NS_PER_S)
            bound.add_metric([name], float(all(each.model is not None for each in processors)))
        yield from (total, latency, bound)


def register_metrics(registry: CollectorRegistry) -> DropInCollector:
    """Let a registry, as that of Alpha Panda's own metrics, tell of the drop-ins; return what was added."""
    collector = DropInCollector()
    registry.register(collector)
    return collector


def _by_strategy() -> dict[str, list[LearnedDropInProcessor]]:
    # Two of one name would be one sample twice, at which Prometheus refuses the whole page.
    named: dict[str, list[LearnedDropInProcessor]] = {}
    for processor in live_processors():
        if isinstance(processor, LearnedDropInProcessor):
            named.setdefault(processor.strategy_id, []).append(processor)
    return named
