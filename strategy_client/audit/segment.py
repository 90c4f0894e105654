"""One file of a log: lines in the chain, appended, and handed to the disk as far as it takes them."""

import os
from collections import deque
from pathlib import Path

from strategy_client.audit import chain
from strategy_client.audit.folder import FILE_MODE


class Segment:
    """A new file, which nobody else writes; FileExistsError where there is one of the name.

    `append` only takes a line into memory; `flush` writes as much of what is there as the disk takes, and
    goes on in the middle of a line after it failed. `head` is the hash of the last line appended,
    `written_head` of the last of the `whole_lines` in the file. `ended` notes that the end has been appended.
    """

    def __init__(self, path: Path, before: bytes) -> None:
        self.path = path
        self.head = before
        self.written_head = before
        self.size = 0
        self.ended = False
        self.whole_lines = 0
        self._descriptor = os.open(
            path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, FILE_MODE
        )
        self._buffer = bytearray()
        # The lines that are not wholly written: body, the size of the file once it is, the hash.
        self._unwritten: deque[tuple[bytes, int, bytes]] = deque()
        self._appended = 0
        self._synced = True

    def __repr__(self) -> str:
        return f"<Segment {self.path.name}, {self.size} bytes, {len(self._unwritten)} lines to write>"

    @property
    def unwritten(self) -> list[bytes]:
        """The bodies of the lines that are not wholly in the file."""
        return [body for body, _, _ in self._unwritten]

    @property
    def appended_bytes(self) -> int:
        """The size of the file once everything is written."""
        return self._appended

    def append(self, body: bytes) -> None:
        """Take a line, in the chain behind the one before."""
        self.head, line = chain.link(self.head, body)
        self._buffer += line
        self._appended += len(line)
        self._unwritten.append((body, self._appended, self.head))

    def flush(self) -> None:
        """Hand what was appended to the system; OSError where it takes no more, and the rest is kept."""
        while self._buffer:
            written = os.write(self._descriptor, self._buffer)
            del self._buffer[:written]
            self.size += written
            self._synced = False
            while self._unwritten and self._unwritten[0][1] <= self.size:
                _, _, self.written_head = self._unwritten.popleft()
                self.whole_lines += 1

    def sync(self) -> None:
        """Wait until the disk has what was flushed."""
        if not self._synced:
            os.fdatasync(self._descriptor)
            self._synced = True

    def is_there(self) -> bool:
        """Whether the file can still be found under its name."""
        try:
            return os.path.samestat(self.path.stat(), os.fstat(self._descriptor))
        except OSError:
            return False

    def close(self) -> None:
        """Let the file go; what was not flushed is lost."""
        os.close(self._descriptor)


def sync_folder(folder: Path) -> None:
    """Wait until the disk has the names of a folder."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
