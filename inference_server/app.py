"""The one place where the sidecar is built; what is built first is stopped last."""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal

from inference_server.adapters import machine
from inference_server.adapters.archive_folder import open_archive
from inference_server.adapters.model_repository import FolderRepository, FolderRepositoryOptions
from inference_server.adapters.onnx_servable import OnnxLoader, OnnxLoaderOptions
from inference_server.adapters.vetting_pool import VettingPool
from inference_server.adapters.watcher import FolderWatcher
from inference_server.core.clock import SystemClock
from inference_server.http.listener import HttpListener, Routes
from inference_server.http.metrics import ServedCollector, metrics
from inference_server.http.probes import probes
from inference_server.rpc import control, health, open_inference, predictor
from inference_server.rpc.address import Address, AddressError
from inference_server.rpc.control import Control
from inference_server.rpc.guard import guard
from inference_server.rpc.health import Health
from inference_server.rpc.listener import Listener, ListenerOptions
from inference_server.rpc.method import Service
from inference_server.rpc.open_inference import OpenInference
from inference_server.rpc.predictor import Predictor, PredictorOptions
from inference_server.rpc.reflection import Reflection
from inference_server.rpc.repository import Repository
from inference_server.serving.background import Background
from inference_server.serving.candidate_loading import CandidateLoading
from inference_server.serving.data_plane import DataPlane, DataPlaneOptions
from inference_server.serving.drain import Drain
from inference_server.serving.lifecycle import Lifecycle
from inference_server.serving.operator import Operator
from inference_server.serving.reconciler import Reconciler
from inference_server.serving.recorder import Recorder
from inference_server.serving.registry import Registry
from inference_server.serving.settings import ModelSettings

log = logging.getLogger(__name__)

SERVICES: Final = (predictor.SERVICE, open_inference.SERVICE, control.SERVICE)
# Threads for runs that are too slow for the event loop; two cores are what a sidecar usually has.
SLOW_RUN_THREADS: Final = 4
# Of the memory that there is, models take at most one part in so many unless it is said otherwise.
MEMORY_SHARE: Final = 2
# How long the process may take to end once nothing is served any more.
EXIT_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """What a sidecar is to serve, and where. `http` None: no HTTP.

    `settings` are by model. `required` are the models without which it is not ready; empty means those found
    at the start. Under explicit `control` a model is served only when it is asked for, the required ones from
    the start. `state` is the folder for what outlives a restart; None: nothing does. `max_memory_bytes` is
    the bound on the memory of all models; None: half of what the machine or its container has.
    """

    models: Path
    listen: tuple[Address, ...]
    http: Address | None = None
    settings: Mapping[str, ModelSettings] = field(default_factory=dict)
    required: Collection[str] = ()
    control: Literal["files", "explicit"] = "files"
    state: Path | None = None
    max_memory_bytes: int | None = None
    listener: ListenerOptions = field(default_factory=ListenerOptions)
    data_plane: DataPlaneOptions = field(default_factory=DataPlaneOptions)
    predictor: PredictorOptions = field(default_factory=PredictorOptions)


@dataclass(frozen=True, slots=True)
class Sidecar:
    """A sidecar that answers: its addresses with the ports that the system chose, and its parts for tests."""

    addresses: tuple[Address, ...]
    http_port: int | None
    registry: Registry
    reconciler: Reconciler
    operator: Operator
    drain: Drain

    def reload(self, options: ServeOptions) -> None:
        """Take over what these options say of the models; everything else needs a restart."""
        self.registry.require_named(options.required)
        self.reconciler.set_settings(options.settings)


@contextlib.asynccontextmanager
async def serving(options: ServeOptions) -> AsyncIterator[Sidecar]:
    """Serve inside this block; at its end drain, unload and close, in the reverse order of the start.

    It answers from the first moment and is ready when the models found are. AddressError where an address
    cannot be had.
    """
    async with contextlib.AsyncExitStack() as stack:
        clock = SystemClock()
        drain = Drain()
        registry = Registry(options.required)
        executor = ThreadPoolExecutor(SLOW_RUN_THREADS, thread_name_prefix="run")
        # Not waited for: a run that hangs would hold up everything that is stopped after it.
        stack.callback(executor.shutdown, wait=False, cancel_futures=True)
        vetting = VettingPool()
        stack.push_async_callback(vetting.close)
        archive = open_archive(options.state)
        stack.callback(archive.close)
        remembered = archive.load()
        explicit = options.control == "explicit"
        lifecycle = Lifecycle(options.settings, remembered=remembered, explicit=explicit)
        bound = _memory_bound(options)
        files = FolderRepositoryOptions()
        files = replace(files, max_bytes=min(files.max_bytes, bound))  # what is larger cannot fit in any case
        repository = FolderRepository(options.models, clock, files)
        recorder = Recorder(archive, lifecycle, remembered)
        background = Background()
        loading = CandidateLoading(
            repository=repository,
            recorder=recorder,
            vetting=vetting,
            loader=OnnxLoader(OnnxLoaderOptions(max_memory_bytes=bound)),
            clock=clock,
            background=background,
        )
        reconciler = Reconciler(
            registry=registry,
            lifecycle=lifecycle,
            repository=repository,
            watcher=None if explicit else FolderWatcher(options.models),
            loading=loading,
            recorder=recorder,
            background=background,
            clock=clock,
            load_at_start=options.required if explicit else (),
        )
        stack.push_async_callback(reconciler.stop)
        operator = Operator(lifecycle, reconciler, explicit=explicit)
        data_plane = DataPlane(registry, clock, options.data_plane, executor)
        services: list[Service] = [
            Predictor(data_plane, registry, clock, drain, options.predictor),
            OpenInference(data_plane, registry, clock, drain),
            Repository(registry, operator),
            Control(operator),
            Health(registry, SERVICES, drain),
            Reflection((*SERVICES, health.SERVICE)),
        ]
        methods = [guard(method, clock) for service in services for method in service.methods()]
        listener = Listener.bind(options.listen, methods, clock, options.listener)
        stack.push_async_callback(listener.stop)
        http_port = None
        if options.http is not None:
            routes = [*probes(registry, drain), *metrics([ServedCollector(registry, drain, clock)])]
            http_port = await _start_http(stack, options.http, routes)
        await listener.start()
        stack.callback(drain.begin)
        reconciler.start()
        stack.callback(asyncio.create_task(_warm(vetting)).cancel)
        yield Sidecar(listener.addresses, http_port, registry, reconciler, operator, drain)
        log.info("stopping: waiting for calls in flight")


async def serve_until_stopped(
    options: ServeOptions, read_again: Callable[[], ServeOptions] | None = None
) -> None:
    """Serve until SIGTERM or SIGINT; a second one ends the process at once.

    At SIGHUP, what `read_again` says of the models is taken over; where it raises, nothing changes. Without
    it, SIGHUP is a signal to stop as well. The process is to end after this: it is ended, with exit code 0,
    where a run that hangs would keep it.
    """
    stop = asyncio.Event()

    def on_signal() -> None:
        if stop.is_set():
            os._exit(1)
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, on_signal)
    async with serving(options) as sidecar:
        if read_again is not None:
            loop.add_signal_handler(signal.SIGHUP, _reload, sidecar, read_again)
        freezing = asyncio.create_task(_freeze(sidecar))
        await stop.wait()
        freezing.cancel()
    log.info("stopped")
    # Python waits at its exit for threads, and nothing can stop the one of a run or load that hangs.
    leaving = threading.Timer(EXIT_S, _leave)
    leaving.daemon = True
    leaving.start()


async def _freeze(sidecar: Sidecar) -> None:
    """Leave what the start made out of garbage collection, which would stop all calls to walk through it."""
    await sidecar.reconciler.settled()
    gc.collect()
    gc.freeze()


def _reload(sidecar: Sidecar, read_again: Callable[[], ServeOptions]) -> None:
    try:
        options = read_again()
    except Exception as error:  # noqa: BLE001 - whatever is wrong with the file, the sidecar goes on as it was
        log.error("SIGHUP: nothing is changed: %s", error)  # noqa: TRY400 - an operator's mistake, no bug
        return
    sidecar.reload(options)
    log.info("SIGHUP: took over what the configuration says of the models")


async def _warm(vetting: VettingPool) -> None:
    try:
        await vetting.start()
    except Exception:  # the first file tries again, and says then what is wrong
        log.exception("the vetting processes could not be started")


def _memory_bound(options: ServeOptions) -> int:
    if options.max_memory_bytes is not None:
        return options.max_memory_bytes
    return machine.memory_bytes() // MEMORY_SHARE


def _leave() -> None:
    busy = sorted(thread.name for thread in threading.enumerate() if not thread.daemon)
    log.warning("ending although work goes on that cannot be stopped threads=%s", ",".join(busy))
    os._exit(0)


async def _start_http(stack: contextlib.AsyncExitStack, address: Address, routes: Routes) -> int:
    try:
        listener = await HttpListener.start(routes, address.host, address.port)
    except OSError as error:
        raise AddressError(f"http {address}: {error.strerror}") from None
    stack.push_async_callback(listener.stop)
    return listener.port
