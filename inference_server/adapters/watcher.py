"""Tells when the model folder may have changed: by file events, else by polling, and now and then anyway.

All of it looks at the disk in a thread: to begin a watch on a thousand models takes a twentieth of a second,
and a look that waits, for a journal that is being written or for a network, would hold up the calls.
"""

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncIterator, Collection, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:  # at run time in the thread that watches: no start waits for it
    from watchfiles import Change

log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FolderWatcherOptions:
    """How to watch.

    `polling` compares the folder every `poll_ms` instead of waiting for events, as is needed on network file
    systems. Where events cannot be had at all, that happens by itself. As often it is looked whether the
    folder is still the one that is watched, for a link to it may be turned. Every `rescan_s` a change is
    reported in any case, for events get lost (an overflow, what a link to a file leads to elsewhere).
    """

    polling: bool = False
    poll_ms: int = 300
    debounce_ms: int = 50
    rescan_s: float = 5.0


class FolderWatcher:
    """Implements `serving.repository.Watcher` on a folder, which need not exist yet."""

    def __init__(self, folder: Path, options: FolderWatcherOptions | None = None) -> None:
        self._folder = folder
        self._options = options or FolderWatcherOptions()
        self._polling = self._options.polling

    def __repr__(self) -> str:
        return f"<FolderWatcher {self._folder}, by {'polling' if self._polling else 'events'}>"

    async def changes(self) -> AsyncIterator[None]:
        """Yield each time something may have changed. Never raises; ends when it is closed or cancelled."""
        changed = asyncio.Event()
        listening = asyncio.create_task(self._listen(changed))
        try:
            while True:
                # Not wait_for: in Python 3.11 it keeps a cancellation to itself that meets a change.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._options.rescan_s):
                        await changed.wait()
                changed.clear()
                yield
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    async def _listen(self, changed: asyncio.Event) -> None:
        # Of its own: it waits there nearly all the time, and the threads that all others share are few.
        thread = ThreadPoolExecutor(1, thread_name_prefix="watch")
        try:
            while True:
                pause_s = await self._watch(changed, thread)
                await asyncio.sleep(pause_s)
        finally:
            thread.shutdown(wait=False)

    async def _watch(self, changed: asyncio.Event, thread: Executor) -> float:
        """Report changes as long as one watch reaches all places; return the pause before the next, in s."""
        loop = asyncio.get_running_loop()
        ended = threading.Event()
        looks = self._looks(ended)
        try:
            while (tell := await loop.run_in_executor(thread, next, looks, None)) is not None:
                if tell:
                    changed.set()
        except (FileNotFoundError, PermissionError):  # of this moment; whoever looks sees what is wrong
            changed.set()
        except Exception as error:  # noqa: BLE001 - the Rust side raises many kinds; we go on
            if self._polling:
                log.warning("polling the model folder failed, trying again: %s", error)
                return self._options.rescan_s
            log.warning("file events are not available, polling the model folder instead: %s", error)
            self._polling = True
        finally:
            ended.set()
        return self._options.poll_ms / 1000

    def _looks(self, ended: threading.Event) -> Iterator[bool]:
        """Watch, and yield at each look whether there is anything to tell; in a thread.

        It ends when `ended` is set, when there is no folder, and when there are places that the watch does
        not reach, which is to be told too.
        """
        from watchfiles import watch  # noqa: PLC0415 - see above

        options = self._options
        if not self._folder.is_dir():
            return
        watched = _identity(self._folder)
        changes = watch(
            self._folder,
            watch_filter=_tells,
            debounce=options.debounce_ms,
            step=max(1, options.debounce_ms // 5),
            stop_event=ended,
            force_polling=self._polling,
            poll_delay_ms=options.poll_ms,
            # A link to the folder that is turned to another is no event in either: looked at now and then.
            rust_timeout=options.poll_ms,
            yield_on_timeout=True,
            ignore_permission_denied=True,
        )
        yield True
        begun = False
        for told in changes:
            yield bool(told) or not begun  # what came before the watch stood is looked at now
            begun = True
            if self._outlived(told, watched):
                yield True
                return

    def _outlived(self, told: "Collection[tuple[Change, str]]", watched: tuple[int, int]) -> bool:
        """Tell whether the watched folder is another now, or a link to another has come into it.

        A folder that is made anew may get the number that the old one had, and links are followed only where
        they lay when the watch began.
        """
        folder = self._folder.absolute()
        for change, name in told:
            path = Path(name).absolute()
            if change.name == "deleted" and path == folder:
                return True
            if change.name == "added" and path.is_symlink() and path.is_dir():
                return True
        return _identity(self._folder) != watched


def _identity(folder: Path) -> tuple[int, int]:
    found = folder.stat()
    return found.st_dev, found.st_ino


def _tells(change: "Change", path: str) -> bool:
    """Leave out what is written under a hidden name: it is looked at once it gets another."""
    return change.name != "modified" or not Path(path).name.startswith(".")
