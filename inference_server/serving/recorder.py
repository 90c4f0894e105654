"""Writes down what must outlive a restart, whenever it has changed."""

import asyncio
import logging
from collections.abc import Collection, Mapping
from typing import Final

from inference_server.serving.archive import Archive, ArchiveError, Remembered
from inference_server.serving.lifecycle import Lifecycle

log: Final = logging.getLogger(__name__)


class Recorder:
    """Keeps an archive as the lifecycle has it. An archive that fails costs a rollback, never a call.

    `written` is what the archive holds already.
    """

    def __init__(self, archive: Archive, lifecycle: Lifecycle, written: Mapping[str, Remembered]) -> None:
        self._archive = archive
        self._lifecycle = lifecycle
        self._turn = asyncio.Lock()
        self._written = dict(written)
        self._swept: frozenset[str] = frozenset()
        self._failure = ""

    def __repr__(self) -> str:
        return f"<Recorder of {self._archive}{', failing' if self._failure else ''}>"

    @property
    def failure(self) -> str:
        """Why the last writing failed; empty: it did not."""
        return self._failure

    async def keep(self, digest: str, model: bytes) -> None:
        """Keep bytes that answer now."""
        async with self._turn:
            try:
                await asyncio.to_thread(self._archive.keep, digest, model)
            except ArchiveError as error:
                self._failed(f"bytes {digest[:12]} are not kept for a rollback: {error}")

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
                    self._failed(f"what was decided for {name} is not kept for a restart: {error}")
                else:
                    self._written[name] = remembered
                    self._failure = ""
            kept = self._lifecycle.kept_digests()
            if kept != self._swept:
                await asyncio.to_thread(self._archive.sweep, kept)
                self._swept = kept

    def _failed(self, text: str) -> None:
        self._failure = text
        log.warning("%s", text)
