"""Operators under explicit control, several at once, over a real folder and real ONNX files."""

import asyncio
import contextlib
import hashlib
import threading

import pytest
from eventually import BOUND_S, eventually
from onnx_files import score_model
from sidecar_inside import QUICK, VettingInThread, put

from inference_server.adapters.archive_folder import open_archive
from inference_server.adapters.model_repository import FolderRepository
from inference_server.adapters.onnx_servable import OnnxLoader, OnnxLoaderOptions
from inference_server.core.clock import SystemClock
from inference_server.core.errors import NotFoundError, RefusedError
from inference_server.serving.background import Background
from inference_server.serving.candidate_loading import CandidateLoading
from inference_server.serving.changes import Changes
from inference_server.serving.lifecycle import Lifecycle
from inference_server.serving.operator import Operator
from inference_server.serving.policy import All, Latest
from inference_server.serving.reconciler import Reconciler, ReconcilerOptions
from inference_server.serving.recorder import Recorder
from inference_server.serving.registry import Registry
from inference_server.serving.settings import ModelSettings


class GatedRepository(FolderRepository):
    """A folder whose looks can be held up once they have seen it."""

    def __init__(self, folder):
        super().__init__(folder, SystemClock(), QUICK)
        self.looks = 0
        self.gate = threading.Event()
        self.gate.set()

    def scan(self):
        scan = super().scan()
        self.looks += 1
        assert self.gate.wait(BOUND_S)
        return scan


class Explicit:
    """The parts of a sidecar under explicit control, without its listener."""

    def __init__(self, folder, archive, *, policy, max_memory_bytes):
        clock = SystemClock()
        self.changes = Changes()
        self.registry = Registry(changes=self.changes)
        self.lifecycle = Lifecycle(default=ModelSettings(policy=policy), explicit=True)
        self.repository = GatedRepository(folder)
        self.recorder = Recorder(archive, self.lifecycle, {})
        background = Background()
        self.loading = CandidateLoading(
            repository=self.repository,
            recorder=self.recorder,
            vetting=VettingInThread(),
            loader=OnnxLoader(OnnxLoaderOptions(warm_up_runs=2, max_memory_bytes=max_memory_bytes)),
            clock=clock,
            background=background,
            changes=self.changes,
        )
        self.reconciler = Reconciler(
            registry=self.registry,
            lifecycle=self.lifecycle,
            repository=self.repository,
            watcher=None,
            loading=self.loading,
            recorder=self.recorder,
            background=background,
            changes=self.changes,
            clock=clock,
            options=ReconcilerOptions(retry_s=0.05, loads_at_once=1),
        )
        self.operator = Operator(self.lifecycle, self.reconciler, self.changes, explicit=True)

    def served(self, name):
        """Return the digest by version of what answers."""
        return {
            version.id.version: version.digest
            for model in self.registry.describe([name])
            for version in model.versions
            if self.registry.model_ready(name, version.id.version)
        }


def explicit(folder, scenario, *, policy=None, max_memory_bytes=1 << 40):
    """Run the scenario within a bound of time, on a sidecar that was started."""

    async def main():
        with open_archive(None) as archive:
            parts = Explicit(folder, archive, policy=policy or Latest(1), max_memory_bytes=max_memory_bytes)
            parts.reconciler.start()
            try:
                await scenario(parts)
            finally:
                parts.repository.gate.set()
                await parts.reconciler.stop()

    asyncio.run(asyncio.wait_for(main(), 200))


def digest(model):
    return hashlib.sha256(model).hexdigest()


def test_equal_bytes_are_handed_in_at_once_under_several_names_and_versions(tmp_path):
    """A17: each upload has its own bytes to load, whatever becomes of the other."""
    model, other = score_model(None), score_model(None, bias=1)
    uploads = {"a": {1: model}, "b": {1: model, 2: model}, "c": {1: other, 2: other}}

    async def scenario(parts):
        await asyncio.gather(*(parts.operator.load(name, files) for name, files in uploads.items()))
        for name, files in uploads.items():
            assert parts.served(name) == {version: digest(it) for version, it in files.items()}
        assert repr(parts.loading) == "<CandidateLoading 3 verdicts, 0 uploads>"

    explicit(tmp_path, scenario, policy=All())


def test_an_upload_that_the_policy_does_not_pick_is_no_failure_and_is_not_kept(tmp_path):
    """Of two versions handed in under policy latest, the greater is served; the bytes of both are let go."""
    old, new = score_model(bias=1), score_model(bias=2)

    async def scenario(parts):
        await parts.operator.load("momentum", {1: old, 2: new})
        assert parts.served("momentum") == {2: digest(new)}
        assert "0 uploads" in repr(parts.loading)
        parts.reconciler.set_settings({"momentum": ModelSettings(policy=All())})
        await parts.reconciler.until(lambda: not parts.lifecycle.model("momentum").busy)
        (status,) = parts.registry.describe(["momentum"])
        assert "its bytes came with a call and are not kept; load it again" in status.problem

    explicit(tmp_path, scenario)


def test_an_upload_that_has_no_room_is_refused_with_the_numbers_for_good(tmp_path):
    """A19: its bytes go with the call, so that memory is freed later changes nothing."""

    async def scenario(parts):
        with pytest.raises(RefusedError, match=r"it needs .* of memory"):
            await parts.operator.load("momentum", {1: score_model()})
        parts.lifecycle.room_freed()
        parts.reconciler.act()
        assert not parts.lifecycle.model("momentum").busy
        assert "of memory" in parts.lifecycle.model("momentum").problem()

    explicit(tmp_path, scenario, max_memory_bytes=1)


def test_a_load_that_finds_nothing_is_told_though_an_upload_is_served(tmp_path):
    """Nothing lies in the repository: that is the answer, and the upload goes on serving."""
    model = score_model()

    async def scenario(parts):
        await parts.operator.load("momentum", {1: model})
        with pytest.raises(NotFoundError, match="no model 'momentum' in the repository"):
            await parts.operator.load("momentum", {})
        assert parts.served("momentum") == {1: digest(model)}

    explicit(tmp_path, scenario)


def test_a_load_does_not_take_the_word_of_a_look_that_began_before_it(tmp_path):
    """Two operators at once: the file that came after the first one's look is found by the second one's."""

    async def scenario(parts):
        await parts.reconciler.settled()
        parts.repository.gate.clear()
        looks = parts.repository.looks
        first = asyncio.create_task(parts.operator.load("momentum", {}))
        await eventually(lambda: parts.repository.looks == looks + 1)
        put(tmp_path / "momentum.onnx", score_model())
        second = asyncio.create_task(parts.operator.load("momentum", {}))
        await asyncio.sleep(0)
        parts.repository.gate.set()
        with pytest.raises(NotFoundError):
            await first
        await second
        assert parts.served("momentum")

    explicit(tmp_path, scenario)


def test_a_load_that_is_cancelled_leaves_the_other_one_for_the_same_model_waiting(tmp_path):
    """E4: two operators at once, of whom one gives up; the other one's load comes about."""
    put(tmp_path / "momentum.onnx", score_model())

    async def scenario(parts):
        await parts.reconciler.settled()
        parts.repository.gate.clear()
        loads = [asyncio.create_task(parts.operator.load("momentum", {})) for _ in range(2)]
        looks = parts.repository.looks
        await eventually(lambda: parts.repository.looks == looks + 1)
        loads[0].cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await loads[0]
        parts.reconciler.act()
        parts.repository.gate.set()
        await loads[1]
        assert parts.served("momentum")

    explicit(tmp_path, scenario)


def test_of_two_uploads_at_once_the_later_wins_and_the_earlier_is_told(tmp_path):
    """A15: the first operator's bytes are not what is served, so he is not told that they are."""
    models = [score_model(bias=bias) for bias in (1, 2)]

    async def scenario(parts):
        results = await asyncio.gather(
            *(parts.operator.load("momentum", {1: model}) for model in models), return_exceptions=True
        )
        (told,) = filter(None, results)
        assert isinstance(told, RefusedError)
        assert "another load or unload came after this one" in str(told)
        assert parts.served("momentum") == {1: digest(models[results.index(None)])}

    explicit(tmp_path, scenario)


def test_an_unload_ends_the_wait_of_a_rollback(tmp_path):
    """Two operators at once: the one who goes back is told, and the model is unloaded."""

    async def scenario(parts):
        for bias in (1, 2):
            await parts.operator.load("momentum", {1: score_model(bias=bias)})
        rollback = asyncio.create_task(parts.operator.rollback("momentum"))
        await asyncio.sleep(0)
        assert parts.lifecycle.model("momentum").rolling_back
        await parts.operator.unload("momentum")
        with pytest.raises(RefusedError, match="it was unloaded meanwhile"):
            await rollback
        assert parts.served("momentum") == {}

    explicit(tmp_path, scenario)


def test_nothing_is_begun_once_it_is_stopped(tmp_path):
    """F3: a load that ends in the same moment begins no other one, which nobody would end."""

    async def scenario(parts):
        await parts.operator.load("momentum", {1: score_model()})
        await parts.reconciler.stop()
        parts.reconciler.load_uploads("momentum", {})
        parts.lifecycle.unload("momentum")
        parts.reconciler.act()
        assert "stopped, 0 loading, <Background 0 tasks>" in repr(parts.reconciler)

    explicit(tmp_path, scenario)
