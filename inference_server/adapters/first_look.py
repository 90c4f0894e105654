"""A first look at the files of a model repository, before the libraries are there to do more with them.

Imports little, for that is its point.
"""

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from inference_server.adapters.manifest import manifest_stamp
from inference_server.adapters.model_file import UnfitError, stamp_of

FILE_NAME: Final = "model.onnx"
SUFFIX: Final = ".onnx"
MAX_BYTES: Final = 2**63
# A look at more files would take longer than it saves; the others are looked at later.
MAX_FILES: Final = 500
# So would one at files that are far away: all else waits for it.
LONGEST_NS: Final = 50_000_000

Stamps = tuple[str, str]  # of a file and of its manifest


@dataclass(frozen=True, slots=True)
class FirstLook:
    """The stamps that files had, and when on the monotonic clock the last of them had been looked at."""

    at_ns: int = 0
    stamps: Mapping[Path, Stamps] = field(default_factory=dict)


def look_at(folder: Path) -> FirstLook:
    """Look at up to `MAX_FILES` files in both layouts, for up to `LONGEST_NS`; what cannot be is left out."""
    stamps: dict[Path, Stamps] = {}
    end_ns = time.monotonic_ns() + LONGEST_NS
    try:
        for path in _files(folder):
            if len(stamps) == MAX_FILES or time.monotonic_ns() >= end_ns:
                break
            try:
                stamps[path] = stamp_of(path, MAX_BYTES), manifest_stamp(path)
            except UnfitError:
                continue
    except OSError:
        pass
    return FirstLook(time.monotonic_ns(), stamps)


def _files(folder: Path) -> Iterator[Path]:
    """Yield the paths that `model_repository` gives to what lies there."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(SUFFIX):
                yield folder / entry.name
            elif entry.is_dir():
                for version in os.listdir(entry):  # noqa: PTH208 - names are all that is wanted
                    yield folder / entry.name / version / FILE_NAME
