"""Regions of POSIX shared memory that clients put tensors into and take tensors out of.

An object is read and written through its file descriptor and never mapped: its owner may truncate it at any
moment, and touching a mapping beyond the end would kill this process. A copy by `pread` is as safe as any
file's, and costs 59 µs a MiB where one out of a mapping costs 22 (measured on two cores, warm).
"""

import asyncio
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from inference_server.core.errors import InvalidRequestError, NotFoundError, RefusedError
from inference_server.serving.signature import shown

FOLDER: Final = Path("/dev/shm")  # noqa: S108 - where Linux has POSIX shared memory; nothing is made there
MAX_NAME_BYTES: Final = 255  # of a key, what the system takes; of a region's name, ours
SEMAPHORE: Final = "sem."  # the C library keeps named semaphores in the same folder
# O_NONBLOCK: opening what turns out to be a FIFO must not wait. O_NOFOLLOW: a link could lead anywhere.
OPEN_FLAGS: Final = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


@dataclass(frozen=True, slots=True)
class SharedMemoryOptions:
    """Bounds on the regions, and how often those whose object is unlinked are looked for.

    `max_region_bytes` is also what the inputs of one call may take from regions together.
    """

    max_regions: int = 64
    max_region_bytes: int = 64 << 20
    max_total_bytes: int = 256 << 20
    sweep_s: float = 1.0

    def __post_init__(self) -> None:
        if min(self.max_regions, self.max_region_bytes, self.max_total_bytes) < 1 or self.sweep_s <= 0:
            raise ValueError(f"expected bounds of at least 1 region and 1 byte, and a time, came {self}")


class Region:
    """A window on an object that a client owns; `offset` and `byte_size` in bytes of the object."""

    __slots__ = ("_fd", "_inode", "byte_size", "key", "name", "offset")

    def __init__(self, name: str, key: str, offset: int, byte_size: int) -> None:
        """Open it, or raise: InvalidRequestError where it cannot be, RefusedError where it must not."""
        self.name: Final = name
        self.key: Final = key
        self.offset: Final = offset
        self.byte_size: Final = byte_size
        self._fd = _open(key)
        try:
            self._inode = self._check()
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        state = "closed" if self._fd < 0 else "unlinked" if self.is_gone else "open"
        return f"<Region {self.name!r}: {self.byte_size} bytes of {self.key!r} from {self.offset}, {state}>"

    @property
    def is_gone(self) -> bool:
        """Whether nobody can open the object any more: its memory is freed when all let go of it."""
        return self._fd < 0 or os.fstat(self._fd).st_nlink == 0

    def is_same(self, other: "Region") -> bool:
        """Whether both are the very same bytes."""
        mine = (self._inode, self.offset, self.byte_size)
        return mine == (other._inode, other.offset, other.byte_size)  # noqa: SLF001 - of the same class

    def check_window(self, offset: int, byte_size: int) -> None:
        """Raise InvalidRequestError unless these bytes lie within the region. `offset` is from its start."""
        if offset < 0 or byte_size < 0 or offset + byte_size > self.byte_size:
            raise InvalidRequestError(
                f"region {shown(self.name)} has {self.byte_size} bytes; came {byte_size} bytes from {offset}"
            )

    def read(self, offset: int, byte_size: int) -> bytes:
        """Return a copy of a window; InvalidRequestError where the owner has cut it off."""
        self.check_window(offset, byte_size)
        parts: list[bytes] = []
        missing = byte_size
        while missing:
            part = os.pread(self._fd, missing, self.offset + offset + byte_size - missing)
            if not part:
                raise InvalidRequestError(self._cut_off())
            parts.append(part)
            missing -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def write(self, offset: int, content: bytes | memoryview) -> None:
        """Write `content` into a window; InvalidRequestError where the owner has cut the object off.

        A view is one of single bytes. RefusedError where the system has no memory for it. An owner that
        truncates in this very moment gets its object back as long as the window needs.
        """
        self.check_window(offset, len(content))
        at = self.offset + offset
        if os.fstat(self._fd).st_size < at + len(content):  # writing would make it longer again
            raise InvalidRequestError(self._cut_off())
        view = memoryview(content)
        try:
            while view:
                written = os.pwrite(self._fd, view, at)
                view, at = view[written:], at + written
        except OSError as error:
            raise RefusedError(f"region {shown(self.name)} cannot be written: {error.strerror}") from None

    def close(self) -> None:
        """Let go of the object."""
        os.close(self._fd)
        self._fd = -1

    def _check(self) -> int:
        """Return the object's inode, or raise."""
        found = os.fstat(self._fd)
        if not stat.S_ISREG(found.st_mode):
            raise RefusedError(f"key {shown(self.key)} names no shared memory object")
        if self.offset + self.byte_size > found.st_size:
            raise InvalidRequestError(
                f"region {shown(self.name)}: expected a window within the {found.st_size} bytes of "
                f"{shown(self.key)}, came {self.byte_size} bytes from {self.offset}"
            )
        return found.st_ino

    def _cut_off(self) -> str:
        return f"region {shown(self.name)}: its object {shown(self.key)} ends before the window's end"


class SharedMemory:
    """The regions by name. To be used on the event loop's thread."""

    def __init__(self, options: SharedMemoryOptions) -> None:
        self._regions: dict[str, Region] = {}
        self._options = options

    def __repr__(self) -> str:
        return f"<SharedMemory of {len(self._regions)} regions, {self._total_bytes()} bytes>"

    @property
    def options(self) -> SharedMemoryOptions:
        """The bounds."""
        return self._options

    def register(self, name: str, key: str, offset: int, byte_size: int) -> None:
        """Take a region in.

        Raises InvalidRequestError for a name, key or window that cannot be, and RefusedError where a bound
        would be passed or the name has other bytes. Once more with the same bytes is no error: a client that
        was started again need not know what it did before.
        """
        bound = self._options
        if not 0 < len(name.encode()) <= MAX_NAME_BYTES:
            raise InvalidRequestError(
                f"region name: expected 1 to {MAX_NAME_BYTES} bytes, came {shown(name)}"
            )
        if not 0 < byte_size <= bound.max_region_bytes:
            raise InvalidRequestError(
                f"region {shown(name)}: expected 1 to {bound.max_region_bytes} bytes, came {byte_size}"
            )
        self.drop_gone()
        region = Region(name, key, offset, byte_size)
        before = self._regions.get(name)
        if before is not None:
            same = before.is_same(region)
            region.close()
            if not same:
                raise RefusedError(f"region {shown(name)} is registered already; unregister it first")
            return
        if len(self._regions) >= bound.max_regions:
            region.close()
            raise RefusedError(f"{bound.max_regions} regions are registered, which is the bound")
        if self._total_bytes() + byte_size > bound.max_total_bytes:
            region.close()
            raise RefusedError(
                f"all regions together may have {bound.max_total_bytes} bytes, these would pass it"
            )
        self._regions[name] = region

    def unregister(self, name: str) -> None:
        """Let go of a region, if there is one; of every region where `name` is empty."""
        for known in [name] if name else list(self._regions):
            region = self._regions.pop(known, None)
            if region is not None:
                region.close()

    def regions(self, name: str = "") -> Mapping[str, Region]:
        """Return the region of that name, or all; NotFoundError where it is not registered."""
        self.drop_gone()
        if not name:
            return dict(self._regions)
        if name not in self._regions:
            raise NotFoundError(f"no shared memory region {shown(name)} is registered")
        return {name: self._regions[name]}

    def region(self, name: str) -> Region:
        """Return the region that a tensor names; InvalidRequestError where there is none (any more)."""
        region = self._regions.get(name)
        if region is not None and region.is_gone:
            self.unregister(name)
            raise InvalidRequestError(
                f"shared memory region {shown(name)} was dropped: its object {shown(region.key)} is unlinked"
            )
        if region is None:
            raise InvalidRequestError(f"no shared memory region {shown(name)} is registered")
        return region

    def drop_gone(self) -> None:
        """Let go of every region whose object is unlinked, so that its memory is freed."""
        for name, region in list(self._regions.items()):
            if region.is_gone:
                self.unregister(name)

    async def sweep(self) -> None:
        """Do that for ever, for owners that died and of whom nothing more is heard. Ends by cancellation."""
        while True:
            await asyncio.sleep(self._options.sweep_s)
            self.drop_gone()

    def close(self) -> None:
        """Let go of everything."""
        self.unregister("")

    def _total_bytes(self) -> int:
        return sum(region.byte_size for region in self._regions.values())


def _open(key: str) -> int:
    """Return a descriptor of the object; the same error for what is not there and what may not be opened."""
    name = key.removeprefix("/")
    if (
        not 0 < len(name.encode()) <= MAX_NAME_BYTES
        or "/" in name
        or "\0" in name
        or name in {".", ".."}
        or name.startswith(SEMAPHORE)
    ):
        raise InvalidRequestError(
            f"key: expected the name of a shared memory object, at most {MAX_NAME_BYTES} bytes without a "
            f"slash or NUL, came {shown(key)}"
        )
    try:
        return os.open(FOLDER / name, OPEN_FLAGS)
    except OSError:
        raise InvalidRequestError(
            f"key {shown(key)}: there is no such shared memory object that this server may read and write"
        ) from None
