"""What a sidecar keeps beside the repository: bytes that were served, and an operator's decisions.

A file that is replaced in place is gone, so a rollback needs the bytes from somewhere else; and a version
that was rolled back must not come back with the next restart.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol


class ArchiveError(Exception):
    """What is kept cannot be read or written; the text says why."""


@dataclass(frozen=True, slots=True, order=True)
class Kept:
    """One version's bytes: its version and the SHA-256 of its file."""

    version: int
    digest: str


@dataclass(frozen=True, slots=True)
class Remembered:
    """What must outlive a restart, of one model.

    `served` are the default versions that callers got one after another, the newest last; their bytes are
    kept. `pinned` is the one that a rollback went back to. `held` are those not to be picked up until their
    file changes. `labels` are the ones moved by hand; they win over the configuration's.
    """

    served: tuple[Kept, ...] = ()
    pinned: Kept | None = None
    held: frozenset[Kept] = frozenset()
    labels: Mapping[str, int] = field(default_factory=dict)


class Archive(Protocol):
    """Keeps bytes by digest and one `Remembered` a model. Blocks; called one at a time, off the loop."""

    def load(self) -> Mapping[str, Remembered]:
        """Return what was remembered, by model. What cannot be read is logged, set aside, and left out."""
        ...

    def remember(self, name: str, remembered: Remembered) -> None:
        """Write one model's state so that a crash leaves the old or the new one; ArchiveError."""
        ...

    def keep(self, digest: str, model: bytes) -> None:
        """Keep these bytes, whose SHA-256 is `digest`, unless they are kept already; ArchiveError."""
        ...

    def read(self, digest: str) -> bytes:
        """Return bytes whose SHA-256 is `digest`; ArchiveError where they are not there or not whole."""
        ...

    def sweep(self, digests: Collection[str]) -> None:
        """Drop the bytes of all other digests."""
        ...
