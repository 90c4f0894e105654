"""The bounds of an audit log."""

from dataclasses import dataclass
from typing import Final

MEBIBYTE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class AuditOptions:
    """How much may wait, how large a segment grows, and what a crash may cost.

    `max_queued` records wait in memory; beyond it they are dropped and counted. What waits is written every
    `flush_ms`, which is what a killed process may lose, and is on the disk after `sync_ms` more, which is
    what a power failure may lose. A segment ends at `segment_bytes` or after `segment_s`. Nothing is ever
    deleted; instead writing stops while less than `keep_free_bytes` are free, so that a full log does not
    stop whatever else is on the disk.

    `patient`: wait for room rather than drop, as long as writing works. For a replay, which nobody waits
    for; never for a live loop.
    """

    max_queued: int = 10_000
    flush_ms: float = 50.0
    sync_ms: float = 1_000.0
    segment_bytes: int = 256 * MEBIBYTE
    segment_s: float = 86_400.0
    keep_free_bytes: int = 256 * MEBIBYTE
    patient: bool = False

    def __post_init__(self) -> None:
        for name in ("max_queued", "flush_ms", "sync_ms", "segment_bytes", "segment_s"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: expected more than 0, came {getattr(self, name)}")
        if self.keep_free_bytes < 0:
            raise ValueError(f"keep_free_bytes: expected 0 or more, came {self.keep_free_bytes}")
