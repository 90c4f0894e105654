"""Writes down what must outlive a restart, whenever it has changed, and reads kept bytes back."""

import asyncio
import logging
from collections.abc import Collection, Mapping
from typing import Final

from inference_server.serving.archive import Archive, ArchiveError, Remembered
from inference_server.serving.lifecycle import Lifecycle

log: Final = logging.getLogger(__name__)


class Recorder:
    """Keeps an archive as the lifecycle has it. An archive that fails costs a rollback, never a call.

    `written` is what the archive holds already. Calls take their turns, in the order in which they come.
    """

    def __init__(self, archive: Archive, lifecycle: Lifecycle, written: Mapping[str, Remembered]) -> None:
        self._archive = archive
        self._lifecycle = lifecycle
        self._turn = asyncio.Lock()
        self._written = dict(written)
        self._swept: frozenset[str] = frozenset()
        self._failures: dict[str, str] = {}

    def __repr__(self) -> str:
        failing = f", failing for {', '.join(sorted(self._failures))}" if self._failures else ""
        return f"<Recorder of {self._archive}{failing}>"

    def failure(self, name: str) -> str:
        """Say what of this model could not be written; empty: everything is."""
        return self._failures.get(name, "")

    async def keep(self, name: str, digest: str, model: bytes) -> None:
        """Keep bytes that callers get now."""
        async with self._turn:
            try:
                await asyncio.to_thread(self._archive.keep, digest, model)
            except ArchiveError as error:
                self._failed(name, f"a rollback to {digest[:12]} will not be possible: {error}")

    async def read(self, digest: str) -> bytes:
        """Return kept bytes, or raise ArchiveError."""
        async with self._turn:
            return await asyncio.to_thread(self._archive.read, digest)

    async def write(self, names: Collection[str]) -> None:
        """Write what is to be remembered of these models, where it differs from what was written."""
        async with self._turn:
            for name in names:
                model = self._lifecycle.model(name)
                if model is None or self._written.get(name, Remembered()) == model.remembered:
                    continue
                remembered = model.remembered
                try:
                    await asyncio.to_thread(self._archive.remember, name, remembered)
                except ArchiveError as error:
                    self._failed(name, f"a restart will not know of rollbacks and labels: {error}")
                else:
                    self._written[name] = remembered
                    self._failures.pop(name, None)
            kept = self._lifecycle.kept_digests()
            if kept != self._swept:
                await asyncio.to_thread(self._archive.sweep, kept)
                self._swept = kept

    def _failed(self, name: str, text: str) -> None:
        if self._failures.get(name) != text:
            log.warning("model=%s %s", name, text)
        self._failures[name] = text
