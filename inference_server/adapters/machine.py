"""The machine, or the container on it, that this process may use."""

import contextlib
import os
import resource
import sys
from pathlib import Path
from typing import Final

# Version 2, then version 1; without a limit there is "max", or a number beyond any machine's memory.
CGROUP_LIMITS: Final = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def memory_bytes(limits: tuple[Path, ...] = CGROUP_LIMITS) -> int:
    """Return how much memory the machine has, or the container where that is less."""
    sizes = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in limits:
        with contextlib.suppress(OSError, ValueError):
            sizes.append(int(path.read_text()))
    return min(size for size in sizes if size > 0)


def file_descriptors() -> int:
    """Return how many file descriptors this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft
