"""Everything below the RPC layer over a real folder: repository, watcher, vetting, loader, registry."""

import asyncio
import contextlib
from pathlib import Path

from eventually import BOUND_S, eventually
from onnx_files import GOLDEN_ROWS

from inference_server.adapters.archive_folder import open_archive
from inference_server.adapters.model_repository import FolderRepository, FolderRepositoryOptions
from inference_server.adapters.onnx_servable import OnnxLoader, OnnxLoaderOptions
from inference_server.adapters.vetting import vet
from inference_server.adapters.watcher import FolderWatcher, FolderWatcherOptions
from inference_server.core.clock import SystemClock
from inference_server.serving.background import Background
from inference_server.serving.candidate_loading import CandidateLoading
from inference_server.serving.changes import Changes
from inference_server.serving.data_plane import Answer, Call, DataPlane, DataPlaneOptions
from inference_server.serving.lifecycle import Lifecycle
from inference_server.serving.reconciler import Reconciler, ReconcilerOptions
from inference_server.serving.recorder import Recorder
from inference_server.serving.registry import Registry
from inference_server.serving.run_threads import RunThreads

QUICK = FolderRepositoryOptions(quiet_s=0.02, settle_s=0.2)


class VettingInThread:
    """Judges as the vetting process does, without the process: for tests of what stands around it."""

    async def vet(self, model, expected_name):
        return await asyncio.to_thread(vet, model, expected_name)


class Inside:
    """The parts, and short words for what the tests do with them."""

    def __init__(self, folder, *, lifecycle, vetting, repository_options, threads, archive):
        clock = SystemClock()
        self.changes = Changes()
        self.registry = Registry(changes=self.changes)
        self.lifecycle = lifecycle
        self.loader = OnnxLoader(OnnxLoaderOptions(warm_up_runs=2))
        repository = FolderRepository(folder, clock, repository_options)
        recorder = Recorder(archive, lifecycle, {})
        background = Background()
        loading = CandidateLoading(
            repository=repository,
            recorder=recorder,
            vetting=vetting,
            loader=self.loader,
            clock=clock,
            background=background,
            changes=self.changes,
        )
        self.reconciler = Reconciler(
            registry=self.registry,
            lifecycle=lifecycle,
            repository=repository,
            watcher=FolderWatcher(folder, FolderWatcherOptions(debounce_ms=10, rescan_s=1)),
            loading=loading,
            recorder=recorder,
            background=background,
            changes=self.changes,
            clock=clock,
            options=ReconcilerOptions(retry_s=0.1),
        )
        self.plane = DataPlane(self.registry, clock, DataPlaneOptions(), threads)

    async def settled(self):
        """Wait until what lies in the folder is served or refused."""
        await asyncio.wait_for(self.reconciler.settled(), BOUND_S)

    async def ask(self, name="momentum", version=0):
        """Return (version, bias): who answers the golden rows, and with which bias."""
        (result,) = await self.plane.answer([Call(name, GOLDEN_ROWS, version)], None)
        assert isinstance(result, Answer), result
        ((_, scores),) = result.outputs
        bias = scores - GOLDEN_ROWS.sum(axis=1, keepdims=True)
        assert abs(bias - bias[0]).max() < 1e-4, "rows of one answer differ in their bias"
        return result.servable.id.version, round(float(bias[0, 0]), 3)

    def model(self, name="momentum"):
        """Return the model's status."""
        (status,) = self.registry.describe([name])
        return status

    async def eventually_problem(self, text, name="momentum"):
        """Wait until the model's problem holds this text."""
        await eventually(lambda: self.registry.describe([name]) and text in self.model(name).problem)


@contextlib.asynccontextmanager
async def inside(folder: Path, *, lifecycle=None, vetting=None, repository_options=QUICK):
    """Run everything over the folder; at the end nothing may be left open."""
    with contextlib.closing(RunThreads()) as threads, open_archive(None) as archive:
        parts = Inside(
            folder,
            lifecycle=lifecycle or Lifecycle(),
            vetting=vetting or VettingInThread(),
            repository_options=repository_options,
            threads=threads,
            archive=archive,
        )
        parts.reconciler.start()
        try:
            yield parts
        finally:
            await parts.reconciler.stop()
        assert parts.loader.sessions == 0
        assert not parts.registry.ready()


def put(path: Path, content: bytes) -> None:
    """Write beside the path and rename into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.parent / f".{path.name}.new"
    beside.write_bytes(content)
    beside.replace(path)
