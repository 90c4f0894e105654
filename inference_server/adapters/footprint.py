"""How much memory this process holds: the difference of two looks is what came between them."""

import contextlib
import ctypes
from pathlib import Path
from typing import Final

ROLLUP: Final = Path("/proc/self/smaps_rollup")
_M_ARENA_MAX: Final = -8


def share_one_heap() -> None:
    """Let all threads to come allocate from the main heap, for `held_bytes` to be exact.

    glibc gives back the free end of the main heap only: in any other, a small model would find room there and
    seem to take none.
    """
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def held_bytes() -> int | None:
    """Return the resident memory that backs no file, less what was freed; None where it cannot be known.

    Pages of libraries are not in it: they are read when they are first needed, whoever needs them. Freed
    memory is given back to the system first, or it would hide what comes next.
    """
    with contextlib.suppress(AttributeError):  # only glibc keeps freed memory and has a way to ask for it
        ctypes.CDLL(None).malloc_trim(0)
    try:
        lines = ROLLUP.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Anonymous:")), None)
