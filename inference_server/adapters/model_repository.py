"""The model repository on disk: a folder, in either of two layouts.

- `NAME/VERSION/model.onnx`: versions side by side; VERSION is an integer above 0 without leading zeros.
- `NAME.onnx`: replace the file to swap; the version is the ONNX `model_version` field, 1 where it has none.

What has a name that no model can have is told as a problem under that name quoted, and is no model.
Entries that begin with a dot and files that are not `.onnx` are no business of ours. Links are followed.

A file counts once it has been the same for `quiet_s` and is a whole ONNX file. Until then, and while anything
else is wrong with it, its path keeps the candidate that it was before. A file that is not whole gets its
problem told only after `settle_s` without a change: up to then it is being written.
"""

import hashlib
import logging
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from inference_server.adapters.model_file import (
    MAX_VERSION,
    ChangingError,
    UnfitError,
    read_file,
    stamp_of,
    version_of,
)
from inference_server.core.clock import Clock
from inference_server.core.contract import check_model_name
from inference_server.core.errors import ContractError
from inference_server.core.servable import ServableId
from inference_server.serving.repository import Candidate, ChangedError, Scan

log: Final = logging.getLogger(__name__)

SUFFIX: Final = ".onnx"
FILE_NAME: Final = "model.onnx"
VERSION_FOLDER: Final = re.compile(r"[1-9][0-9]{0,18}")


@dataclass(frozen=True, slots=True)
class FolderRepositoryOptions:
    """Bounds on files, and how long a file must stay as it is (see the module's text)."""

    max_bytes: int = 2 * 2**30
    quiet_s: float = 0.1
    settle_s: float = 2.0


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a file of a model lies; the version is None where the file itself tells it."""

    name: str
    version: int | None
    path: Path

    def __str__(self) -> str:
        return f"{self.path.name}" if self.version is None else f"version {self.version}"


@dataclass(slots=True)
class _Seen:
    """What is known of one path: since when it has its stamp, and what it turned out to be."""

    stamp: str
    since_ns: int
    judged: bool = False
    incomplete: str = ""
    candidate: Candidate | None = None


class FolderRepository:
    """Implements `serving.repository.ModelRepository` on a folder, which need not exist yet."""

    def __init__(self, folder: Path, clock: Clock, options: FolderRepositoryOptions | None = None) -> None:
        self._folder = folder
        self._clock = clock
        self._options = options or FolderRepositoryOptions()
        self._seen: dict[Path, _Seen] = {}
        self._paths: dict[Candidate, Path] = {}
        self._last = Scan()

    def __repr__(self) -> str:
        return f"<FolderRepository {self._folder}, {len(self._last.candidates)} candidates>"

    def scan(self) -> Scan:
        """Say what lies in the folder now. A folder that cannot be listed counts as it was before."""
        problems: dict[str, list[str]] = {}
        misnamed: dict[str, list[str]] = {}
        try:
            places = list(self._places(problems, misnamed))
        except OSError as error:
            log.warning("the model folder cannot be listed: %s", error.strerror)
            return self._last
        names = frozenset(place.name for place in places) | problems.keys()
        places = list(_only_one_layout(places, problems))
        again_s: list[float] = []
        candidates: dict[Candidate, Path] = {}
        seen: dict[Path, _Seen] = {}
        for place in places:
            known = seen[place.path] = self._look(place, problems, again_s)
            if known.candidate is not None:
                candidates[known.candidate] = place.path
        self._seen, self._paths = seen, candidates
        self._last = Scan(
            names=names,
            candidates=tuple(sorted(candidates, key=lambda candidate: candidate.id)),
            problems={name: tuple(texts) for name, texts in (problems | misnamed).items()},
            again_s=min(again_s, default=None),
        )
        return self._last

    def read(self, candidate: Candidate) -> bytes:
        """Return the bytes whose SHA-256 is the candidate's digest, or raise ChangedError."""
        path = self._paths.get(candidate)
        if path is None:
            raise ChangedError(f"{candidate.id} is not in the repository any more")
        try:
            model, _ = read_file(path, self._options.max_bytes)
        except UnfitError as error:
            raise ChangedError(f"{candidate.id} cannot be read any more: {error}") from None
        if hashlib.sha256(model).hexdigest() != candidate.digest:
            raise ChangedError(f"{candidate.id} has changed since it was found")
        return model

    def _places(self, problems: dict[str, list[str]], misnamed: dict[str, list[str]]) -> Iterator[_Place]:
        if not self._folder.exists():
            return
        for entry in sorted(self._folder.iterdir()):
            if entry.name.startswith("."):
                continue
            if entry.name.endswith(SUFFIX):
                name = entry.name.removesuffix(SUFFIX)
                if _good_name(name, misnamed):
                    yield _Place(name, None, entry)
            elif entry.is_dir() and _good_name(entry.name, misnamed):
                try:
                    yield from _version_places(entry, problems)
                except OSError as error:
                    problems.setdefault(entry.name, []).append(
                        f"folder {entry.name}: cannot be listed: {error.strerror}"
                    )

    def _look(self, place: _Place, problems: dict[str, list[str]], again_s: list[float]) -> _Seen:
        now_ns = self._clock.monotonic_ns()
        before = self._seen.get(place.path)
        carried = before.candidate if before else None
        try:
            stamp = stamp_of(place.path, self._options.max_bytes)
            if before is None or before.stamp != stamp:
                again_s.append(self._options.quiet_s)
                return _Seen(stamp, now_ns, candidate=carried)
            same_for_s = (now_ns - before.since_ns) / 1e9
            if same_for_s < self._options.quiet_s:
                again_s.append(self._options.quiet_s - same_for_s)
                return before
            if not before.judged:
                self._judge(place, before)
        except ChangingError:
            again_s.append(self._options.quiet_s)
            return _Seen("", now_ns, candidate=carried)
        except UnfitError as error:
            problems.setdefault(place.name, []).append(f"{place}: {error}")
            return _Seen("", now_ns, candidate=carried)
        if before.incomplete:
            left_s = self._options.settle_s - same_for_s
            if left_s > 0:
                again_s.append(left_s)
            else:
                problems.setdefault(place.name, []).append(f"{place}: {before.incomplete}")
        return before

    def _judge(self, place: _Place, seen: _Seen) -> None:
        model, stamp = read_file(place.path, self._options.max_bytes)
        if stamp != seen.stamp:
            raise ChangingError
        seen.judged = True
        try:
            version = version_of(model, place.version)
        except UnfitError as error:
            seen.incomplete = str(error)
            return
        digest = hashlib.sha256(model).hexdigest()
        seen.candidate = Candidate(ServableId(place.name, version), digest, stamp)


def _only_one_layout(places: list[_Place], problems: dict[str, list[str]]) -> Iterator[_Place]:
    flat = {place.name for place in places if place.version is None}
    nested = {place.name for place in places if place.version is not None}
    for name in sorted(flat & nested):
        problems.setdefault(name, []).append(
            f"lies here twice, as {name}{SUFFIX} and as the folder {name}: remove one of them"
        )
    return (place for place in places if place.name not in flat & nested)


def _version_places(folder: Path, problems: dict[str, list[str]]) -> Iterator[_Place]:
    for entry in sorted(folder.iterdir()):
        file = entry / FILE_NAME
        if entry.name.startswith(".") or not entry.is_dir():
            continue
        if VERSION_FOLDER.fullmatch(entry.name) and int(entry.name) <= MAX_VERSION:
            if os.path.lexists(file):
                yield _Place(folder.name, int(entry.name), file)
            else:
                problems.setdefault(folder.name, []).append(f"version {entry.name}: holds no {FILE_NAME}")
        elif os.path.lexists(file):
            problems.setdefault(folder.name, []).append(
                f"folder {entry.name!r} is no version: expected an integer above 0 without leading zeros"
            )


def _good_name(name: str, misnamed: dict[str, list[str]]) -> bool:
    try:
        check_model_name(name)
    except ContractError as error:
        # Quoted, for a file's name may hold control characters and bytes that are no text.
        misnamed.setdefault(repr(name), []).append(str(error))
        return False
    return True
