"""What is served, since when, how it stands to what is wanted, and what happened to it.

There is a series for each model or version that lies in the repository or is served; digest, contract, state
and vetting are facts of a version, so each swap in place ends one series of `tickserve_version_info`, and
begins another.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from prometheus_client.metrics_core import CounterMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector

from inference_server.core.clock import Clock
from inference_server.core.servable import ModelStatus, State, VersionStatus
from inference_server.http.metrics import MODEL, SLICE, VERSION, gauges, slices
from inference_server.serving.changes import Changes, ModelChanges
from inference_server.serving.drain import Drain
from inference_server.serving.registry import Registry
from inference_server.serving.statistics import Durations

INFO: Final = (*VERSION, "state", "digest", "contract_hash", "vetting")
UNCHANGED: Final = ModelChanges()


class ServedCollector(Collector):
    """Says what the registry of models says, and what was counted of its changes, at each scrape.

    `calls_to` returns the calls in flight to a model, and the bound on them.
    """

    def __init__(
        self,
        registry: Registry,
        changes: Changes,
        drain: Drain,
        clock: Clock,
        calls_to: Callable[[str], tuple[int, int]],
    ) -> None:
        self._registry = registry
        self._calls_to = calls_to
        self._changes = changes
        self._drain = drain
        self._clock = clock

    def collect(self) -> Iterator[Metric]:
        """Yield every family, also those without a series now."""
        models = self._registry.describe()
        versions = [version for model in models for version in model.versions]
        yield from gauges(
            "tickserve_ready",
            "1 while every required model answers and the sidecar is not stopping.",
            (),
            [((), self._registry.ready() and not self._drain.begun)],
        )
        yield from self._standing(models)
        yield from self._counted([model.name for model in models])
        yield from gauges(
            "tickserve_versions",
            "Versions known, by state.",
            ("state",),
            [((state.value,), sum(version.state is state for version in versions)) for state in State],
        )
        yield from _of_versions(versions)

    def _standing(self, models: Sequence[ModelStatus]) -> Iterator[Metric]:
        now_ns = self._clock.wall_ns()
        yield from gauges(
            "tickserve_model_ready",
            "1 while calls that name no version are answered.",
            MODEL,
            [((model.name,), self._registry.model_ready(model.name)) for model in models],
        )
        yield from gauges(
            "tickserve_model_default_version",
            "The version that answers calls that name none; 0: none. Exact up to 2^53.",
            MODEL,
            [((model.name,), model.default_version) for model in models],
        )
        yield from gauges(
            "tickserve_model_pinned_version",
            "The version that a rollback went back to; 0: none.",
            MODEL,
            [((model.name,), model.pinned_version) for model in models],
        )
        yield from gauges(
            "tickserve_model_problem",
            "1 while something of what lies there is refused or held, or cannot be kept; status says what.",
            MODEL,
            [((model.name,), bool(model.problem)) for model in models],
        )
        yield from gauges(
            "tickserve_model_behind",
            "1 while what is wanted is not what is served, vetting and loading included.",
            MODEL,
            [((model.name,), model.behind_since_ns > 0) for model in models],
        )
        yield from gauges(
            "tickserve_model_behind_seconds",
            "How long what is wanted has not been what is served; 0 when it is.",
            MODEL,
            [((model.name,), _behind_s(model, now_ns)) for model in models],
        )

        calls = [((model.name,), self._calls_to(model.name)) for model in models]
        yield from gauges(
            "tickserve_model_calls_in_flight",
            "Calls admitted to a model whose callers wait for them.",
            MODEL,
            [(labels, in_flight) for labels, (in_flight, _) in calls],
        )
        yield from gauges(
            "tickserve_model_calls_in_flight_bound",
            "Calls to a model that may be in flight; one more is refused with RESOURCE_EXHAUSTED.",
            MODEL,
            [(labels, bound) for labels, (_, bound) in calls],
        )

    def _counted(self, names: Sequence[str]) -> Iterator[Metric]:
        changes = [(name, self._changes.models.get(name, UNCHANGED)) for name in names]
        for some in slices(changes, SLICE):
            swaps = CounterMetricFamily(
                "tickserve_model_swaps",
                "Times that calls naming no version began to be answered by another version or other bytes.",
                labels=MODEL,
            )
            for name, model in some:
                swaps.add_metric((name,), model.swaps)
            yield swaps
        for some in slices(changes, SLICE):
            rollbacks = CounterMetricFamily(
                "tickserve_model_rollbacks", "Rollbacks that came about.", labels=MODEL
            )
            for name, model in some:
                rollbacks.add_metric((name,), model.rollbacks)
            yield rollbacks
        refused = [(name, step, n) for name, model in changes for step, n in model.refusals.items()]
        for some_refused in slices(refused, SLICE):
            refusals = CounterMetricFamily(
                "tickserve_model_refusals",
                "Files refused, by the step that refused them.",
                labels=("model", "step"),
            )
            for name, step, count in some_refused:
                refusals.add_metric((name, step), count)
            yield refusals
        yield from _summaries(
            "tickserve_model_vetting_seconds",
            "How long vetting took, of files that passed and of those that did not.",
            [(name, model.vetting) for name, model in changes],
        )
        yield from _summaries(
            "tickserve_model_load_seconds",
            "How long loading and warm-up took, of what could be served then.",
            [(name, model.load) for name, model in changes],
        )


def _of_versions(versions: Sequence[VersionStatus]) -> Iterator[Metric]:
    served = [version for version in versions if version.state is State.AVAILABLE]
    vetted = [(version, version.vetting) for version in served if version.vetting is not None]
    yield from gauges(
        "tickserve_version_info",
        "Always 1: what is known of a version. Vetting is verified, unverified (it has no contract), "
        "refused, or none where it is not served for another reason.",
        INFO,
        [(_info(version), 1) for version in versions],
    )
    yield from gauges(
        "tickserve_version_vetted_timestamp_seconds",
        "When the bytes that are served passed vetting.",
        VERSION,
        [(_labels(version), vetting.vetted_at_ns / 1e9) for version, vetting in vetted],
    )
    yield from gauges(
        "tickserve_version_available_since_timestamp_seconds",
        "Since when these bytes answer.",
        VERSION,
        [(_labels(version), version.available_since_ns / 1e9) for version in served],
    )
    yield from gauges(
        "tickserve_version_memory_bytes",
        "What loading and running it took when it was vetted. Versions of one digest share it: do not add "
        "them up.",
        VERSION,
        [(_labels(version), vetting.memory_bytes) for version, vetting in vetted],
    )
    yield from gauges(
        "tickserve_version_calls_in_flight",
        "Calls admitted to these bytes whose run has not ended.",
        VERSION,
        [(_labels(version), version.in_flight) for version in served],
    )
    for some in slices(served, SLICE):
        rows = CounterMetricFamily(
            "tickserve_version_rows_answered",
            "Rows answered by these bytes; begins again at 0 with each load.",
            labels=VERSION,
        )
        for version in some:
            # With the time of its beginning a scraper tells a new count from one that went on.
            rows.add_metric(_labels(version), version.rows_answered, created=version.available_since_ns / 1e9)
        yield rows


def _summaries(name: str, told: str, samples: Sequence[tuple[str, Durations]]) -> Iterator[Metric]:
    for some in slices(samples, SLICE):
        family = SummaryMetricFamily(name, told, labels=MODEL)
        for model, durations in some:
            family.add_metric((model,), durations.count, durations.sum_ns / 1e9)
        yield family


def _labels(version: VersionStatus) -> tuple[str, str]:
    return version.id.name, str(version.id.version)


def _info(version: VersionStatus) -> tuple[str, ...]:
    contract_hash = version.contract.hash if version.contract else ""
    return *_labels(version), version.state.value, version.digest, contract_hash, _vetting(version)


def _vetting(version: VersionStatus) -> str:
    if version.vetting is None:
        return "refused" if version.refused else "none"
    return "verified" if version.vetting.verified else "unverified"


def _behind_s(model: ModelStatus, now_ns: int) -> float:
    # Wall clocks step: an age is never negative.
    return max(0, now_ns - model.behind_since_ns) / 1e9 if model.behind_since_ns else 0.0
