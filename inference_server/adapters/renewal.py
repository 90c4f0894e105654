"""Small files that someone else renews while the sidecar runs: certificates, tokens."""

import asyncio
import hashlib
import logging
import stat
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Generic, TypeVar

log = logging.getLogger(__name__)

MAX_FILE_BYTES: Final = 1 << 20
CHECK_S: Final = 1.0

Value = TypeVar("Value")


class RenewalError(Exception):
    """Files that cannot be used; the text names the file and what was expected, nothing of its content."""


class Renewal(Generic[Value]):
    """What some files say, and say again when they are renewed.

    `parse` makes the value of their contents, beside the value before (None at the start), or raises
    RenewalError; so does this for files that cannot be used at the start. Later ones that cannot be used
    replace nothing: what was read before stays, and `problem` says why. `what` they are is for the log.
    `value` may be read on any thread; it is replaced in one assignment.
    """

    def __init__(
        self,
        what: str,
        files: Sequence[Path],
        parse: Callable[[Sequence[bytes], Value | None], Value],
    ) -> None:
        self.what: Final = what
        self._files: Final = tuple(files)
        self._parse: Final = parse
        self._refreshing: Final = threading.Lock()
        contents = self._read()
        self._seen = _digests(contents)
        self.value = parse(contents, None)
        self.problem = ""

    def __repr__(self) -> str:
        return f"<Renewal of {self.what}, {self.problem or 'as its files say'}>"

    def refresh(self) -> None:
        """Read the files again, and take over what they say if it can be used.

        They are read in full each time: they are small, and no time or inode has to be trusted.
        """
        with self._refreshing:
            try:
                contents = self._read()
                seen = _digests(contents)
                if seen == self._seen:
                    self.problem = ""
                    return
                # What could not be used is tried each time: a certificate becomes valid with time.
                self.value = self._parse(contents, self.value)
            except RenewalError as error:
                if self.problem != str(error):
                    log.error("%s: what was read before stays in use: %s", self.what, error)  # noqa: TRY400 - no bug
                self.problem = str(error)
                return
            self._seen = seen
            self.problem = ""
            log.info("%s: took over what the files say now", self.what)

    async def watch(self) -> None:
        """Refresh again and again, away from the event loop, until cancelled."""
        while True:
            await asyncio.sleep(CHECK_S)
            await asyncio.to_thread(self.refresh)

    def _read(self) -> tuple[bytes, ...]:
        return tuple(map(read_small, self._files))


def _digests(contents: Sequence[bytes]) -> list[bytes]:
    """Return what is remembered of contents, which are secrets."""
    return [hashlib.sha256(content).digest() for content in contents]


def read_small(file: Path) -> bytes:
    """Return the content of a file of at most a MiB, or raise RenewalError."""
    try:
        # Looked at first: to open a FIFO would wait for whoever writes to it.
        if not stat.S_ISREG(file.stat().st_mode):
            raise RenewalError(f"{file}: expected a file, there is something else")
        with file.open("rb") as stream:
            content = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise RenewalError(f"{file}: {error.strerror}") from None
    if len(content) > MAX_FILE_BYTES:
        raise RenewalError(f"{file}: expected at most {MAX_FILE_BYTES} bytes")
    return content


def warn_where_others_can_read(what: str, file: Path) -> None:
    """Log it where a secret can be read by anyone.

    It is not refused: Kubernetes gives a mounted secret the mode 0644, where nobody else is in the container.
    """
    mode = stat.S_IMODE(file.stat().st_mode)
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        log.warning("%s: %s has mode %04o, anyone on this machine can read it", what, file, mode)
