"""What wakes a wait for files to change: events of the system where it has them, else a pause."""

import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

log: Final = logging.getLogger(__name__)
DEBOUNCE_MS: Final = 20
MS_PER_S: Final = 1_000


class FileEvents:
    """Waits for an event in a folder, or in the one that a file lies in.

    It only ever shortens a wait: who asks compares the files all the same, for events get lost, and none
    tells of what lies behind a link or on another machine. Where there can be none, a wait is a pause.
    """

    def __init__(self, path: Path, closed: threading.Event) -> None:
        self._path = path
        self._closed = closed
        self._changes: Iterator[object] | None = None
        self._pause_s = 0.0
        self._deaf = False

    def wait(self, pause_s: float) -> None:
        """Return at an event, when closed, or after so many seconds; the first call says how many."""
        if not self._deaf:
            try:
                if self._changes is None:
                    self._changes = self._watch(pause_s)
                ended = next(self._changes, None) is None
            except Exception as error:  # noqa: BLE001 - the Rust side raises many kinds; we go on by pauses
                log.warning("no file events for %s, looking every %g s: %s", self._path, pause_s, error)
                self._deaf = True
            else:
                self._deaf = ended
                return
        self._closed.wait(pause_s)

    def _watch(self, pause_s: float) -> Iterator[object]:
        # The polling works without this extra's compiled part.
        from watchfiles import watch  # noqa: PLC0415

        folder = self._path if self._path.is_dir() else self._path.parent
        return watch(
            folder,
            watch_filter=None,
            debounce=DEBOUNCE_MS,
            step=DEBOUNCE_MS // 2,
            stop_event=self._closed,
            rust_timeout=max(1, int(pause_s * MS_PER_S)),
            yield_on_timeout=True,
            raise_interrupt=True,
            recursive=False,
        )
