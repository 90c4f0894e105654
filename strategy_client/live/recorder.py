"""The files of a live run, written on a thread of their own: a disk that is slow or full costs no tick."""

import fcntl
import threading
from collections import deque
from collections.abc import Collection
from pathlib import Path
from typing import Final, Protocol

from strategy_client.configuration import HeldError, name_error
from strategy_client.events import ProcessedTick, ShadowComparison
from strategy_client.listener import TickListener
from strategy_client.live.journal import Journal

MAX_WAITING: Final = 20_000
MAX_BYTES: Final = 2 * 1024**3
# How often what waits is written, and the size of the files looked at.
WRITE_EVERY_S: Final = 0.5
STOP_S: Final = 5.0
BEFORE: Final = "before"


class Files(TickListener, Protocol):
    """What a replay writes, in a folder."""

    def flush(self) -> int:
        """Hand what is buffered to the system; return how many bytes the files have. Raises OSError."""
        ...

    def close(self) -> None:
        """Write what is buffered. Raises OSError."""
        ...


class Recorder:
    """Hands what came of each tick to `files`, on its own thread; a TickListener.

    Two bounds: at most `max_waiting` ticks wait to be written, what comes then is left out and counted; and
    from `max_bytes` on nothing more is written, as where the disk refuses. Each is told once, and the loop
    goes on. A tick that cannot be written for another cause is left out, told, and followed by the next.
    """

    def __init__(
        self,
        files: Files,
        journal: Journal,
        max_bytes: int = MAX_BYTES,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        self.written = 0
        self.dropped = 0
        self.bytes = 0
        self.problem = ""
        self._files = files
        self._journal = journal
        self._max_bytes = max_bytes
        self._max_waiting = max_waiting
        self._waiting: deque[ProcessedTick | ShadowComparison] = deque()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tickserve-recorder", daemon=True)

    def __repr__(self) -> str:
        state = self.problem or "writing"
        return f"<Recorder {state}, {self.written} written, {self.dropped} dropped>"

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def took(self, processed: ProcessedTick) -> None:
        """Queue a tick's outcomes, or drop and count them."""
        self._queue(processed)

    def compared(self, comparison: ShadowComparison) -> None:
        """Queue a comparison, or drop and count it."""
        self._queue(comparison)

    def close(self, timeout_s: float = STOP_S) -> None:
        """Write what waits, for `timeout_s` at most."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        if self._thread.is_alive():
            self._journal.problem("recording", f"the files were not written within {timeout_s:g} s")

    def _queue(self, record: ProcessedTick | ShadowComparison) -> None:
        if self.problem or len(self._waiting) >= self._max_waiting:
            self.dropped += 1
            if self.dropped == 1 and not self.problem:
                text = f"{self._max_waiting} ticks wait to be written; what comes now is left out"
                self._journal.problem("recording", text)
            return
        self._waiting.append(record)

    def _run(self) -> None:
        while True:
            closing = self._closing.wait(WRITE_EVERY_S)
            try:
                self._write()
                if closing:
                    self._files.close()
                    return
            except OSError as error:
                self._stop(f"nothing more is recorded: {error}")
            if self.problem:
                self.dropped += len(self._waiting)
                self._waiting.clear()
                self._give_up()
                return

    def _write(self) -> None:
        while self._waiting:
            record = self._waiting.popleft()
            try:
                self._hand_over(record)
            except OSError:
                self.dropped += 1
                raise
            except BaseException as error:  # noqa: BLE001 told: what a processor put into metadata may be unwritable
                self.dropped += 1
                text = f"tick {record.index} is not recorded: {name_error(error)}"
                self._journal.problem("recording", text, error=error)
            else:
                self.written += 1
        self.bytes = self._files.flush()
        if self.bytes >= self._max_bytes:
            self._stop(f"nothing more is recorded: the files have their {self._max_bytes / 1024**2:,.0f} MiB")

    def _hand_over(self, record: ProcessedTick | ShadowComparison) -> None:
        if isinstance(record, ProcessedTick):
            self._files.took(record)
        else:
            self._files.compared(record)

    def _stop(self, text: str) -> None:
        self.problem = text
        self._journal.problem("recording", text)

    def _give_up(self) -> None:
        try:
            self._files.close()
        except OSError as error:
            self._journal.problem("recording", f"the files were not closed: {error}")


def make_room(folder: Path, names: Collection[str]) -> None:
    """Move what the run before left under these names into `before`, in the place of the run before that.

    Raises OSError, and moves nothing, where a run or replay is writing one of them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    old = [folder / name for name in names if (folder / name).is_file()]
    if not old:
        return
    for path in old:
        _refuse_if_written(path)
    before = folder / BEFORE
    before.mkdir(exist_ok=True)
    for name in names:
        (before / name).unlink(missing_ok=True)
    for path in old:
        path.replace(before / path.name)


def _refuse_if_written(path: Path) -> None:
    # Whoever writes one of these files holds a lock on it, which would move away together with the file.
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HeldError(f"{path}: another process is writing it") from None
