"""A live run's counters as Prometheus reads them. Needs prometheus_client."""

import platform
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from typing import Final

import grpc
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from strategy_client.binding import Bound
from strategy_client.events import Reason
from strategy_client.live.account import StrategyAccount
from strategy_client.live.histogram import Histogram
from strategy_client.live.probes import Answer
from strategy_client.live.view import View
from strategy_client.predictor.breaker import BreakerState

NS_PER_S: Final = 1_000_000_000
# Alpha Panda's words for this service and for a tick, and for what is of no broker.
SERVICE: Final = "strategy_runner"
TICK: Final = "market_tick"
NO_BROKER: Final = "shared"
SHADOW_RESULTS: Final = ("same_side", "both_none", "differ")
TEXT: Final = "text/plain; charset=utf-8"
# What is a failure of something, where the others are what a strategy says or is told to do.
FAILURES: Final = tuple(
    reason.value
    for reason in Reason
    if reason not in {Reason.HOLD, Reason.BELOW_THRESHOLD, Reason.WARMING_UP, Reason.DISABLED}
)
P: Final = "tickserve_client_"


class LiveMetrics(Collector):
    """Reads a view whenever it is scraped; holds nothing of its own.

    Labels are names from the configuration, words of our own, targets, and what the sidecar says of the model
    in use: nothing that grows with the ticks.
    """

    def __init__(self, view: View) -> None:
        self._view = view

    def collect(self) -> Iterator[Metric]:
        """Give every family; one without a series is left out."""
        strategies = self._view.parts.account.strategies
        families = [
            *self._of_the_trade(strategies),
            *self._of_models(strategies),
            *self._of_strategies(strategies),
            *self._of_ticks(),
            *self._of_sidecars(),
            *self._of_queues(),
            *self._of_the_run(),
        ]
        yield from (family for family in families if family.samples)

    def _of_the_trade(self, strategies: Iterable[StrategyAccount]) -> Iterator[Metric]:
        signals = CounterMetricFamily(
            "trading_signals_generated",
            "Signals, once for each broker of the strategy.",
            labels=("strategy_id", "broker", "signal_type"),
        )
        errors = CounterMetricFamily(
            "trading_errors",
            "Ticks of a strategy without an answer to go by, by our reasons; and signals a sink dropped.",
            labels=("component", "error_type", "broker"),
        )
        for each in strategies:
            for (broker, side), count in sorted(dict(each.signals).items()):
                signals.add_metric((each.strategy_id, broker, side), count)
        for reason in FAILURES:
            if count := sum(each.outcomes[reason] for each in strategies):
                errors.add_metric((SERVICE, reason, NO_BROKER), count)
        for broker, sink in self._view.sinks.items():
            errors.add_metric(("sink", "dropped", broker), sink.dropped)
            errors.add_metric(("sink", "failed", broker), sink.failed)
        yield signals
        yield errors
        latency = HistogramMetricFamily(
            "trading_processing_latency_seconds",
            "From a tick's begin to its last outcome.",
            labels=("service", "event_type"),
        )
        _add(latency, (SERVICE, TICK), self._view.parts.account.shown_latency)
        yield latency

    def _of_models(self, strategies: Iterable[StrategyAccount]) -> Iterator[Metric]:
        view = self._view
        loaded = CounterMetricFamily(
            "ml_model_load_success", "Times a strategy was bound to a model.", labels=("strategy_id",)
        )
        failed = CounterMetricFamily(
            "ml_model_load_failure",
            "Times a strategy was found unable to use its model, for another cause than before.",
            labels=("strategy_id",),
        )
        for (strategy_id, bound), count in sorted(dict(view.loads).items()):
            (loaded if bound else failed).add_metric((strategy_id,), count)
        inferences = CounterMetricFamily(
            "ml_inference", "Answers by a model, in time, that a strategy got.", labels=("strategy",)
        )
        latency = HistogramMetricFamily(
            "ml_inference_latency_seconds", "From the question to the answer.", labels=("strategy",)
        )
        info = GaugeMetricFamily(
            f"{P}model_info",
            "Always 1: the model that answered the strategy last.",
            labels=("strategy_id", "model", "version", "digest"),
        )
        bound_now = GaugeMetricFamily(
            f"{P}strategy_bound", "1 while a learned strategy is bound to its model.", labels=("strategy_id",)
        )
        shadow = CounterMetricFamily(
            f"{P}shadow_comparisons",
            "A second model beside the first, by tick: the same side, no side both times, or not the same.",
            labels=("strategy_id", "result"),
        )
        for each in strategies:
            if each.learned:
                inferences.add_metric((each.strategy_id,), each.inference.count)
                _add(latency, (each.strategy_id,), each.inference)
            if each.last_model is not None:
                model, version, digest = each.last_model
                info.add_metric((each.strategy_id, model, str(version), digest), 1)
            for result in SHADOW_RESULTS if each.shadow is not None else ():
                shadow.add_metric((each.strategy_id, result), getattr(each.shadow, result))
        for strategy_id, binding in view.bindings.items():
            bound_now.add_metric((strategy_id,), isinstance(binding, Bound))
        yield from self._of_drift()
        yield _counter(
            "shadow_dropped", "Comparisons that were not taken in time.", view.parts.runner.shadows_dropped
        )
        yield from (loaded, failed, inferences, latency, info, bound_now, shadow)

    def _of_drift(self) -> Iterator[Metric]:
        rows = CounterMetricFamily(
            f"{P}drift_rows", "Rows compared with the training range.", labels=("strategy_id",)
        )
        outside = CounterMetricFamily(
            f"{P}drift_outside_rows",
            "Rows with a feature outside of what the model was trained on.",
            labels=("strategy_id", "feature", "side"),
        )
        for strategy_id, drift in sorted(dict(self._view.parts.runner.drift).items()):
            rows.add_metric((strategy_id,), drift.rows)
            for side, counts in (("below", drift.below), ("above", drift.above)):
                for feature, count in sorted(dict(counts).items()):
                    outside.add_metric((strategy_id, feature, side), count)
        yield rows
        yield outside

    def _of_strategies(self, strategies: Iterable[StrategyAccount]) -> Iterator[Metric]:
        outcomes = CounterMetricFamily(
            f"{P}outcomes",
            "Outcomes: BUY, SELL, or the reason for no signal. One for each tick of each strategy.",
            labels=("strategy_id", "outcome"),
        )
        enabled = GaugeMetricFamily(
            f"{P}strategy_enabled", "1 while a strategy may give signals.", labels=("strategy_id",)
        )
        for each in strategies:
            for outcome, count in sorted(dict(each.outcomes).items()):
                outcomes.add_metric((each.strategy_id, outcome), count)
        for executor in self._view.executors:
            enabled.add_metric((executor.strategy_id,), executor.enabled)
        yield outcomes
        yield enabled

    def _of_ticks(self) -> Iterator[Metric]:
        view = self._view
        yield _counter("ticks", "Ticks taken.", view.loop.ticks if view.loop else 0)
        yield _counter(
            "ticks_failed", "Ticks without outcomes, by a bug.", view.loop.failed if view.loop else 0
        )
        yield _counter(
            "ticks_over_deadline",
            "Ticks that took longer than the deadline.",
            view.parts.account.over_deadline,
        )
        yield _counter("bad_ticks", "What the source gave and is no tick.", view.parts.bad.count)
        edge = CounterMetricFamily(
            f"{P}edge_ticks", "Ticks by what was noticed at the edge.", labels=("noticed",)
        )
        for noticed, count in view.edge.items():
            if noticed != "taken":
                edge.add_metric((noticed,), count)
        yield edge

    def _of_sidecars(self) -> Iterator[Metric]:
        view = self._view
        requests = CounterMetricFamily(
            f"{P}requests", "Requests to a sidecar, by what came of them.", labels=("target", "result")
        )
        late = CounterMetricFamily(
            f"{P}late_answers", "Answers that came after their deadline and were dropped.", labels=("target",)
        )
        streams = CounterMetricFamily(f"{P}streams", "Connections made.", labels=("target",))
        opened = CounterMetricFamily(
            f"{P}breaker_openings", "Times the circuit breaker opened.", labels=("target",)
        )
        for target, counts in view.calls.items():
            for result in ("answered", "failed", "missed"):
                requests.add_metric((target, result), getattr(counts, result))
            late.add_metric((target,), counts.late)
            streams.add_metric((target,), counts.streams)
            opened.add_metric((target,), counts.breaker_opened)
        state = GaugeMetricFamily(
            f"{P}breaker_state", "1 for the state that the breaker is in.", labels=("target", "state")
        )
        flags = {
            name: GaugeMetricFamily(f"{P}endpoint_{name}", text, labels=("target",))
            for name, text in (
                ("connected", "1 while the stream to it is open."),
                ("ready", "1 while it says that it is ready."),
                ("in_use", "1 for the sidecar that questions go to."),
            )
        }
        for endpoint in view.endpoints:
            for each in BreakerState:
                state.add_metric((endpoint.target, each.value), endpoint.breaker is each)
            for name, family in flags.items():
                family.add_metric((endpoint.target,), getattr(endpoint, name))
        yield from (requests, late, streams, opened, state, *flags.values())

    def _of_queues(self) -> Iterator[Metric]:
        parts = self._view.parts
        yield _gauge("queue_ticks", "Ticks that wait for the loop.", parts.intake.waiting)
        yield _gauge("queue_ticks_bound", "How many may; then the source waits.", parts.intake.max_waiting)
        sinks = CounterMetricFamily(
            f"{P}sink_signals", "Signals handed to a broker's sink.", labels=("broker", "result")
        )
        queued = GaugeMetricFamily(f"{P}sink_queued", "Signals that wait for delivery.", labels=("broker",))
        retries = CounterMetricFamily(f"{P}sink_retries", "Attempts that failed.", labels=("broker",))
        for broker, sink in sorted(self._view.sinks.items()):
            for result in ("sent", "dropped", "failed"):
                sinks.add_metric((broker, result), getattr(sink, result))
            queued.add_metric((broker,), sink.queued)
            retries.add_metric((broker,), sink.retries)
        unrouted = CounterMetricFamily(
            f"{P}unrouted_signals", "Signals of a broker without a sink.", labels=("broker",)
        )
        for broker, count in sorted(dict(parts.fan_out.unrouted if parts.fan_out else {}).items()):
            unrouted.add_metric((broker,), count)
        yield from (sinks, queued, retries, unrouted)
        if parts.audit is not None:
            audit = parts.audit.counts
            yield _counter("audit_written", "Records of the audit log that were written.", audit.written)
            yield _counter("audit_dropped", "Ticks that found no room in it.", audit.dropped)
            yield _counter("audit_dropped_shadows", "Comparisons that found none.", audit.dropped_shadows)
            yield _counter("audit_failures", "Times the disk did not take it.", audit.failures)
        if parts.recorder is not None:
            recorder = parts.recorder
            yield _counter("recorded", "Ticks and comparisons written to --out.", recorder.written)
            yield _counter("recorded_dropped", "Those that were left out.", recorder.dropped)
            yield _gauge("recorded_bytes", "The size of the files of --out.", recorder.bytes)

    def _of_the_run(self) -> Iterator[Metric]:
        view = self._view
        parts = view.parts
        build = GaugeMetricFamily(f"{P}build_info", "Always 1: this build.", labels=("python", "grpcio"))
        build.add_metric((platform.python_version(), grpc.__version__), 1)
        yield build
        yield _gauge("heartbeat_age_seconds", "How long ago the loop came round.", view.heartbeat_age_s)
        yield _gauge("feed_silent", "1 while no tick at all comes.", parts.silence.feed_silent)
        yield _gauge(
            "silent_instruments", "Instruments without a tick for too long.", len(parts.silence.silent)
        )
        yield _gauge("configuration_problems", "What is wrong with it now.", len(parts.watch.problems))
        yield _gauge("configuration_age_seconds", "How long ago it was read.", parts.watch.age_s)
        yield _counter("configuration_changes", "Times it was taken over.", parts.watch.changes)
        problems = CounterMetricFamily(f"{P}problems", "What the log tells of, by kind.", labels=("kind",))
        for kind, count in sorted(parts.journal.counts.items()):
            problems.add_metric((kind,), count)
        yield problems


def metrics_page(view: View) -> Answer:
    """Return the text of a scrape."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(LiveMetrics(view))
    ProcessCollector(registry=registry)
    return HTTPStatus.OK, CONTENT_TYPE_LATEST, generate_latest(registry)


def health_page(view: View) -> Answer:
    """Say whether the loop is alive: 200, or 503 where it has not come round."""
    if view.alive:
        return HTTPStatus.OK, TEXT, b"ok\n"
    text = f"the loop has not come round for {view.heartbeat_age_s:.0f} s\n"
    return HTTPStatus.SERVICE_UNAVAILABLE, TEXT, text.encode()


def ready_page(view: View) -> Answer:
    """Say whether everything runs as it should: 200, or 503 and a line for each thing that does not."""
    lines = view.degraded()
    if not lines:
        return HTTPStatus.OK, TEXT, b"ok\n"
    return HTTPStatus.SERVICE_UNAVAILABLE, TEXT, "".join(f"{line}\n" for line in lines).encode()


def _counter(name: str, text: str, value: float) -> Metric:
    family = CounterMetricFamily(f"{P}{name}", text)
    family.add_metric((), value)
    return family


def _gauge(name: str, text: str, value: float) -> Metric:
    family = GaugeMetricFamily(f"{P}{name}", text)
    family.add_metric((), value)
    return family


def _add(family: HistogramMetricFamily, labels: tuple[str, ...], histogram: Histogram) -> None:
    buckets = [
        ("+Inf" if bound_ns < 0 else str(bound_ns / NS_PER_S), count)
        for bound_ns, count in histogram.cumulated()
    ]
    family.add_metric(labels, buckets, sum_value=histogram.sum_ns / NS_PER_S)
