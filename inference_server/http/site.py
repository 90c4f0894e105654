"""All that is answered by HTTP, built in one place: probes, metrics and the status page.

It is imported where HTTP is wanted, and when the models are being judged already: what it brings takes about
as long to import as ONNX Runtime, gRPC and numpy together.
"""

import asyncio
import contextlib
import importlib.metadata
import platform

from inference_server.http.call_metrics import CallsCollector
from inference_server.http.heap_metrics import HeapCollector
from inference_server.http.listener import HttpListener
from inference_server.http.metrics import metrics
from inference_server.http.page import StatusPage
from inference_server.http.page_options import PageOptions
from inference_server.http.probes import probes
from inference_server.http.renewal_metrics import RenewalCollector
from inference_server.http.served_metrics import ServedCollector
from inference_server.http.server_metrics import Bounded, ServerCollector
from inference_server.http.shown import Shown
from inference_server.serving.loop_lag import LoopLag


async def start_site(
    stack: contextlib.AsyncExitStack, host: str, port: int, shown: Shown, page_options: PageOptions
) -> int:
    """Answer until the stack is closed; return the port as the system chose it. OSError: it cannot be had."""
    loop_lag = LoopLag(shown.clock)
    stack.callback(asyncio.create_task(loop_lag.measure()).cancel)
    collectors = [
        ServerCollector(
            _builds(),
            Bounded(lambda: shown.data_plane.calls_in_flight, shown.max_calls),
            Bounded(*shown.memory),
            loop_lag,
        ),
        HeapCollector(),
        ServedCollector(shown.registry, shown.changes, shown.drain, shown.clock, shown.data_plane.calls_to),
        CallsCollector(shown.statistics),
        RenewalCollector(shown.tls, shown.renewals),
    ]
    page = StatusPage(shown.registry, shown.drain, shown.statistics, shown.clock, page_options)
    stack.callback(asyncio.create_task(page.run()).cancel)
    routes = [*probes(shown.registry, shown.drain), *metrics(collectors), *page.routes()]
    listener = await HttpListener.start(routes, host, port, shown.tls)
    stack.push_async_callback(listener.stop)
    return listener.port


def _builds() -> dict[str, str]:
    builds = {"version": "tickserve", "onnxruntime": "onnxruntime", "grpcio": "grpcio"}
    versions = {label: importlib.metadata.version(name) for label, name in builds.items()}
    return {**versions, "python": platform.python_version()}
