"""Packages for Node that tests need, installed once from npm and kept in `.cache`."""

import shutil
import tempfile
from pathlib import Path

from fetched import CACHE, CannotRunError, run

# Of one client: what speaks gRPC, and what reads .proto files for it.
GRPC_JS = ("@grpc/grpc-js@1.14.7", "@grpc/proto-loader@0.8.0")
# How long npm tries where there is no network.
PATIENCE = ("--fetch-retries", "1", "--fetch-timeout", "10000")
_failed: dict[str, CannotRunError] = {}


def node_packages(name: str, packages: tuple[str, ...]) -> Path:
    """Return the folder in which these packages are installed; CannotRunError where they cannot be had.

    Nothing that they bring is run to install them. Tried once in a run of the tests.
    """
    folder = CACHE / name
    if folder.exists():
        return folder
    if name in _failed:
        raise _failed[name]
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            raise CannotRunError(f"there is no {program}")
    CACHE.mkdir(exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=CACHE))
    try:
        quiet = ("--no-audit", "--no-fund", "--ignore-scripts", *PATIENCE)
        run("npm", "install", *quiet, "--prefix", str(part), *packages)
        part.rename(folder)
    except CannotRunError as error:
        _failed[name] = error
        raise
    except OSError as error:  # another run of the tests was quicker, or the disk is full
        if not folder.exists():
            raise CannotRunError(f"{name} cannot be kept: {error}") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder
