"""What a start does before what, and what it leaves behind where it does not come to serving."""

import asyncio
import functools
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType

import pytest
from eventually import eventually
from onnx_files import endless_model, score_model
from sidecar_inside import put

from inference_server import app
from inference_server.adapters import head_start
from inference_server.adapters.head_start import HeadStart
from inference_server.adapters.watcher import FolderWatcher
from inference_server.app import ServeOptions, Sidecar, serving
from inference_server.rpc.address import Address
from inference_server.serving import reconciler
from inference_server.serving.reconciler import ReconcilerOptions


def started(models: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[list[bool], bool]:
    """Start a sidecar with HTTP; return what was ready when HTTP was imported, and whether HTTP came."""
    ready: list[bool] = []
    inside: list[Sidecar] = []
    registry, real = app.Registry, app._import_site
    made: list[app.Registry] = []

    def kept(*arguments: object) -> app.Registry:
        made.append(registry(*arguments))
        return made[0]

    def importing() -> ModuleType:
        ready.append(made[0].ready())
        return real()

    monkeypatch.setattr(app, "Registry", kept)
    monkeypatch.setattr(app, "_import_site", importing)

    async def whole() -> None:
        options = ServeOptions(models, (Address("127.0.0.1", 0),), http=Address("127.0.0.1", 0))
        async with serving(options) as sidecar:
            inside.append(sidecar)

    asyncio.run(whole())
    return ready, bool(inside[0].http_port)


def test_http_is_imported_once_the_models_are_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its libraries take as long as all models of a start, and the same processors."""
    put(tmp_path / "one.onnx", score_model("one"))
    monkeypatch.setattr(app, "MODELS_FIRST_S", 60.0)
    assert started(tmp_path, monkeypatch) == ([True], True)


def test_a_file_that_hangs_its_judge_does_not_keep_http_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Probes and the page are wanted most of all where a model does not come."""
    put(tmp_path / "spins.onnx", endless_model())
    assert started(tmp_path, monkeypatch) == ([False], True)


def watched(models: Path, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Start a sidecar, and return whether its models were all judged when its folder was first watched."""
    inside: list[Sidecar] = []
    judged: list[bool] = []
    real = FolderWatcher.changes

    def changes(watcher: FolderWatcher) -> AsyncIterator[None]:
        judged.append(inside[0].registry.ready())
        return real(watcher)

    monkeypatch.setattr(FolderWatcher, "changes", changes)

    async def whole() -> None:
        async with serving(ServeOptions(models, (Address("127.0.0.1", 0),))) as sidecar:
            inside.append(sidecar)
            await eventually(lambda: judged)
            put(models / "later.onnx", score_model("later"))
            await eventually(lambda: "later" in {model.name for model in sidecar.registry.describe()})

    asyncio.run(whole())
    return judged[0]


def test_the_folder_is_watched_once_the_models_are_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library that watches is as large as HTTP's."""
    put(tmp_path / "one.onnx", score_model("one"))
    patient = functools.partial(ReconcilerOptions, watch_after_s=60.0)
    monkeypatch.setattr(reconciler, "ReconcilerOptions", patient)
    assert watched(tmp_path, monkeypatch)


def test_a_file_that_hangs_its_judge_does_not_keep_the_folder_unwatched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be this very file that is replaced."""
    put(tmp_path / "spins.onnx", endless_model())
    assert not watched(tmp_path, monkeypatch)


def test_a_start_that_ends_leaves_no_vetting_process() -> None:
    """However the block ends, the child that was started ahead does too."""
    children: list[subprocess.Popen[bytes]] = []

    def failing() -> None:
        with HeadStart.take() as begun:
            assert begun.child is not None
            assert begun.child.poll() is None
            children.append(begun.child)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing()
    assert children[0].returncode is not None


def test_a_vetting_process_that_cannot_be_started_stops_no_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first file tries again, and says then what is wrong."""

    def failing() -> None:
        raise OSError

    monkeypatch.setattr(head_start, "start_child", failing)
    with HeadStart.take() as begun:
        assert begun.child is None
