"""`/metrics` for Prometheus: what is served, since when, and how it stands to what is wanted.

Nothing that a caller sends becomes a label. There is one series for each model or version that lies in the
repository or is served; digest, contract, state and vetting are facts of a version, so each swap in place
ends one series of `tickserve_version_info` and begins another.
"""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from aiohttp import web
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from inference_server.core.clock import Clock
from inference_server.core.servable import ModelStatus, State, VersionStatus
from inference_server.http.listener import Routes
from inference_server.serving.drain import Drain
from inference_server.serving.registry import Registry

MODEL: Final = ("model",)
VERSION: Final = ("model", "version")
INFO: Final = (*VERSION, "state", "digest", "contract_hash", "vetting")
# The last line of an OpenMetrics text; the plain form has none.
END: Final = b"# EOF\n"


def metrics(collectors: Iterable[Collector]) -> Routes:
    """Return the route that answers with what these collect, and with what the system says of the process.

    They are asked on the event loop's thread at each scrape, and calls get their turn after each family:
    what a scrape costs grows with the number of versions, and no prediction is to wait for all of it.
    """
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    for collector in collectors:
        registry.register(collector)

    async def scrape(request: web.Request) -> web.Response:
        accepted = ",".join(request.headers.getall("Accept", ()))
        try:
            encode, content_type = choose_encoder(accepted)
        except TypeError:  # it asks for a version that is no number: it gets the oldest form
            encode, content_type = choose_encoder("")
        parts: list[bytes] = []
        for family in registry.collect():
            parts.append(encode(_OneFamily(family)))
            await asyncio.sleep(0)
        text = b"".join(part.removesuffix(END) for part in parts)
        end = END if any(part.endswith(END) for part in parts) else b""
        return web.Response(body=text + end, headers={"Content-Type": content_type})

    return [web.get("/metrics", scrape)]


class _OneFamily(Collector):
    """Gives one family to the library's encoders, which take collectors."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterator[Metric]:
        yield self._family


class ServedCollector(Collector):
    """Says what the registry of models says, at each scrape."""

    def __init__(self, registry: Registry, drain: Drain, clock: Clock) -> None:
        self._registry = registry
        self._drain = drain
        self._clock = clock

    def collect(self) -> Iterator[Metric]:
        """Yield every family, also those without a series now."""
        models = self._registry.describe()
        yield _gauge(
            "tickserve_ready",
            "1 while every required model answers and the sidecar is not stopping.",
            (),
            [((), self._registry.ready() and not self._drain.begun)],
        )
        yield from self._of_models(models)
        yield from _of_versions([version for model in models for version in model.versions])

    def _of_models(self, models: Sequence[ModelStatus]) -> Iterator[Metric]:
        now_ns = self._clock.wall_ns()
        yield _gauge(
            "tickserve_model_ready",
            "1 while calls that name no version are answered.",
            MODEL,
            [((model.name,), self._registry.model_ready(model.name)) for model in models],
        )
        yield _gauge(
            "tickserve_model_default_version",
            "The version that answers calls that name none; 0: none. Exact up to 2^53.",
            MODEL,
            [((model.name,), model.default_version) for model in models],
        )
        yield _gauge(
            "tickserve_model_behind",
            "1 while what is wanted is not what is served, vetting and loading included.",
            MODEL,
            [((model.name,), model.behind_since_ns > 0) for model in models],
        )
        yield _gauge(
            "tickserve_model_behind_seconds",
            "How long what is wanted has not been what is served; 0 when it is.",
            MODEL,
            [((model.name,), _behind_s(model, now_ns)) for model in models],
        )


def _of_versions(versions: Sequence[VersionStatus]) -> Iterator[Metric]:
    served = [version for version in versions if version.state is State.AVAILABLE]
    vetted = [(version, version.vetting) for version in served if version.vetting is not None]
    yield _gauge(
        "tickserve_version_info",
        "Always 1: what is known of a version. Vetting is verified, unverified (it has no contract), "
        "refused, or none where it is not served for another reason.",
        INFO,
        [(_info(version), 1) for version in versions],
    )
    yield _gauge(
        "tickserve_version_vetted_timestamp_seconds",
        "When the bytes that are served passed vetting.",
        VERSION,
        [(_labels(version), vetting.vetted_at_ns / 1e9) for version, vetting in vetted],
    )
    yield _gauge(
        "tickserve_version_available_since_timestamp_seconds",
        "Since when these bytes answer.",
        VERSION,
        [(_labels(version), version.available_since_ns / 1e9) for version in served],
    )
    yield _gauge(
        "tickserve_version_memory_bytes",
        "What loading and running it took when it was vetted. Versions of one digest share it: do not add "
        "them up.",
        VERSION,
        [(_labels(version), vetting.memory_bytes) for version, vetting in vetted],
    )
    rows = CounterMetricFamily(
        "tickserve_version_rows_answered",
        "Rows answered by these bytes; begins again at 0 with each load.",
        labels=VERSION,
    )
    for version in served:
        # With the time of its beginning a scraper tells a new count from one that went on.
        rows.add_metric(_labels(version), version.rows_answered, created=version.available_since_ns / 1e9)
    yield rows


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


def _gauge(
    name: str, told: str, labels: Sequence[str], samples: Iterable[tuple[Sequence[str], float]]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, told, labels=labels)
    for values, value in samples:
        family.add_metric(values, float(value))
    return family
