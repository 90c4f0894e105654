"""What happens to an archive in a process that is killed, cut short, or may not write: run by tests.

`python archive_child.py ACT FOLDER` does the act and prints what came of it.
"""

import hashlib
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from inference_server.adapters.archive_folder import FolderArchive, open_archive
from inference_server.adapters.archive_text import state_text
from inference_server.serving.archive import ArchiveError, Kept, Remembered

OLD_BYTES, NEW_BYTES = b"old" * 20_000, b"new" * 30_000
OLD_DIGEST, NEW_DIGEST = (hashlib.sha256(model).hexdigest() for model in (OLD_BYTES, NEW_BYTES))
OLD = Remembered(served=(Kept(1, OLD_DIGEST),), labels={"stable": 1})
NEW = Remembered(
    served=(Kept(1, OLD_DIGEST), Kept(2, NEW_DIGEST)),
    pinned=Kept(1, OLD_DIGEST),
    held=frozenset({Kept(2, NEW_DIGEST)}),
    labels={"stable": 1, "canary": 2},
)
NOBODY = 65534
SIXTEENTHS = range(16)
KILLS = 20


def start(folder: Path) -> None:
    """Leave an archive in which the old state is kept."""
    with FolderArchive(folder) as archive:
        archive.keep(OLD_DIGEST, OLD_BYTES)
        archive.remember("momentum", OLD)


def change(archive: FolderArchive) -> None:
    """Go over to the new state."""
    archive.keep(NEW_DIGEST, NEW_BYTES)
    archive.remember("momentum", NEW)


def crash(folder: Path) -> None:
    """Change archives, each killed one call to the system later than the last, until one is not."""
    for calls in range(1, 100):
        start(folder / str(calls))
        if forked(lambda calls=calls: change_and_die(folder / str(calls), calls)) == 0:
            tell(calls)
            return


def change_and_die(folder: Path, calls: int) -> None:
    """Change it, and be killed before the given call that touches the disk."""
    archive = FolderArchive(folder)
    left = calls

    def counted(real: Callable) -> Callable:
        def call(*arguments, **named):
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **named)

        return call

    for name in ("open", "close", "fsync", "replace", "unlink"):
        setattr(os, name, counted(getattr(os, name)))
    change(archive)


def cut(folder: Path) -> None:
    """Change archives, each killed by the system within a write, at a sixteenth of what it writes."""
    for sixteenth in SIXTEENTHS:
        for what, size in (("bytes", len(NEW_BYTES)), ("state", len(state_text("momentum", NEW)))):
            place = folder / f"{what}-{sixteenth}"
            start(place)
            if what == "state":
                with FolderArchive(place) as archive:
                    archive.keep(NEW_DIGEST, NEW_BYTES)
            code = forked(lambda place=place, at=size * sixteenth // 16: change_up_to(place, at))
            assert code == -signal.SIGXFSZ, code


def change_up_to(folder: Path, size: int) -> None:
    """Change it, and be killed where a file grows beyond a size."""
    archive = FolderArchive(folder)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    change(archive)


def kill(folder: Path) -> None:
    """Kill processes at any moment while they write without a pause; print the state found after each."""
    start(folder)
    for number in range(KILLS):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            write_for_ever(folder, writing)
        os.close(writing)
        for _ in range(number % 5 + 1):
            assert os.read(reading, 1)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reading)
        with FolderArchive(folder) as archive:
            (found,) = archive.load().values()
            assert archive.read(OLD_DIGEST) == OLD_BYTES
            assert found in (OLD, NEW)
            assert found == OLD or archive.read(NEW_DIGEST) == NEW_BYTES
            tell("old" if found == OLD else "new")


def write_for_ever(folder: Path, told: int) -> None:
    """Go to and fro between the two states, and say so after each step."""
    archive = FolderArchive(folder)
    while True:
        change(archive)
        os.write(told, b".")
        archive.remember("momentum", OLD)
        archive.sweep({OLD_DIGEST})
        os.write(told, b".")


def full(folder: Path) -> None:
    """Change an archive where no file may grow beyond a kilobyte: told, and no worse than before."""
    start(folder)
    with FolderArchive(folder) as archive:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1024, resource.RLIM_INFINITY))
        report(lambda: archive.keep(NEW_DIGEST, NEW_BYTES))
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
        report(lambda: archive.remember("momentum", NEW))


def no_space(folder: Path) -> None:
    """Fill a small file system."""
    start(folder)
    with FolderArchive(folder) as archive:
        report(lambda: archive.keep(NEW_DIGEST, NEW_BYTES))
        assert archive.read(OLD_DIGEST) == OLD_BYTES
        assert archive.load() == {"momentum": OLD}
        assert not list(folder.glob("*/.*"))
        archive.remember("momentum", NEW)
        tell("there is room again")


def unwritable(folder: Path) -> None:
    """Open, as somebody else, an archive that this one may read and not write; then go without it."""
    import shutil  # noqa: F401 - that somebody may not read our Python's own modules
    import tempfile  # noqa: F401

    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    report(lambda: FolderArchive(folder))
    with open_archive(folder) as archive:
        change(archive)
        tell(archive.load() == {"momentum": NEW})


def tell(what: object) -> None:
    """Print a line for the test."""
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


def report(act: Callable[[], object]) -> None:
    """Print what an act raises."""
    try:
        act()
    except ArchiveError as error:
        tell(error)


def forked(act: Callable[[], None]) -> int:
    """Run an act in a process of its own; return 0, or the signal that killed it as a negative number."""
    child = os.fork()
    if child == 0:
        act()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    {act.__name__: act for act in (crash, cut, kill, full, no_space, unwritable)}[sys.argv[1]](
        Path(sys.argv[2])
    )
