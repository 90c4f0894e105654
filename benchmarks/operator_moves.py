"""What an operator does under load: replaces one model's file, adds and removes versions of another."""

import itertools
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from forests import Forest, Release, put

# Served side by side of the model in folders: its policy is "latest 2".
SERVED_VERSIONS: Final = 2


@dataclass(frozen=True, slots=True)
class Move:
    """One change that was made: which version of which model callers are to get now, and what was done."""

    model: str
    version: int
    what: str


class ReplacedModel:
    """`NAME.onnx`: its file is renamed into place and copied over the live one, in turn."""

    def __init__(self, models: Path, name: str, forests: Sequence[Forest]) -> None:
        self.name = name
        self._file = models / f"{name}.onnx"
        self._next = itertools.cycle(forests)
        self._releases = itertools.count()
        self._copy = False
        put(self._file, self._release().content)

    def move(self) -> Move:
        """Replace the file by the next version's."""
        release = self._release()
        if self._copy:
            self._file.write_bytes(release.content)
        else:
            put(self._file, release.content)
        self._copy = not self._copy
        return Move(self.name, release.version, "renamed" if self._copy else "copied over")

    def _release(self) -> Release:
        return next(self._next).release(next(self._releases))


class VersionedModel:
    """`NAME/VERSION/model.onnx`: versions are added up to the last one, then removed down to the second.

    `forests` are the versions from 1 on. An addition retires the oldest of those served; a removal retires
    the newest and brings an older one back.
    """

    def __init__(self, models: Path, name: str, forests: Sequence[Forest]) -> None:
        if len(forests) <= SERVED_VERSIONS:
            raise ValueError(f"expected more than {SERVED_VERSIONS} versions, came {len(forests)}")
        self.name = name
        self._folder = models / name
        self._forests = forests
        self._releases = itertools.count()
        self._newest = SERVED_VERSIONS
        self._rising = True
        for forest in forests[:SERVED_VERSIONS]:
            self._put(forest)

    @property
    def next_removed(self) -> int:
        """The version that the next move removes; 0 when it adds one."""
        return 0 if self._rising else self._newest

    def move(self) -> Move:
        """Add the next version, or remove the newest."""
        if self._rising:
            self._put(self._forests[self._newest])
            self._newest += 1
        else:
            shutil.rmtree(self._folder / str(self._newest))
            self._newest -= 1
        move = Move(self.name, self._newest, "added" if self._rising else "removed")
        if self._newest in (SERVED_VERSIONS, len(self._forests)):
            self._rising = self._newest == SERVED_VERSIONS
        return move

    def _put(self, forest: Forest) -> None:
        put(self._folder / str(forest.version) / "model.onnx", forest.release(next(self._releases)).content)
