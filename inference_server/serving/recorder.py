"""Writes down what must outlive a restart, whenever it has changed, and reads kept bytes back."""

import asyncio
import logging
from collections.abc import Collection, Mapping
from typing import Final

from inference_server.serving.archive import Archive, ArchiveError, Remembered
from inference_server.serving.lifecycle import Lifecycle
from inference_server.serving.repository import DIGEST_SHOWN

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
        # Why these bytes are not kept, by digest, as long as they are wanted; why a model was not written.
        self._not_kept: dict[str, str] = {}
        self._not_written: dict[str, str] = {}

    def __repr__(self) -> str:
        failures = sorted([*self._not_written, *(digest[:DIGEST_SHOWN] for digest in self._not_kept)])
        failing = f", failing for {', '.join(failures)}" if failures else ""
        return f"<Recorder of {self._archive}{failing}>"

    def failure(self, name: str) -> str:
        """Say what of this model could not be written; empty: everything is."""
        told = [self._not_written[name]] if name in self._not_written else []
        if self._not_kept:
            wanted = dict.fromkeys(kept.digest for kept in self._lifecycle.remembered(name).served)
            told += [self._not_kept[digest] for digest in wanted if digest in self._not_kept]
        return "; ".join(told)

    async def keep(self, name: str, digest: str, model: bytes) -> None:
        """Keep bytes that callers get now."""
        async with self._turn:
            try:
                await asyncio.to_thread(self._archive.keep, digest, model)
            except ArchiveError as error:
                text = f"a rollback to {digest[:DIGEST_SHOWN]} will not be possible: {error}"
                log.warning("model=%s %s", name, text)
                self._not_kept[digest] = text
            else:
                self._not_kept.pop(digest, None)

    async def read(self, digest: str) -> bytes:
        """Return kept bytes, or raise ArchiveError."""
        async with self._turn:
            return await asyncio.to_thread(self._archive.read, digest)

    async def write(self, names: Collection[str]) -> None:
        """Write what is to be remembered of these models, where it differs from what was written."""
        async with self._turn:
            for name in names:
                remembered = self._lifecycle.remembered(name)
                if self._written.get(name, Remembered()) == remembered:
                    continue
                try:
                    await asyncio.to_thread(self._archive.remember, name, remembered)
                except ArchiveError as error:
                    text = f"a restart will not know of rollbacks and labels: {error}"
                    if self._not_written.get(name) != text:
                        log.warning("model=%s %s", name, text)
                    self._not_written[name] = text
                else:
                    self._written[name] = remembered
                    self._not_written.pop(name, None)
            kept = self._lifecycle.kept_digests()
            if kept != self._swept:
                await asyncio.to_thread(self._archive.sweep, kept)
                self._swept = kept
                self._not_kept = {digest: text for digest, text in self._not_kept.items() if digest in kept}
