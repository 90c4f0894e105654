"""The lock of a log's folder, between those who write and those who only look."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from strategy_client.audit.folder import (
    LOCK_NAME,
    LOOK_S,
    MAX_LOOKS,
    AuditHeldError,
    is_being_written,
    lock_folder,
)


@contextmanager
def held(folder: Path, kind: int) -> Iterator[int]:
    """Hold a folder's lock as another process does."""
    descriptor = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, kind)
        yield descriptor
    finally:
        os.close(descriptor)


def test_who_only_looks_refuses_nobody(tmp_path: Path) -> None:
    """A run that starts in the instant in which a verify has the lock waits for that instant."""
    waits: list[float] = []
    with held(tmp_path, fcntl.LOCK_SH) as looking:

        def wait(seconds: float) -> None:
            waits.append(seconds)
            if len(waits) == 3:
                # Whoever waits is in nobody's way.
                fcntl.flock(looking, fcntl.LOCK_EX | fcntl.LOCK_NB)
                fcntl.flock(looking, fcntl.LOCK_UN)

        descriptor = lock_folder(tmp_path, wait)
    assert waits == [LOOK_S] * 3
    assert is_being_written(tmp_path)
    os.close(descriptor)
    assert not is_being_written(tmp_path)


def test_who_looks_for_ever_is_waited_for_as_long_as_the_bound(tmp_path: Path) -> None:
    """The tries are bounded, and the folder is free afterwards."""
    waits: list[float] = []
    with (
        held(tmp_path, fcntl.LOCK_SH),
        pytest.raises(AuditHeldError, match=f"^{tmp_path}: another process is writing this audit log$"),
    ):
        lock_folder(tmp_path, waits.append)
    assert len(waits) == MAX_LOOKS
    os.close(lock_folder(tmp_path, waits.append))
    assert len(waits) == MAX_LOOKS


def test_who_writes_refuses_at_once(tmp_path: Path) -> None:
    """For another writer nobody waits: it writes until it ends."""
    waits: list[float] = []
    with held(tmp_path, fcntl.LOCK_EX), pytest.raises(AuditHeldError):
        lock_folder(tmp_path, waits.append)
    assert waits == []
    os.close(lock_folder(tmp_path, waits.append))


def test_a_wait_that_is_interrupted_holds_nothing(tmp_path: Path) -> None:
    """Ctrl-C in the wait goes on its way, and the folder is free."""

    def wait(_seconds: float) -> None:
        raise KeyboardInterrupt

    with held(tmp_path, fcntl.LOCK_SH), pytest.raises(KeyboardInterrupt):
        lock_folder(tmp_path, wait)
    assert not is_being_written(tmp_path)
