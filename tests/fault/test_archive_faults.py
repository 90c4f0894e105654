"""The archive when its process is killed, its disk is full, or its folder may not be written."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from archive_child import KILLS, NEW, NEW_BYTES, NEW_DIGEST, OLD, OLD_BYTES, OLD_DIGEST, SIXTEENTHS, start

from inference_server.adapters.archive_folder import FolderArchive
from inference_server.serving.archive import ArchiveError

CHILD = Path(__file__).parents[1] / "archive_child.py"


def run(act: str, folder: Path, *before: str) -> list[str]:
    """Let a process do an act in a folder; return what it printed."""
    command = [*before, sys.executable, str(CHILD), act, str(folder)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()


def found_after(folder: Path) -> str:
    """Open what a process left, see that all of it is whole, and say which of the two states it is."""
    with FolderArchive(folder) as archive:
        assert not list(folder.glob("*/.*")), "leftovers are swept at the start"
        assert archive.read(OLD_DIGEST) == OLD_BYTES
        state = archive.load()["momentum"]
        assert state in (OLD, NEW)
        if state == NEW:
            assert archive.read(NEW_DIGEST) == NEW_BYTES
        else:
            try:
                assert archive.read(NEW_DIGEST) == NEW_BYTES
            except ArchiveError as error:
                assert "is not there" in str(error)  # noqa: PT017 - both are right, broken bytes are not
        archive.keep(NEW_DIGEST, NEW_BYTES)
        archive.remember("momentum", NEW)
        assert archive.load() == {"momentum": NEW}
    assert not list(folder.rglob("*.broken"))
    return "old" if state == OLD else "new"


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users of the machine can reach."""
    with tempfile.TemporaryDirectory(prefix="ts") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_a_crash_between_any_two_steps_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    """F3: killed before each call that touches the disk in turn: old or new, whole, nothing beside."""
    (calls,) = map(int, run("crash", tmp_path))
    found = [found_after(tmp_path / str(call)) for call in range(1, calls + 1)]
    assert calls > 10
    assert found == sorted(found, reverse=True), "old up to one call, new from then on"
    assert set(found) == {"old", "new"}


def test_a_crash_within_a_write_leaves_the_old(tmp_path: Path) -> None:
    """C1: killed by the system at each sixteenth of the bytes and of the state: the old one is whole."""
    assert run("cut", tmp_path) == []
    places = list(tmp_path.iterdir())
    assert len(places) == 2 * len(SIXTEENTHS)
    assert {found_after(place) for place in places} == {"old"}


def test_kills_at_any_moment_leave_the_old_or_the_new(tmp_path: Path) -> None:
    """F3: a process that writes without a pause is killed again and again: always a whole state."""
    assert len(run("kill", tmp_path / "state")) == KILLS
    found_after(tmp_path / "state")


def test_a_write_that_the_system_refuses_is_told(tmp_path: Path) -> None:
    """C8: bytes and state that do not fit are told with the system's reason; what was there stays."""
    assert run("full", tmp_path / "state") == [
        "the model's bytes cannot be kept: File too large",
        "the state of model momentum cannot be written: File too large",
    ]
    assert found_after(tmp_path / "state") == "old"


def test_a_full_disk_is_told_and_gets_its_space_back(tmp_path: Path) -> None:
    """C8: on a full file system the old stays, nothing half-written takes the room, and it goes on."""
    mount = 'mount -t tmpfs -o size=128k none "$0"'
    inside = ("unshare", "--mount", "sh", "-c", f'{mount} && exec "$@"', str(tmp_path))
    tried = shutil.which("unshare") and subprocess.run([*inside, "true"], capture_output=True, check=False)
    if not tried or tried.returncode:
        pytest.skip("a small file system can be mounted by root alone")
    assert run("no_space", tmp_path / "state", *inside) == [
        "the model's bytes cannot be kept: No space left on device",
        "there is room again",
    ]


@pytest.mark.parametrize("seen", [False, True])
def test_a_folder_that_may_not_be_written_is_done_without(open_folder: Path, seen: bool) -> None:
    """C8: no permission, though the lock could be had: told at the start, and a temporary folder serves."""
    folder = open_folder / "state"
    start(folder)
    for path in (folder, *folder.rglob("*")) if seen else ():
        path.chmod(0o555 if path.is_dir() else 0o444)
    if seen:
        (folder / "lock").chmod(0o666)
    elif os.getuid() != 0:
        folder.chmod(0)
    try:
        assert run("unwritable", folder) == ["the state folder cannot be used: Permission denied", "True"]
    finally:
        for path in (folder, folder / "models", folder / "bytes"):
            path.chmod(0o700)
    with FolderArchive(folder) as archive:
        assert archive.load() == {"momentum": OLD}
        assert hashlib.sha256(archive.read(OLD_DIGEST)).hexdigest() == OLD_DIGEST
