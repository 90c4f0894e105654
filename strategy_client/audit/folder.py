"""The folder of a log: its lock, the numbers of its segments, and where the chain stood."""

import fcntl
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from strategy_client.audit import chain
from strategy_client.configuration import HeldError

LOCK_NAME: Final = "lock"
# Each number has one name: of two files of one number one would hide the other.
SEGMENT_NAME: Final = re.compile(r"audit-([0-9]{6}|[1-9][0-9]{6,})\.jsonl")
# No line is longer: so much is read of a segment's end to find its last whole line.
MAX_LINE_BYTES: Final = 16 << 20
FOLDER_MODE: Final = 0o750
# How long those who look are waited for, which they do for microseconds: half a second.
MAX_LOOKS: Final = 50
LOOK_S: Final = 0.01
FILE_MODE: Final = 0o640


class AuditError(OSError):
    """A log that cannot be written to or read; the text says where and why."""


class AuditHeldError(AuditError, HeldError):
    """A log that another process writes."""


@dataclass(frozen=True, slots=True)
class Head:
    """Where the chain stands: in which segment the last whole line is, and its hash, empty where none is."""

    segment: int
    hash: bytes


def segment_path(folder: Path, number: int) -> Path:
    """Return where a segment lies; the first is 1."""
    return folder / f"audit-{number:06}.jsonl"


def segments(folder: Path) -> dict[int, Path]:
    """Return the segments of a folder by their numbers, in order.

    Raises OSError where it cannot be listed, AuditError where something of a segment's name is no file.
    """
    found = {int(match[1]): path for path in folder.iterdir() if (match := SEGMENT_NAME.fullmatch(path.name))}
    for path in found.values():
        if not path.is_file():
            raise AuditError(f"{path}: expected a file of an audit log")
    return dict(sorted(found.items()))


def lock_folder(folder: Path, wait: Callable[[float], object] = time.sleep) -> int:
    """Make the folder where it is not there and hold it; returns the descriptor that holds it.

    Raises AuditError where another process writes there, OSError where it cannot be made. One that only looks
    whether somebody does is waited for by `wait`, which is given seconds.
    """
    folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    descriptor = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
    try:
        for _ in range(MAX_LOOKS):
            if _lock(descriptor, fcntl.LOCK_EX):
                return descriptor
            if not _lock(descriptor, fcntl.LOCK_SH):
                break
            # Whoever looks has it for an instant, and beside others who look.
            _lock(descriptor, fcntl.LOCK_UN)
            wait(LOOK_S)
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    raise AuditHeldError(f"{folder}: another process is writing this audit log")


def is_being_written(folder: Path) -> bool:
    """Whether a process holds the folder now; False where that cannot be known."""
    try:
        descriptor = os.open(folder / LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return not _lock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def find_head(found: Mapping[int, Path]) -> Head | None:
    """Return where the chain of a log stands, given its segments in order; None for one without any."""
    # A process that was killed before its first line was written leaves an empty one behind.
    for number, path in reversed(list(found.items())):
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - MAX_LINE_BYTES, 0))
            lines = file.read().splitlines(keepends=True)
        for line in reversed(lines):
            parts = chain.split(line)
            if parts is not None:
                return Head(number, parts[1])
    return Head(max(found), b"") if found else None
