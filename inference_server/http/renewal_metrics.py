"""Certificates and tokens: whether their files can be used, and until when the certificate holds."""

from collections.abc import Iterator, Sequence
from typing import Any

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from inference_server.adapters.certificate import Certificate
from inference_server.adapters.renewal import Renewal
from inference_server.http.metrics import gauges


class RenewalCollector(Collector):
    """Says it at each scrape, of what is configured; why a file cannot be used is in the log alone."""

    def __init__(self, tls: Renewal[Certificate] | None, renewals: Sequence[Renewal[Any]]) -> None:
        self._tls = tls
        self._renewals = renewals

    def collect(self) -> Iterator[Metric]:
        """Yield every family; none where neither is configured."""
        if self._renewals:
            problems: dict[tuple[str, ...], float] = {}
            for renewal in self._renewals:
                labels = (renewal.what.lower(),)
                problems[labels] = max(problems.get(labels, 0.0), float(bool(renewal.problem)))
            yield from gauges(
                "tickserve_renewal_problem",
                "1 while renewed files cannot be used, and what was read before stays in use.",
                ("files",),
                list(problems.items()),
            )
        if self._tls is not None:
            yield from gauges(
                "tickserve_certificate_not_after_timestamp_seconds",
                "Until when the certificate in use holds.",
                (),
                [((), self._tls.value.not_after_s)],
            )
