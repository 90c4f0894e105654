"""The one place where the sidecar is built; what is built first is stopped last.

What makes a process of it is in `running`.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, Literal

from inference_server.adapters import machine
from inference_server.adapters.archive_folder import open_archive
from inference_server.adapters.certificate import Certificate, TlsOptions, watch_certificate
from inference_server.adapters.head_start import HeadStart
from inference_server.adapters.model_repository import FolderRepository, FolderRepositoryOptions
from inference_server.adapters.onnx_servable import OnnxLoader, OnnxLoaderOptions
from inference_server.adapters.renewal import Renewal
from inference_server.adapters.shared_memory import SharedMemory, SharedMemoryOptions
from inference_server.adapters.token_file import TokenOptions
from inference_server.adapters.vetting_pool import VettingPool
from inference_server.adapters.watcher import FolderWatcher
from inference_server.core.clock import SystemClock
from inference_server.http.page_options import PageOptions
from inference_server.http.shown import Shown
from inference_server.rpc import control, health, open_inference, predictor
from inference_server.rpc.access import Access
from inference_server.rpc.accounting import Accounting
from inference_server.rpc.address import Address, AddressError, check_plaintext
from inference_server.rpc.control import Control
from inference_server.rpc.guard import Guard, GuardOptions
from inference_server.rpc.health import Health
from inference_server.rpc.inspection import Inspection
from inference_server.rpc.listener import Listener, ListenerOptions
from inference_server.rpc.method import Method, MethodTable, Service
from inference_server.rpc.model_statistics import ModelStatistics
from inference_server.rpc.open_inference import OpenInference
from inference_server.rpc.predictor import Predictor, PredictorOptions
from inference_server.rpc.reflection import Reflection
from inference_server.rpc.repository import Repository
from inference_server.rpc.shared_memory import SystemSharedMemory
from inference_server.rpc.shared_tensors import SharedTensors
from inference_server.rpc.tracing import TracingOptions, open_tracing
from inference_server.serving.background import Background
from inference_server.serving.candidate_loading import CandidateLoading
from inference_server.serving.changes import Changes
from inference_server.serving.data_plane import DataPlane, DataPlaneOptions
from inference_server.serving.drain import Drain
from inference_server.serving.lifecycle import Lifecycle
from inference_server.serving.operator import Operator
from inference_server.serving.reconciler import Reconciler
from inference_server.serving.recorder import Recorder
from inference_server.serving.registry import Registry
from inference_server.serving.run_threads import RunThreads
from inference_server.serving.settings import ModelSettings
from inference_server.serving.statistics import Statistics

if TYPE_CHECKING:  # at run time only where traces are configured
    from inference_server.rpc.spans import Tracing

log = logging.getLogger(__name__)

SERVICES: Final = (predictor.SERVICE, open_inference.SERVICE, control.SERVICE)
# Of the memory that there is, models take at most one part in so many unless it is said otherwise.
MEMORY_SHARE: Final = 2
# How long HTTP waits for the models found at the start. One that hangs its judge must not hold up the probes.
MODELS_FIRST_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """What a sidecar is to serve, and where. `http` None: no HTTP.

    `settings` are by model. `required` are the models without which it is not ready; empty means those found
    at the start. Under explicit `control` a model is served only when it is asked for, the required ones from
    the start. `state` is the folder for what outlives a restart; None: nothing does. `max_memory_bytes` is
    the bound on the memory of all models; None: half of what the machine or its container has. Without
    `shared_memory`, tensors travel in messages only. With `tls` every TCP address, HTTP's too, speaks TLS.
    """

    models: Path
    listen: tuple[Address, ...]
    http: Address | None = None
    page: PageOptions = field(default_factory=PageOptions)
    settings: Mapping[str, ModelSettings] = field(default_factory=dict)
    required: Collection[str] = ()
    control: Literal["files", "explicit"] = "files"
    state: Path | None = None
    max_memory_bytes: int | None = None
    tls: TlsOptions | None = None
    tokens: TokenOptions = field(default_factory=TokenOptions)
    listener: ListenerOptions = field(default_factory=ListenerOptions)
    guard: GuardOptions = field(default_factory=GuardOptions)
    data_plane: DataPlaneOptions = field(default_factory=DataPlaneOptions)
    predictor: PredictorOptions = field(default_factory=PredictorOptions)
    tracing: TracingOptions = field(default_factory=TracingOptions)
    shared_memory: SharedMemoryOptions | None = None


@dataclass(frozen=True, slots=True)
class Sidecar:
    """A sidecar that answers: its addresses with the ports that the system chose, and its parts for tests."""

    addresses: tuple[Address, ...]
    http_port: int | None
    registry: Registry
    reconciler: Reconciler
    operator: Operator
    drain: Drain
    statistics: Statistics
    data_plane: DataPlane
    methods: Sequence[Method]
    renewals: Sequence[Renewal[Any]]

    def reload(self, options: ServeOptions) -> None:
        """Take over what these options say of the models, and renewed files; all else needs a restart."""
        for renewal in self.renewals:
            renewal.refresh()
        self.registry.require_named(options.required)
        self.reconciler.set_settings(options.settings)
        self.data_plane.bound_models(_bounds(options))


@contextlib.asynccontextmanager
async def serving(options: ServeOptions, head_start: HeadStart | None = None) -> AsyncIterator[Sidecar]:
    """Serve inside this block; at its end drain, unload and close, in the reverse order of the start.

    It answers from the first moment and is ready when the models found are. AddressError where an address
    cannot be had, RenewalError where certificates or tokens cannot be used. `head_start` is what was
    begun already.
    """
    async with contextlib.AsyncExitStack() as stack:
        head_start = head_start or HeadStart()
        tls, access, renewals = _secrets(stack, options)
        clock = SystemClock()
        drain = Drain()
        tracing = _open_tracing(stack, options.tracing)
        changes = Changes()
        registry = Registry(options.required, changes)
        threads = RunThreads()
        stack.callback(threads.close)
        vetting = VettingPool(started=head_start.child)
        stack.push_async_callback(vetting.close)
        archive = open_archive(options.state)
        stack.callback(archive.close)
        remembered = archive.load()
        explicit = options.control == "explicit"
        lifecycle = Lifecycle(options.settings, remembered=remembered, explicit=explicit)
        bound = _memory_bound(options)
        repository = FolderRepository(options.models, clock, _files_within(bound), head_start.look)
        recorder = Recorder(archive, lifecycle, remembered)
        loader = OnnxLoader(OnnxLoaderOptions(max_memory_bytes=bound))
        background = Background()
        loading = CandidateLoading(
            repository=repository,
            recorder=recorder,
            vetting=vetting,
            loader=loader,
            clock=clock,
            background=background,
            changes=changes,
        )
        reconciler = Reconciler(
            registry=registry,
            lifecycle=lifecycle,
            repository=repository,
            watcher=None if explicit else FolderWatcher(options.models),
            loading=loading,
            recorder=recorder,
            background=background,
            changes=changes,
            clock=clock,
            load_at_start=options.required if explicit else (),
        )
        stack.push_async_callback(reconciler.stop)
        operator = Operator(lifecycle, reconciler, changes, explicit=explicit)
        data_plane = DataPlane(registry, clock, options.data_plane, threads, _bounds(options))
        statistics = Statistics()
        accounting = Accounting(statistics, registry, clock)
        memory = _shared_memory(stack, options.shared_memory)
        services: list[Service] = [
            Predictor(data_plane, registry, clock, accounting=accounting, options=options.predictor),
            OpenInference(data_plane, clock, accounting, SharedTensors(memory)),
            Inspection(registry, drain, shared_memory=memory is not None),
            ModelStatistics(statistics, registry),
            SystemSharedMemory(memory),
            Repository(registry, operator),
            Control(operator),
            Health(registry, SERVICES, drain),
            Reflection((*SERVICES, health.SERVICE)),
        ]
        guard = Guard(clock, statistics, tracing=tracing, access=access, options=options.guard)
        methods = [guard.guard(method) for service in services for method in service.methods()]
        table = MethodTable(methods, clock, drain)
        listener = Listener.bind(options.listen, table, options.listener, tls)
        stack.push_async_callback(listener.stop)
        await listener.start()
        reconciler.start()
        stack.callback(asyncio.create_task(_warm(vetting)).cancel)
        http_port = None
        if options.http is not None:
            await _models_first(reconciler)
            shown = Shown(
                registry=registry,
                changes=changes,
                drain=drain,
                statistics=statistics,
                data_plane=data_plane,
                clock=clock,
                tls=tls,
                renewals=renewals,
                memory=(lambda: loader.memory_bytes, bound),
                max_calls=options.data_plane.max_calls_in_flight,
            )
            http_port = await _start_http(stack, options.http, shown, options.page)
        stack.callback(drain.begin)
        yield Sidecar(
            addresses=listener.addresses,
            http_port=http_port,
            registry=registry,
            reconciler=reconciler,
            operator=operator,
            drain=drain,
            statistics=statistics,
            data_plane=data_plane,
            methods=methods,
            renewals=renewals,
        )
        log.info("stopping: waiting for calls in flight")


async def _warm(vetting: VettingPool) -> None:
    try:
        await vetting.start()
    except Exception:  # the first file tries again, and says then what is wrong
        log.exception("the vetting processes could not be started")


def _open_tracing(stack: contextlib.AsyncExitStack, options: TracingOptions) -> "Tracing | None":
    tracing = open_tracing(options, os.environ)
    if tracing is not None:
        stack.push_async_callback(tracing.close)
    return tracing


def _bounds(options: ServeOptions) -> dict[str, int]:
    settings = options.settings.items()
    return {name: model.max_calls for name, model in settings if model.max_calls is not None}


def _memory_bound(options: ServeOptions) -> int:
    if options.max_memory_bytes is not None:
        return options.max_memory_bytes
    return machine.memory_bytes() // MEMORY_SHARE


def _shared_memory(
    stack: contextlib.AsyncExitStack, options: SharedMemoryOptions | None
) -> SharedMemory | None:
    if options is None:
        return None
    memory = SharedMemory(options)
    stack.callback(memory.close)
    stack.callback(asyncio.create_task(memory.sweep()).cancel)
    return memory


def _files_within(memory_bytes: int) -> FolderRepositoryOptions:
    files = FolderRepositoryOptions()
    return replace(
        files, max_bytes=min(files.max_bytes, memory_bytes)
    )  # what is larger cannot fit in any case


def _secrets(
    stack: contextlib.AsyncExitStack, options: ServeOptions
) -> tuple[Renewal[Certificate] | None, Access, Sequence[Renewal[Any]]]:
    """Read certificate and tokens, and watch their files from now on."""
    tls = watch_certificate(options.tls) if options.tls else None
    access = Access.by_tokens(options.tokens)
    if options.http is not None:
        check_plaintext(options.http, allowed=options.listener.allow_remote_plaintext or tls is not None)
    renewals: list[Renewal[Any]] = [*([tls] if tls else []), *access.renewals]
    for renewal in renewals:
        stack.callback(asyncio.create_task(renewal.watch()).cancel)
    return tls, access, renewals


async def _models_first(reconciler: Reconciler) -> None:
    """Let the models that lie there be served before HTTP's libraries are imported, which takes as long."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(MODELS_FIRST_S):
            await reconciler.settled()


async def _start_http(
    stack: contextlib.AsyncExitStack, address: Address, shown: Shown, page: PageOptions
) -> int:
    site = await asyncio.to_thread(_import_site)
    try:
        port: int = await site.start_site(stack, address.host, address.port, shown, page)
    except OSError as error:
        raise AddressError(f"http {address}: {error.strerror}") from None
    return port


def _import_site() -> ModuleType:
    from inference_server.http import site  # noqa: PLC0415 - it takes long, and models are judged meanwhile

    return site
