"""The model repository on disk: a folder, in either of two layouts.

- `NAME/VERSION/model.onnx`: versions side by side; VERSION is an integer above 0 without leading zeros.
- `NAME.onnx`: replace the file to swap; the version is the ONNX `model_version` field, 1 where it has none.

What has a name that no model can have is told as a problem under that name quoted, and is no model.
Entries that begin with a dot and files that are not `.onnx` are no business of ours. Links are followed.

A file counts once it has been the same for `quiet_s`, as has its manifest where it has one, is a whole
ONNX file, and is the one that the manifest names (`manifest.py`). Until then, and while anything else is
wrong with it, its path keeps the candidate that it was before. What is not whole, does not fit its manifest
or has not come yet gets its problem told only after `settle_s` without a change: up to then it is being
written. What is still being written after `patience_s` is told too, and holds nobody up any more.
"""

import errno
import hashlib
import logging
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from inference_server.adapters.first_look import FILE_NAME, SUFFIX, FirstLook
from inference_server.adapters.manifest import check_manifest, manifest_stamp
from inference_server.adapters.model_file import (
    MAX_VERSION,
    ChangingError,
    IncompleteError,
    UnfitError,
    is_there,
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

VERSION_FOLDER: Final = re.compile(r"[1-9][0-9]{0,18}")
# The stamps of a file that is not there yet, and of one that could not be looked at.
ABSENT: Final = ("absent", "")
UNKNOWN: Final = ("", "")


@dataclass(frozen=True, slots=True)
class FolderRepositoryOptions:
    """Bounds on files, and how long a file must or may not stay as it is (see the module's text)."""

    max_bytes: int = 2 * 2**30
    quiet_s: float = 0.1
    settle_s: float = 2.0
    patience_s: float = 30.0


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a file of a model lies; the version is None where the file itself tells it.

    `there` is False for a version's folder without the file: whoever made it may be writing beside.
    """

    name: str
    version: int | None
    path: Path
    there: bool = True

    def __str__(self) -> str:
        return f"{self.path.name}" if self.version is None else f"version {self.version}"


@dataclass(slots=True)
class _Seen:
    """What is known of one path: since when file and manifest have their stamps, and what they are.

    `restless_ns` is since when it is being written; None: it is at rest.
    """

    stamps: tuple[str, str]
    since_ns: int
    restless_ns: int | None = None
    judged: bool = False
    incomplete: str = ""
    candidate: Candidate | None = None


@dataclass(slots=True)
class _Findings:
    """What one scan has to say beside its candidates: by model, or by a name that no model can have."""

    problems: dict[str, list[str]] = field(default_factory=dict)
    misnamed: dict[str, list[str]] = field(default_factory=dict)
    unsettled: set[str] = field(default_factory=set)
    again_s: float | None = None

    def problem(self, name: str, text: str) -> None:
        """Add what is wrong with something of a model."""
        self.problems.setdefault(name, []).append(text)

    def due(self, name: str, after_s: float, *, awaited: bool = True) -> None:
        """Ask for another look at something of a model, which is unsettled until then if that is awaited."""
        self.again_s = after_s if self.again_s is None else min(after_s, self.again_s)
        if awaited:
            self.unsettled.add(name)


class FolderRepository:
    """Implements `serving.repository.ModelRepository` on a folder, which need not exist yet.

    `first_look` is what was seen of it before, on the same clock: a file that is still the same has been the
    same since then.
    """

    def __init__(
        self,
        folder: Path,
        clock: Clock,
        options: FolderRepositoryOptions | None = None,
        first_look: FirstLook | None = None,
    ) -> None:
        self._folder = folder
        self._clock = clock
        self._options = options or FolderRepositoryOptions()
        self._seen: dict[Path, _Seen] = {}
        self._paths: dict[Candidate, Path] = {}
        self._first_look = first_look or FirstLook()
        self._last = Scan()
        self._unlisted: str | None = None

    def __repr__(self) -> str:
        return f"<FolderRepository {self._folder}, {len(self._last.candidates)} candidates>"

    def scan(self) -> Scan:
        """Say what lies in the folder now. A folder that cannot be listed counts as it was before."""
        findings = _Findings()
        try:
            places = list(self._places(findings))
        except OSError as error:
            if self._unlisted != error.strerror:
                log.warning("the model folder cannot be listed: %s", error.strerror)
            self._unlisted = error.strerror
            # Nothing is due: the next event or the watcher's periodic look tries again.
            return replace(self._last, unsettled=frozenset(), again_s=None)
        self._unlisted = None
        names = frozenset(place.name for place in places) | findings.problems.keys()
        candidates: dict[Candidate, Path] = {}
        seen: dict[Path, _Seen] = {}
        for place in _only_one_layout(places, findings):
            known = seen[place.path] = self._look(place, findings)
            if known.candidate is not None:
                candidates[known.candidate] = place.path
        self._seen, self._paths = seen, candidates
        self._first_look = FirstLook()  # what appears from now on is new
        told = findings.problems | findings.misnamed
        self._last = Scan(
            names=names,
            candidates=tuple(sorted(candidates, key=lambda candidate: candidate.id)),
            problems={name: tuple(texts) for name, texts in told.items()},
            unsettled=frozenset(findings.unsettled),
            again_s=findings.again_s,
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

    def _places(self, findings: _Findings) -> Iterator[_Place]:
        try:
            entries = sorted(self._folder.iterdir())
        except FileNotFoundError:
            return
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.name.endswith(SUFFIX):
                name = entry.name.removesuffix(SUFFIX)
                if _good_name(name, findings):
                    yield _Place(name, None, entry)
            elif _may_be_folder(entry) and _good_name(entry.name, findings):
                try:
                    yield from _version_places(entry, findings)
                except OSError as error:
                    findings.problem(entry.name, f"folder {entry.name}: cannot be listed: {error.strerror}")

    def _look(self, place: _Place, findings: _Findings) -> _Seen:
        now_ns = self._clock.monotonic_ns()
        before = self._seen.get(place.path)
        carried = before.candidate if before and place.there else None
        try:
            stamps = self._stamps(place)
        except UnfitError as error:
            findings.problem(place.name, f"{place}: {error}")
            return _Seen(UNKNOWN, now_ns, candidate=carried)
        if before is None and self._first_look.stamps.get(place.path) == stamps:
            before = _Seen(stamps, self._first_look.at_ns)
        if before is None or before.stamps != stamps:
            before = _Seen(stamps, now_ns, _restless_ns(before, now_ns), candidate=carried)
        same_for_s = (now_ns - before.since_ns) / 1e9
        if same_for_s < self._options.quiet_s:
            self._await(place, before, self._options.quiet_s, findings)
            return before
        try:
            if not before.judged:
                self._judge(place, before)
        except ChangingError:
            before = _Seen(UNKNOWN, now_ns, _restless_ns(before, now_ns), candidate=carried)
            self._await(place, before, self._options.quiet_s, findings)
            return before
        except UnfitError as error:
            # It could not be read, which its stamps do not tell the end of: tried again at every look.
            findings.problem(place.name, f"{place}: {error}")
            before.restless_ns = None
            return before
        if before.incomplete and same_for_s < self._options.settle_s:
            self._await(place, before, self._options.settle_s, findings)
            return before
        if before.incomplete:
            findings.problem(place.name, f"{place}: {before.incomplete}")
        before.restless_ns = None
        return before

    def _await(self, place: _Place, seen: _Seen, rest_s: float, findings: _Findings) -> None:
        """Have it looked at again once it has been the same for so long; told where it takes too long."""
        now_ns = self._clock.monotonic_ns()
        patience_s = self._options.patience_s
        endless = now_ns - _restless_ns(seen, now_ns) >= patience_s * 1e9
        if endless:
            findings.problem(place.name, f"{place}: is still being written after {patience_s:g} s")
        findings.due(place.name, rest_s - (now_ns - seen.since_ns) / 1e9, awaited=not endless)

    def _stamps(self, place: _Place) -> tuple[str, str]:
        if not place.there:
            return ABSENT
        return stamp_of(place.path, self._options.max_bytes), manifest_stamp(place.path)

    def _judge(self, place: _Place, seen: _Seen) -> None:
        if not place.there:
            seen.judged, seen.incomplete = True, f"holds no {FILE_NAME}"
            return
        model, stamp = read_file(place.path, self._options.max_bytes)
        if stamp != seen.stamps[0]:
            raise ChangingError
        digest = hashlib.sha256(model).hexdigest()
        try:
            version = version_of(model, place.version)
            check_manifest(place.path, digest)
        except IncompleteError as error:
            seen.judged, seen.incomplete = True, str(error)
            return
        if manifest_stamp(place.path) != seen.stamps[1]:
            raise ChangingError
        seen.judged = True
        seen.candidate = Candidate(ServableId(place.name, version), digest, stamp)


def _restless_ns(seen: _Seen | None, now_ns: int) -> int:
    return now_ns if seen is None or seen.restless_ns is None else seen.restless_ns


def _only_one_layout(places: list[_Place], findings: _Findings) -> Iterator[_Place]:
    flat = {place.name for place in places if place.version is None}
    nested = {place.name for place in places if place.version is not None and place.there}
    for name in sorted(flat & nested):
        findings.problem(
            name, f"lies here twice, as {name}{SUFFIX} and as the folder {name}: remove one of them"
        )
    return (place for place in places if place.name not in flat & nested)


def _version_places(folder: Path, findings: _Findings) -> Iterator[_Place]:
    for entry in sorted(folder.iterdir()):
        file = entry / FILE_NAME
        if entry.name.startswith(".") or not _may_be_folder(entry):
            continue
        if VERSION_FOLDER.fullmatch(entry.name) and int(entry.name) <= MAX_VERSION:
            yield _Place(folder.name, int(entry.name), file, is_there(file))
        elif os.path.lexists(file):
            findings.problem(
                folder.name,
                f"folder {entry.name!r} is no version: expected an integer above 0 without leading zeros",
            )


def _may_be_folder(path: Path) -> bool:
    """Return False only where it is none; a link to where we may not look is told by who looks into it."""
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except OSError as error:
        return error.errno not in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}


def _good_name(name: str, findings: _Findings) -> bool:
    try:
        check_model_name(name)
    except ContractError as error:
        # Quoted, for a file's name may hold control characters and bytes that are no text.
        findings.misnamed.setdefault(repr(name), []).append(str(error))
        return False
    return True
