"""What of a sidecar's memory is in use, as it tells it itself, and as the kernel counts it."""

import http.client
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

MIB: Final = 2**20
# A scrape waits behind the floods.
PATIENCE_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class Memory:
    """The memory of a sidecar.

    `heap_mib` is what the C library has given out and not got back, `python_kblocks` how many thousand blocks
    Python's objects take beside it. Resident memory holds what was freed as well.
    """

    pss_mib: float
    heap_mib: float
    python_kblocks: float

    @classmethod
    def of(cls, pid: int, address: str) -> Self | None:
        """Read it; None where the sidecar is gone or has no time to tell."""
        try:
            told = scraped(address)
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
        except (OSError, http.client.HTTPException):
            return None
        [pss_kib] = [line.split()[1] for line in rollup.splitlines() if line.startswith("Pss:")]
        return cls(
            int(pss_kib) / 1024,
            told.get("tickserve_heap_bytes", 0.0) / MIB,
            told["tickserve_python_blocks"] / 1000,
        )


def scraped(address: str) -> dict[str, float]:
    """Return what `/metrics` says at HOST:PORT, by the name of the series, its labels included."""
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=PATIENCE_S) as answer:
        lines = answer.read().decode().splitlines()
    pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return {name: float(value) for name, _, value in pairs}
