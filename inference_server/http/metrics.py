"""`/metrics` for Prometheus: the route. What is told stands in the collectors beside this module.

Nothing that a caller sends becomes a label.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Final, TypeVar, cast

from aiohttp import web
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.openmetrics.exposition import ALLOWUTF8
from prometheus_client.registry import Collector

from inference_server.http.listener import Routes
from inference_server.serving.statistics import BOUNDS_NS, Durations

MODEL: Final = ("model",)
VERSION: Final = ("model", "version")
# The last line of an OpenMetrics text; the plain form has none.
END: Final = b"# EOF\n"
# The upper ends of the buckets as Prometheus writes them.
BOUNDS: Final = (*(str(bound_ns / 1e9) for bound_ns in BOUNDS_NS), "+Inf")
# How many series of one sample, and how many histograms, are collected and written before calls get their
# turn: about half a millisecond of the event loop.
SLICE: Final = 100
HISTOGRAM_SLICE: Final = 5

Item = TypeVar("Item")


def metrics(collectors: Iterable[Collector]) -> Routes:
    """Return the route that answers with what these collect, and with what the system says of the process.

    They are asked on the event loop's thread at each scrape, and calls get their turn after each family: what
    a scrape costs grows with the number of versions, and no prediction is to wait for all of it. A collector
    may give a family in several slices, one after the other.
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
        # Our names need no escaping: each way to do it gives this text, and the others take twice as long.
        encode = partial(cast("Callable[..., bytes]", encode), escaping=ALLOWUTF8)
        open_metrics = content_type.startswith("application/openmetrics-text")
        parts: list[bytes] = []
        name = ""
        for family in registry.collect():
            parts.append(_written(family, encode, first=family.name != name, created=open_metrics))
            name = family.name
            await asyncio.sleep(0)
        parts.append(END if open_metrics else b"")
        return web.Response(body=b"".join(parts), headers={"Content-Type": content_type})

    return [web.get("/metrics", scrape)]


def gauges(
    name: str, told: str, labels: Sequence[str], samples: Iterable[tuple[Sequence[str], float]]
) -> Iterator[GaugeMetricFamily]:
    """Yield a gauge in slices; one without a sample now is there too."""
    for some in slices(samples, SLICE):
        family = GaugeMetricFamily(name, told, labels=labels)
        for values, value in some:
            family.add_metric(values, float(value))
        yield family


def histograms(
    name: str, told: str, labels: Sequence[str], samples: Iterable[tuple[Sequence[str], Durations]]
) -> Iterator[HistogramMetricFamily]:
    """Yield durations as histograms in seconds, in slices."""
    for some in slices(samples, HISTOGRAM_SLICE):
        family = HistogramMetricFamily(name, told, labels=labels)
        for values, durations in some:
            counted, buckets = 0, []
            for bound, count in zip(BOUNDS, durations.buckets, strict=True):
                counted += count
                buckets.append((bound, counted))
            family.add_metric(values, buckets, durations.sum_ns / 1e9)
        yield family


def slices(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield the items in lists of at most `size`; an empty list where there are none."""
    rest = iter(items)
    yield list(islice(rest, size))
    while some := list(islice(rest, size)):
        yield some


def _written(family: Metric, encode: Callable[[Collector], bytes], *, first: bool, created: bool) -> bytes:
    if not created:  # the plain form has no such samples; the encoder would make another family of them
        family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
    text = encode(_OneFamily(family)).removesuffix(END)
    while not first and text.startswith(b"#"):
        text = text.partition(b"\n")[2]
    return text


class _OneFamily(Collector):
    """Gives one family to the library's encoders, which take collectors."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterator[Metric]:
        yield self._family
