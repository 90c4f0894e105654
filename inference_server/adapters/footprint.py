"""How much memory this process has allocated: the difference of two looks is what came between them."""

import contextlib
import ctypes
from typing import Final

_M_ARENA_MAX: Final = -8


class _Mallinfo2(ctypes.Structure):
    """What glibc tells of its allocator; see mallinfo2(3)."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


def allocated_bytes() -> int | None:
    """Return what is allocated and not freed; None where the C library does not say: it is not glibc 2.33.

    A look takes microseconds. What was freed before does not hide what comes next, as it would in the
    process's resident memory, where it stays until it is given back.
    """
    try:
        mallinfo2 = ctypes.CDLL(None).mallinfo2
    except AttributeError:
        return None
    mallinfo2.restype = _Mallinfo2
    info = mallinfo2()
    return int(info.uordblks + info.hblkhd)


def share_one_heap() -> None:
    """Let all threads to come allocate from the main heap, for a bound on address space to be exact.

    glibc reserves 64 MiB for any other heap, which a file could fill without asking the system for more.
    """
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)
