"""What the process has allocated and not freed, beside what the system says that it holds."""

import sys
from collections.abc import Iterator

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from inference_server.adapters.footprint import allocated_bytes
from inference_server.http.metrics import gauges


class HeapCollector(Collector):
    """Says it at each scrape. Resident memory that grows while these do not is the allocator's: no leak."""

    def collect(self) -> Iterator[Metric]:
        """Yield every family."""
        heap_bytes = allocated_bytes()
        yield from gauges(
            "tickserve_heap_bytes",
            "What the C library has given out and not got back; none where it does not say.",
            (),
            [] if heap_bytes is None else [((), heap_bytes)],
        )
        yield from gauges(
            "tickserve_python_blocks",
            "Blocks of memory that Python's objects take.",
            (),
            [((), sys.getallocatedblocks())],
        )
