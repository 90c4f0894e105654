"""Messages as lines: a file that is read or followed, one that is appended to, standard input and output."""

import os
import select
import stat
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from strategy_client.buses.port import BusError, Delivery, IncomingMessage, OutgoingMessage

READ_BYTES: Final = 65_536
MAX_LINE_BYTES: Final = 1_048_576
FOLLOW_EVERY_S: Final = 0.05
# A line that waits here is not received yet: of those read together the last ones may wait long.
MAX_BATCH: Final = 64


class LineInbox:
    """The lines of a file or, without a path, of standard input.

    With `follow` the end of the file is waited at, and a file that is replaced or cut off is read from its
    start; `newest` begins at the end. A line that is too long is given cut off.
    """

    def __init__(self, path: Path | None, *, follow: bool = False, newest: bool = False) -> None:
        self._path = path
        self._name = str(path) if path is not None else "standard input"
        self._follow = follow
        self._at_end = newest
        self._fd: int | None = None
        self._lines = 0
        self._rest = b""
        self._skipping = False
        self._read: deque[tuple[int, bytes]] = deque()

    def receive(self, timeout_s: float) -> Sequence[IncomingMessage] | None:
        """Return the next lines that have come, some at most; None at the end of what has one."""
        if self._read:
            return self._given()
        try:
            fd = self._open()
            if not stat.S_ISREG(os.fstat(fd).st_mode) and not select.select([fd], [], [], timeout_s)[0]:
                return ()
            read = os.read(fd, READ_BYTES)
            if read:
                self._split(read)
                return self._given()
            if self._follow:
                if not self._is_replaced(fd):
                    time.sleep(min(timeout_s, FOLLOW_EVERY_S))
                return ()
        except OSError as error:
            self._forget()
            # What is not there yet is new from its first line on.
            self._at_end = self._at_end and not isinstance(error, FileNotFoundError)
            raise BusError(f"{self._name}: {error.strerror or error}") from error
        # A last line without its end counts: nothing more will come to it.
        if not self._rest:
            return None
        self._split(b"\n")
        return self._given()

    def close(self) -> None:
        """Close the file."""
        self._forget()

    def _open(self) -> int:
        if self._fd is None:
            if self._path is None:
                self._fd = os.dup(0)
            else:
                # Not blocking: to open a pipe must not wait for its writer.
                self._fd = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                if self._at_end:
                    os.lseek(self._fd, 0, os.SEEK_END)
            self._at_end = False
        return self._fd

    def _is_replaced(self, fd: int) -> bool:
        here = os.fstat(fd)
        if self._path is None or not stat.S_ISREG(here.st_mode):
            return False
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return False
        same = (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)
        if same and here.st_size >= os.lseek(fd, 0, os.SEEK_CUR):
            return False
        self._forget()
        return True

    def _forget(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
        self._lines, self._rest, self._skipping = 0, b"", False

    def _split(self, read: bytes) -> None:
        *lines, rest = (self._rest + read).split(b"\n")
        for line in lines:
            self._lines += 1
            if not self._skipping:
                self._read.append((self._lines, line))
            self._skipping = False
        if len(rest) > MAX_LINE_BYTES:
            if not self._skipping:
                self._read.append((self._lines + 1, rest))
            self._skipping, rest = True, b""
        self._rest = rest

    def _given(self) -> list[IncomingMessage]:
        received_ns = time.monotonic_ns()
        given = [self._read.popleft() for _ in range(min(len(self._read), MAX_BATCH))]
        return [
            IncomingMessage(self._name, number, line, received_ns, numbered=False) for number, line in given
        ]


class LineOutbox:
    """Appends to a file or, without a path, writes to standard output: a message a line, whole lines only."""

    def __init__(self, path: Path | None, write: Callable[[int, bytes], int] = os.write) -> None:
        self._path = path
        self._name = str(path) if path is not None else "standard output"
        self._write = write
        self._fd: int | None = None
        self._torn = False
        self.open()

    def open(self) -> None:
        """Open the file, so that one that cannot be written is known at once. Raises OSError."""
        if self._fd is None:
            if self._path is None:
                self._fd = os.dup(1)
            else:
                flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
                self._fd = os.open(self._path, flags, 0o666)

    def send(self, batch: Sequence[OutgoingMessage], time_left_s: Callable[[], float]) -> Delivery:  # noqa: ARG002 a disk is waited for
        """Write a batch."""
        arrived: list[int] = []
        try:
            self.open()
            for position, message in enumerate(batch):
                self._write_line(message.value + b"\n")
                arrived.append(position)
        except OSError as error:
            return Delivery(arrived, error=f"{self._name}: {error.strerror or error}")
        return Delivery(arrived)

    def close(self) -> None:
        """Close the file."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _write_line(self, line: bytes) -> None:
        # A full disk may take half a line. The half is ended, so that it spoils no other, and the line
        # written anew.
        rest = b"\n" + line if self._torn else line
        while rest:
            written = self._write(self._fd if self._fd is not None else -1, rest)
            rest = rest[written:]
            self._torn = bool(rest) and len(rest) <= len(line)
