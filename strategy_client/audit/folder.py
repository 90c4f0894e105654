"""The folder of a log: its lock, the numbers of its segments, and where the chain stood."""

import fcntl
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from strategy_client.audit import chain

LOCK_NAME: Final = "lock"
SEGMENT_NAME: Final = re.compile(r"audit-(\d{6,})\.jsonl")
# More than any line has; what is read of a segment's end to find its last whole line.
TAIL_BYTES: Final = 16 << 20
FOLDER_MODE: Final = 0o750
FILE_MODE: Final = 0o640


class AuditError(OSError):
    """A log that cannot be written to or read; the text says where and why."""


@dataclass(frozen=True, slots=True)
class Head:
    """Where the chain stands: behind the last whole line of a segment; `hash` is empty where none is."""

    segment: int
    hash: bytes


def segment_path(folder: Path, number: int) -> Path:
    """Return where a segment lies; the first is 1."""
    return folder / f"audit-{number:06}.jsonl"


def segments(folder: Path) -> dict[int, Path]:
    """Return the segments of a folder by their numbers, in order. OSError where it cannot be listed."""
    found = {int(match[1]): path for path in folder.iterdir() if (match := SEGMENT_NAME.fullmatch(path.name))}
    return dict(sorted(found.items()))


def lock_folder(folder: Path) -> int:
    """Make the folder where it is not there and hold it; returns the descriptor that holds it.

    Raises AuditError where another process holds it, OSError where it cannot be made.
    """
    folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    descriptor = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            raise AuditError(f"{folder}: another process is writing this audit log") from None
        raise
    return descriptor


def is_being_written(folder: Path) -> bool:
    """Whether a process holds the folder now; False where that cannot be known."""
    try:
        descriptor = os.open(folder / LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def find_head(folder: Path) -> Head | None:
    """Return where the chain of a folder's log stands; None for a folder without one."""
    found = segments(folder)
    if not found:
        return None
    number, path = list(found.items())[-1]
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - TAIL_BYTES, 0))
        lines = file.read().splitlines(keepends=True)
    for line in reversed(lines):
        parts = chain.split(line)
        if parts is not None:
            return Head(number, parts[1])
    return Head(number, b"")
