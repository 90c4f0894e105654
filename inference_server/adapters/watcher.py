"""Tells when the model folder may have changed: by file events, else by polling, and now and then anyway."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from watchfiles import awatch

log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FolderWatcherOptions:
    """How to watch.

    `polling` compares the folder every `poll_ms` instead of waiting for events, as is needed on network file
    systems. Where events cannot be had at all, that happens by itself. Every `rescan_s` a change is reported
    in any case, for events get lost (an overflow, a folder that is not there yet).
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
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), self._options.rescan_s)
                changed.clear()
                yield
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    async def _listen(self, changed: asyncio.Event) -> None:
        while True:
            if self._folder.is_dir():
                try:
                    await self._watch(changed)
                except Exception as error:  # noqa: BLE001 - the Rust side raises many kinds; we fall back
                    self._fall_back(error)
                changed.set()
            await asyncio.sleep(self._options.poll_ms / 1000)

    async def _watch(self, changed: asyncio.Event) -> None:
        """Report changes until the folder itself is removed or replaced, which ends a watch on it."""
        options = self._options
        watched = self._folder.stat().st_ino
        changed.set()
        async for _ in awatch(
            self._folder,
            watch_filter=None,
            debounce=options.debounce_ms,
            step=max(1, options.debounce_ms // 5),
            force_polling=self._polling,
            poll_delay_ms=options.poll_ms,
            rust_timeout=int(options.rescan_s * 1000),
            yield_on_timeout=True,
            ignore_permission_denied=True,
        ):
            changed.set()
            if not self._folder.is_dir() or self._folder.stat().st_ino != watched:
                return

    def _fall_back(self, error: Exception) -> None:
        if self._polling:
            log.warning("polling the model folder failed, going on: %s", error)
        else:
            log.warning("file events are not available, polling the model folder instead: %s", error)
            self._polling = True
