"""The model repository as serving sees it: candidates that lie there, problems, and their bytes."""

import enum
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from inference_server.core.servable import ServableId


class ChangedError(Exception):
    """The file is no longer the one that was found; a new scan tells what it is now."""


DIGEST_SHOWN: Final = 12


def told(id_: ServableId, digest: str) -> str:
    """Say which bytes of which version, as every line of the log does."""
    return f"model={id_.name} version={id_.version} digest={digest[:DIGEST_SHOWN]}"


class Source(enum.Enum):
    """Where a candidate's bytes are."""

    REPOSITORY = "repository"
    ARCHIVE = "archive"
    UPLOAD = "upload"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A complete file found for one version.

    `digest` is the SHA-256 of its bytes. `stamp` changes whenever the file is written or touched, even with
    the same bytes: a refused file is tried again when its stamp changes, a served one only when its digest
    does.
    """

    id: ServableId
    digest: str
    stamp: str
    source: Source = Source.REPOSITORY

    def __str__(self) -> str:
        return told(self.id, self.digest)


@dataclass(frozen=True, slots=True)
class Scan:
    """One look at the repository.

    `names` are the models of which anything lies there, whatever may be wrong with it.
    `problems` are texts by model name about what is no candidate. A file that is being written keeps the
    candidate it was before; its model is in `unsettled` until a problem tells that it takes too long.
    `again_s` is when another look is due although nothing changes; None: never.
    """

    names: frozenset[str] = frozenset()
    candidates: tuple[Candidate, ...] = ()
    problems: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unsettled: frozenset[str] = frozenset()
    again_s: float | None = None


class ModelRepository(Protocol):
    """A folder of artefacts. Both methods block; they are called one at a time, off the event loop."""

    def scan(self) -> Scan:
        """Say what lies there now. What is wrong with a file is a problem text, never an exception."""
        ...

    def read(self, candidate: Candidate) -> bytes:
        """Return the bytes whose SHA-256 is the candidate's digest, or raise ChangedError."""
        ...


class Watcher(Protocol):
    """Tells when a new scan is worth its while."""

    def changes(self) -> AsyncIterator[None]:
        """Yield each time something may have changed, until it is closed."""
        ...
