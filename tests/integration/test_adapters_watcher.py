"""The watcher: events, polling, a folder that comes and goes, and the look that happens anyway."""

import asyncio
import contextlib
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import watchfiles
from eventually import BOUND_S, eventually
from sidecar_inside import put

from inference_server.adapters import watcher as watcher_module
from inference_server.adapters.watcher import FolderWatcher, FolderWatcherOptions

NEVER_S = 3_600.0


class Reports:
    """What a watcher told, taken as it comes, so that waiting with a bound does not end it."""

    def __init__(self):
        self._count = self._taken = 0
        self._more = asyncio.Condition()

    async def take_in(self, changes):
        async for _ in changes:
            async with self._more:
                self._count += 1
                self._more.notify_all()

    async def changed(self, bound_s=BOUND_S):
        """Wait for a report that was not waited for yet; all that have come are then taken."""
        async with asyncio.timeout(bound_s), self._more:
            await self._more.wait_for(lambda: self._count > self._taken)
            self._taken = self._count

    async def quiet(self):
        """Take what is told of the past, until nothing is for a while: the watch stands, and reports news."""
        with contextlib.suppress(TimeoutError):
            while True:
                await self.changed(0.5)


@contextlib.asynccontextmanager
async def watching(folder, **options):
    """Yield the watcher and its reports."""
    watcher = FolderWatcher(
        folder, FolderWatcherOptions(**({"rescan_s": NEVER_S, "debounce_ms": 10} | options))
    )
    reports = Reports()
    async with contextlib.aclosing(watcher.changes()) as changes:
        taking = asyncio.create_task(reports.take_in(changes))
        try:
            yield watcher, reports
            assert not taking.done(), "the watcher ended by itself"
        finally:
            taking.cancel()
            await asyncio.gather(taking, return_exceptions=True)


def run(scenario):
    asyncio.run(asyncio.wait_for(scenario(), 4 * BOUND_S))


@pytest.mark.parametrize("polling", [False, True])
def test_a_change_in_the_folder_or_below_is_told(tmp_path, polling):
    """C8: by events as by polling, a new file, a changed one and a removed one are each told."""

    async def scenario():
        async with watching(tmp_path, polling=polling, poll_ms=20) as (_, reports):
            await reports.changed()
            # The watch begins a moment after the first report: write until it is noticed.
            await write_until_told(tmp_path, reports)
            (tmp_path / "momentum" / "1" / "model.onnx").unlink()
            await reports.changed()

    run(scenario)


async def write_until_told(folder, reports):
    await reports.quiet()
    telling = asyncio.create_task(reports.changed())
    number = 0
    while not (await asyncio.wait([telling], timeout=0.05))[0]:
        number += 1
        put(folder / "momentum" / "1" / "model.onnx", b"x" * number)
    await telling  # raises where nothing was told within the bound


def test_a_folder_that_does_not_exist_yet_is_told_when_it_comes(tmp_path):
    """A1: watching an absent folder is no error; its appearance is a change, and so is what comes into it."""

    async def scenario():
        async with watching(tmp_path / "models", poll_ms=20) as (_, reports):
            telling = asyncio.create_task(reports.changed())
            assert not (await asyncio.wait([telling], timeout=0.1))[0]
            (tmp_path / "models").mkdir()
            await telling
            await write_until_told(tmp_path / "models", reports)

    run(scenario)


def test_a_change_that_meets_the_end_does_not_keep_the_watcher(tmp_path, monkeypatch):
    """F3: cancelled in the very turn in which a change is told, the watcher ends all the same."""

    async def scenario():
        told = []
        real_event = asyncio.Event
        monkeypatch.setattr(watcher_module.asyncio, "Event", lambda: told.append(real_event()) or told[-1])
        reports = Reports()
        taking = asyncio.create_task(reports.take_in(FolderWatcher(tmp_path).changes()))
        await reports.changed()
        told[-1].set()
        await asyncio.sleep(0)  # whoever waits for the event is woken, and has not gone on yet
        taking.cancel()
        assert (await asyncio.wait([taking], timeout=BOUND_S))[0], "the cancellation was lost"

    run(scenario)


def test_a_look_is_due_now_and_then_though_nothing_is_told(tmp_path):
    """C8: events get lost, so a change is reported every `rescan_s` in any case."""

    async def scenario():
        async with watching(tmp_path / "absent", rescan_s=0.05) as (_, reports):
            await reports.changed()
            await reports.changed()

    run(scenario)


def test_without_events_it_falls_back_to_polling_by_itself(tmp_path, monkeypatch):
    """C8: where file events cannot be had, changes are found by polling, and the log says so."""
    real = watchfiles.watch

    def without_events(*paths, force_polling, **options):
        if not force_polling:
            raise OSError("OS file watch limit reached")
        return real(*paths, force_polling=True, **options)

    monkeypatch.setattr(watchfiles, "watch", without_events)

    async def scenario():
        async with watching(tmp_path, poll_ms=20) as (watcher, reports):
            await reports.changed()
            await write_until_told(tmp_path, reports)
            assert "by polling" in repr(watcher)

    run(scenario)


def flip(link, target):
    """Turn a link to another target in one step."""
    beside = link.with_name(f".{link.name}.new")
    beside.symlink_to(target)
    beside.replace(link)


@pytest.mark.parametrize("relative", [False, True])
def test_a_folder_that_is_made_anew_is_watched(tmp_path, monkeypatch, relative):
    """C2: removed and made again at once, its events are told, though it may have the old one's number."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(watcher_module, "_identity", lambda folder: (1, 1))
    folder = Path("models") if relative else tmp_path / "models"
    folder.mkdir()

    async def scenario():
        async with watching(folder, poll_ms=20) as (watcher, reports):
            await write_until_told(folder, reports)
            shutil.rmtree(folder)
            folder.mkdir()
            await reports.changed()
            await write_until_told(folder, reports)
            assert "by events" in repr(watcher)

    run(scenario)


def test_a_models_folder_that_is_replaced_is_watched(tmp_path):
    """C2: a whole repository renamed into the place of the old one is told, and so is what comes into it."""
    folder = tmp_path / "models"
    for path in (folder, tmp_path / "next"):
        path.mkdir()

    async def scenario():
        async with watching(folder, poll_ms=20) as (_, reports):
            await write_until_told(folder, reports)
            await reports.quiet()
            folder.rename(tmp_path / "old")
            (tmp_path / "next").rename(folder)
            await reports.changed()
            await write_until_told(folder, reports)

    run(scenario)


@pytest.mark.parametrize("polling", [False, True])
@pytest.mark.parametrize("linked", ["models", "models/momentum", "models/momentum/1"])
def test_a_link_that_is_flipped_is_told_and_followed(tmp_path, linked, polling):
    """C2: the models folder, a model's or a version's may be a link: its flip and what follows are told."""
    for number in (1, 2):
        (tmp_path / f"release-{number}" / "models" / "momentum" / "1").mkdir(parents=True)
    link = tmp_path / linked
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(tmp_path / "release-1" / linked)

    async def scenario():
        async with watching(tmp_path / "models", poll_ms=20, polling=polling) as (_, reports):
            await write_until_told(tmp_path / "models", reports)
            await reports.quiet()
            flip(link, tmp_path / "release-2" / linked)
            await reports.changed()
            await write_until_told(tmp_path / "models", reports)

    run(scenario)


def test_what_is_written_under_a_hidden_name_is_not_told(tmp_path):
    """C2: writing a file beside its place costs no look at all; its renaming into place is told."""
    part = tmp_path / ".momentum.onnx.part"
    part.touch()

    async def scenario():
        async with watching(tmp_path, poll_ms=20) as (_, reports):
            await write_until_told(tmp_path, reports)
            await reports.quiet()
            telling = asyncio.create_task(reports.changed())
            with part.open("wb", buffering=0) as out:
                for _ in range(20):
                    out.write(b"x" * 1000)
                    assert not (await asyncio.wait([telling], timeout=0.02))[0]
            part.rename(tmp_path / "momentum.onnx")
            await telling

    run(scenario)


def test_what_changes_before_the_watch_stands_is_told(tmp_path, monkeypatch):
    """C2: between the first report and the first event nothing is lost: the watch reports once it stands."""
    real, begun = watchfiles.watch, threading.Event()

    def slow_to_begin(*paths, **options):
        assert begun.wait(BOUND_S)
        yield from real(*paths, **options)

    monkeypatch.setattr(watchfiles, "watch", slow_to_begin)

    async def scenario():
        async with watching(tmp_path, poll_ms=20) as (_, reports):
            await reports.changed()
            put(tmp_path / "momentum.onnx", b"x")
            begun.set()
            await reports.changed()

    run(scenario)


@pytest.mark.parametrize("polling", [False, True])
def test_whatever_is_raised_the_watcher_lives_on(tmp_path, monkeypatch, caplog, polling):
    """C8: an error of any kind, before or in the middle of a watch, does not end the telling."""
    real, seen = watchfiles.watch, threading.Event()
    at_once = [
        RuntimeError("bug"),
        OSError(28, "full"),
        PermissionError(13, "no"),
        FileNotFoundError(2, "gone"),
    ]
    in_the_middle = [ValueError("bad"), OSError(5, "disk")]

    def failing(*paths, **options):
        if at_once:
            raise at_once.pop()
        for told in real(*paths, **options):
            if told and in_the_middle:
                raise in_the_middle.pop()
            yield told
            if told:
                seen.set()

    monkeypatch.setattr(watchfiles, "watch", failing)

    async def scenario():
        async with watching(tmp_path, poll_ms=20, rescan_s=0.2, polling=polling) as (_, reports):
            number = 0
            while not seen.is_set():
                number += 1
                put(tmp_path / "momentum.onnx", b"x" * number)
                await reports.changed()
            assert (at_once, in_the_middle) == ([], [])

    run(scenario)
    told = [message for message in caplog.messages if "polling the model folder instead" in message]
    assert len(told) == (0 if polling else 1)


def test_polling_that_fails_is_not_tried_all_the_time(tmp_path, monkeypatch, caplog):
    """C8: where even polling fails, the next try and its line in the log come with the periodic look."""
    tries = []

    def failing(*paths, **options):
        tries.append(paths)
        raise OSError(5, "disk")

    monkeypatch.setattr(watchfiles, "watch", failing)

    async def scenario():
        async with watching(tmp_path, poll_ms=1, polling=True) as (_, reports):
            await reports.quiet()

    run(scenario)
    assert (len(tries), len(caplog.messages)) == (1, 1)


@pytest.mark.parametrize(
    ("error", "way"),
    [
        (PermissionError(13, "no"), "events"),
        (FileNotFoundError(2, "gone"), "events"),
        (OSError(5, "disk"), "polling"),
    ],
)
def test_a_look_that_fails_is_tried_again(tmp_path, monkeypatch, error, way):
    """C8: a folder that may not be looked at for now is watched once it may, by events where it can."""
    folder, real, errors = tmp_path / "models", Path.is_dir, [error]
    folder.mkdir()

    def failing(path):
        if path == folder and errors:
            raise errors.pop()
        return real(path)

    monkeypatch.setattr(Path, "is_dir", failing)

    async def scenario():
        async with watching(folder, poll_ms=20) as (watcher, reports):
            await write_until_told(folder, reports)
            assert f"by {way}" in repr(watcher)
        assert errors == []

    run(scenario)


WITHOUT_EVENTS = """
import asyncio, contextlib, os, pathlib, resource, sys
from inference_server.adapters.watcher import FolderWatcher, FolderWatcherOptions

folder = pathlib.Path(sys.argv[1])
watcher = FolderWatcher(folder, FolderWatcherOptions(poll_ms=20, rescan_s=60))

async def main():
    async with contextlib.aclosing(watcher.changes()) as changes:
        lowest = os.dup(0)
        os.close(lowest)
        _, hard = soft = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
        telling = asyncio.ensure_future(anext(changes))
        while "by events" in repr(watcher):
            await asyncio.sleep(0.01)
        resource.setrlimit(resource.RLIMIT_NOFILE, soft)
        number = 0
        for wanted in range(3):
            while not telling.done():
                number += 1
                (folder / "momentum.onnx").write_bytes(b"x" * number)
                await asyncio.wait([telling], timeout=0.05)
            await telling
            telling = asyncio.ensure_future(anext(changes))
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)
    print(watcher)

asyncio.run(asyncio.wait_for(main(), 90))
"""


def test_the_disk_is_looked_at_in_a_thread_that_ends_with_the_watcher(tmp_path, monkeypatch):
    """B4: beginning a watch walks through all folders: no call waits for it, and no thread is left."""
    real, begun_in = watchfiles.watch, set()

    def recorded(*paths, **options):
        begun_in.add(threading.current_thread())
        yield from real(*paths, **options)

    monkeypatch.setattr(watchfiles, "watch", recorded)

    async def scenario():
        async with watching(tmp_path, poll_ms=int(NEVER_S * 1000)) as (_, reports):
            await write_until_told(tmp_path, reports)
        (thread,) = begun_in
        assert thread is not threading.current_thread()
        await eventually(lambda: not thread.is_alive())

    run(scenario)


def test_a_process_without_a_descriptor_to_spare_polls(tmp_path):
    """C8: refused file events for real, for want of descriptors, it tells changes by polling."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_EVENTS, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert "by polling" in done.stdout, done.stderr
    assert "Too many open files" in done.stderr
