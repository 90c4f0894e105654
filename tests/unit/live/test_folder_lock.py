"""The folder of a run, held by it alone."""

import fcntl
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from strategy_client.recording.folder_lock import LOCK, FolderLock

HOLDING = """
import sys
from pathlib import Path
from strategy_client.recording.folder_lock import FolderLock
with FolderLock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_second_is_told_who_holds_the_folder(tmp_path: Path) -> None:
    """One line names the folder and the process; afterwards the folder is free, and nothing lies there."""
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    with FolderLock(folder) as lock:
        assert repr(lock) == f"<FolderLock {folder} held>"
        with (
            pytest.raises(OSError, match=f"^{folder}: another run writes there, process {os.getpid()}$"),
            FolderLock(folder),
        ):
            pass
        # Whoever was refused has not freed it.
        with pytest.raises(OSError, match="another run writes there"), FolderLock(folder):
            pass
    assert repr(lock) == f"<FolderLock {folder} free>"
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]
    with FolderLock(folder):
        assert (folder / LOCK).read_text() == str(os.getpid())


def test_folder_that_was_made_and_left_empty_is_taken_away(tmp_path: Path) -> None:
    """A run that is refused before it writes leaves no folder; one that has written leaves it."""
    with FolderLock(tmp_path / "deep" / "out"):
        assert (tmp_path / "deep" / "out").is_dir()
    assert list((tmp_path / "deep").iterdir()) == []
    with FolderLock(tmp_path / "out"):
        (tmp_path / "out" / "f").write_text("")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["f"]


def test_lock_dies_with_its_process(tmp_path: Path) -> None:
    """What a killed run left lying is no lock; its process is never named again."""
    command = [sys.executable, "-c", HOLDING, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"held\n"
            with (
                pytest.raises(OSError, match=f"another run writes there, process {process.pid}$"),
                FolderLock(tmp_path),
            ):
                pass
        finally:
            process.send_signal(signal.SIGKILL)
    assert (tmp_path / LOCK).read_text() == str(process.pid)
    with FolderLock(tmp_path):
        assert (tmp_path / LOCK).read_text() == str(os.getpid())


def test_holder_whose_process_is_not_known_is_told_without(tmp_path: Path) -> None:
    """Between taking the lock and writing its process down a holder is there all the same."""
    with (tmp_path / LOCK).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(OSError, match=f"^{tmp_path}: another run writes there$"), FolderLock(tmp_path):
            pass


def test_many_at_the_same_instant_are_one_after_the_other(tmp_path: Path) -> None:
    """Whatever is opened, locked and taken away in between, two never hold a folder together."""
    folder, inside, most, told = tmp_path / "out", [0], [0], []
    guard = threading.Lock()

    def take() -> None:
        for _ in range(200):
            try:
                with FolderLock(folder):
                    with guard:
                        inside[0] += 1
                        most[0] = max(most[0], inside[0])
                    with guard:
                        inside[0] -= 1
            except OSError as error:
                told.append(str(error))

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]
    assert [text for text in told if "another run writes there" not in text] == []
    assert len(told) < 800


def test_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """A file where the folder should be is an error of the system, with its name."""
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"), FolderLock(tmp_path / "file"):
        pass
    assert (tmp_path / "file").is_file()
