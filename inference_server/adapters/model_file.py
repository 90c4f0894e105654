"""A model's file: its bytes as they lay there at one moment, and its version without building the graph.

An ONNX file is one protobuf message (onnx.proto, `ModelProto`). Its top-level fields are walked by their
lengths alone, which is quick at any size and notices a file that was cut off.
"""

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

MODEL_VERSION_FIELD: Final = 5
GRAPH_FIELD: Final = 7
FIRST_VERSION: Final = 1
# Other files than ONNX's can look like so many small fields that walking them would take minutes.
MAX_FIELDS: Final = 100_000
MAX_VERSION: Final = 2**63 - 1

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED_SIZES: Final = {_FIXED64: 8, _FIXED32: 4}


class UnfitError(Exception):
    """What is no file of a model; the text says what it is."""


class ChangingError(UnfitError):
    """The file was written while it was read."""


class IncompleteError(UnfitError):
    """What was read is not whole, or not what goes with it; it may be because it is being written."""


def is_there(path: Path) -> bool:
    """Return False only where nothing has this name; what cannot be told is found out by who reads it."""
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return True


def stamp_of(path: Path, max_bytes: int) -> str:
    """Return a text that changes whenever the file is written or touched; UnfitError unless it is a file."""
    try:
        found = path.stat()
    except OSError as error:
        raise UnfitError(_told(path, error)) from None
    _check(found, max_bytes)
    return _stamp(found)


def read_file(path: Path, max_bytes: int) -> tuple[bytes, str]:
    """Return the bytes and the stamp that held from before the first to after the last of them.

    Raises UnfitError, and of it ChangingError where no one stamp held. Never waits for more to come.
    """
    try:
        # Non-blocking, for a pipe may have taken the file's place: opening that would wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            before = os.fstat(descriptor)
            _check(before, max_bytes)
            with open(descriptor, "rb", closefd=False) as file:
                # None: no regular file after all has nothing to read now, such as one of /proc.
                model = file.read(before.st_size + 1) or b""
            after = os.fstat(descriptor)
        finally:
            os.close(descriptor)  # here, for opening a folder's descriptor fails without closing it
    except OSError as error:
        raise UnfitError(_told(path, error)) from None
    if _stamp(after) != _stamp(before):
        raise ChangingError("is being written")
    if len(model) != before.st_size:  # those of /proc and /sys never have the size that they say
        raise UnfitError(f"says that it has {before.st_size} bytes, and has not")
    return model, _stamp(before)


def version_of(model: bytes, given: int | None) -> int:
    """Return the version that the file's place gave, or else the one in the file, 1 where it has none.

    IncompleteError unless the file is whole and the version an integer above 0.
    """
    own = read_model_version(model)
    version = given or own or FIRST_VERSION
    if version < FIRST_VERSION:
        raise IncompleteError(f"model_version is {version}, expected an integer above 0")
    return version


def read_model_version(model: bytes) -> int:
    """Return the `model_version` field, 0 when it is absent; IncompleteError unless the file is whole."""
    if not model:
        raise IncompleteError("the file is empty")
    version, has_graph = 0, False
    for field, number in _fields(model):
        if field == MODEL_VERSION_FIELD and number is not None:
            version = number if number <= MAX_VERSION else number - 2**64
        has_graph = has_graph or field == GRAPH_FIELD
    if not has_graph:
        raise IncompleteError("not a whole ONNX file: it holds no graph")
    return version


def _fields(model: bytes) -> Iterator[tuple[int, int | None]]:
    """Yield each top-level field, with its value where it is a number; IncompleteError where that ends."""
    position = 0
    for _ in range(MAX_FIELDS):
        if position == len(model):
            return
        tag, position = _varint(model, position)
        field, wire_type = tag >> 3, tag & 7
        if field == 0:  # zeros: space that is reserved for what is still to be written
            raise IncompleteError(f"not a whole ONNX file: byte {position - 1} is no field of one")
        number = None
        if wire_type == _VARINT:
            number, position = _varint(model, position)
        elif wire_type == _BYTES:
            size, position = _varint(model, position)
            position += size
        elif wire_type in _FIXED_SIZES:
            position += _FIXED_SIZES[wire_type]
        else:
            raise IncompleteError(f"not an ONNX file: byte {position - 1} is no field of one")
        if position > len(model):
            raise IncompleteError(f"the file is cut off: {position} bytes are announced, {len(model)} came")
        yield field, number
    raise IncompleteError(f"not an ONNX file: it has {MAX_FIELDS} fields or more")


def _check(found: os.stat_result, max_bytes: int) -> None:
    if not stat.S_ISREG(found.st_mode):
        kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
        raise UnfitError(f"is {kinds.get(stat.S_IFMT(found.st_mode), 'a device')}, not a file")
    if found.st_size > max_bytes:
        raise UnfitError(f"has {found.st_size} bytes, the bound is {max_bytes}")


def _stamp(found: os.stat_result) -> str:
    # ctime is what no writer can set: it tells a file of the same size and mtime apart.
    return f"{found.st_dev}:{found.st_ino}:{found.st_size}:{found.st_mtime_ns}:{found.st_ctime_ns}"


def _told(path: Path, error: OSError) -> str:
    reasons = {
        # Path.is_symlink raises where it may not look.
        errno.ENOENT: "is a link to nothing" if os.path.islink(path) else "is not there",  # noqa: PTH114
        errno.ELOOP: "is a link that leads to itself",
        errno.EACCES: "may not be read: no permission",
    }
    return reasons.get(error.errno or 0, f"cannot be read: {error.strerror}")


def _varint(model: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position == len(model):
            raise IncompleteError(f"the file is cut off after {len(model)} bytes")
        byte = model[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (2**64 - 1), position
    raise IncompleteError(f"not an ONNX file: byte {position - 1} is no field of one")
