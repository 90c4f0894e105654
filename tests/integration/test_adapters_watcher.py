"""The watcher: events, polling, a folder that comes and goes, and the look that happens anyway."""

import asyncio
import contextlib

import pytest
import watchfiles
from sidecar_inside import put

from inference_server.adapters import watcher as watcher_module
from inference_server.adapters.watcher import FolderWatcher, FolderWatcherOptions

NEVER_S = 60.0


@contextlib.asynccontextmanager
async def watching(folder, **options):
    """Yield a function that waits for the next change, after those of the start have passed."""
    watcher = FolderWatcher(
        folder, FolderWatcherOptions(**({"rescan_s": NEVER_S, "debounce_ms": 10} | options))
    )
    async with contextlib.aclosing(watcher.changes()) as changes:

        async def changed(bound_s=10.0):
            await asyncio.wait_for(anext(changes), bound_s)

        yield watcher, changed


def run(scenario):
    asyncio.run(asyncio.wait_for(scenario(), 60))


@pytest.mark.parametrize("polling", [False, True])
def test_a_change_in_the_folder_or_below_is_told(tmp_path, polling):
    """C8: by events as by polling, a new file, a changed one and a removed one are each told."""

    async def scenario():
        async with watching(tmp_path, polling=polling, poll_ms=20) as (_, changed):
            await changed()
            # The watch begins a moment after the first report: write until it is noticed.
            await write_until_told(tmp_path, changed)
            (tmp_path / "momentum" / "1" / "model.onnx").unlink()
            await changed()

    run(scenario)


async def write_until_told(folder, changed):
    telling = asyncio.create_task(changed())
    for number in range(200):
        put(folder / "momentum" / "1" / "model.onnx", b"x" * number)
        if (await asyncio.wait([telling], timeout=0.05))[0]:
            return
    raise AssertionError("no change was told")


def test_a_folder_that_does_not_exist_yet_is_told_when_it_comes(tmp_path):
    """A1: watching an absent folder is no error; its appearance is a change, and so is what comes into it."""

    async def scenario():
        async with watching(tmp_path / "models", poll_ms=20) as (_, changed):
            telling = asyncio.create_task(changed())
            assert not (await asyncio.wait([telling], timeout=0.1))[0]
            (tmp_path / "models").mkdir()
            await telling
            await write_until_told(tmp_path / "models", changed)

    run(scenario)


def test_a_look_is_due_now_and_then_though_nothing_is_told(tmp_path):
    """C8: events get lost, so a change is reported every `rescan_s` in any case."""

    async def scenario():
        async with watching(tmp_path / "absent", rescan_s=0.05) as (_, changed):
            await changed()
            await changed()

    run(scenario)


def test_without_events_it_falls_back_to_polling_by_itself(tmp_path, monkeypatch):
    """C8: where file events cannot be had, changes are found by polling, and the log says so."""
    real = watchfiles.awatch

    def without_events(*paths, force_polling, **options):
        if not force_polling:
            raise OSError("OS file watch limit reached")
        return real(*paths, force_polling=True, **options)

    monkeypatch.setattr(watcher_module, "awatch", without_events)

    async def scenario():
        async with watching(tmp_path, poll_ms=20) as (watcher, changed):
            await changed()
            await write_until_told(tmp_path, changed)
            assert "by polling" in repr(watcher)

    run(scenario)
