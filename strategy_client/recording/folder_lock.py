"""The folder that a run writes to, held by it alone."""

import contextlib
import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from strategy_client.configuration import HeldError

LOCK: Final = ".lock"
MAX_ATTEMPTS: Final = 100
PID_BYTES: Final = 20


class FolderLock:
    """Holds a folder, which is made where there is none, against every other run and replay.

    Use it as a context manager around all that is written. The lock dies with the process, however that
    ends; one that ends in order takes its file away, and a folder that it made and left empty. HeldError
    where another run holds the folder, with that one's process; OSError where it cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / LOCK
        self._fd = -1
        self._is_new = False

    def __repr__(self) -> str:
        return f"<FolderLock {self._folder} {'held' if self._fd >= 0 else 'free'}>"

    def __enter__(self) -> Self:
        self._is_new = not self._folder.exists()
        # Whoever had the file before may take it away between our opening and our locking it.
        for _ in range(MAX_ATTEMPTS):
            self._make()
            with contextlib.suppress(FileNotFoundError):
                self._fd = self._lock()
                if self._is_there():
                    break
            self._close()
        else:
            raise OSError(f"{self._path}: others take and leave it all the time")
        os.truncate(self._fd, 0)
        os.pwrite(self._fd, str(os.getpid()).encode(), 0)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with contextlib.suppress(OSError):
            self._path.unlink()
            if self._is_new:
                self._folder.rmdir()
        self._close()

    def _make(self) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            # It was there, and may have been taken away since.
            if self._folder.exists():
                raise

    def _lock(self) -> int:
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            pid = os.pread(fd, PID_BYTES, 0).decode(errors="replace")
            os.close(fd)
            if isinstance(error, BlockingIOError):
                by = f", process {pid}" if pid.isdigit() else ""
                raise HeldError(f"{self._folder}: another run writes there{by}") from None
            raise
        return fd

    def _is_there(self) -> bool:
        return os.path.samestat(os.fstat(self._fd), self._path.stat())

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
