"""A manifest: a file's SHA-256 beside it, as `sha256sum` writes it: tells a whole transfer from another.

`momentum.onnx.sha256` lies beside `momentum.onnx`, `model.onnx.sha256` beside `model.onnx`. The first word of
its first line is the digest, 64 hex digits of either case; the file's name behind it is not looked at.
"""

import re
from pathlib import Path
from typing import Final

from inference_server.adapters.model_file import IncompleteError, UnfitError, is_there, read_file, stamp_of

SUFFIX: Final = ".sha256"
# Only the first line counts; what is larger than this is something else.
MAX_BYTES: Final = 65_536
DIGEST: Final = re.compile(rb"[0-9A-Fa-f]{64}")
DIGEST_SHOWN: Final = 12


def manifest_stamp(file: Path) -> str:
    """Return a text that changes whenever the file's manifest does, empty where it has none.

    UnfitError where something is there that is no file.
    """
    path = _path(file)
    if not is_there(path):
        return ""
    try:
        return stamp_of(path, MAX_BYTES)
    except UnfitError as error:
        raise UnfitError(f"the manifest {error}") from None


def check_manifest(file: Path, digest: str) -> None:
    """Refuse bytes of this SHA-256 where the file has a manifest that does not vouch for them.

    UnfitError where it cannot be read, and of it IncompleteError where it holds no digest or another one.
    """
    path = _path(file)
    if not is_there(path):
        return
    try:
        content, _ = read_file(path, MAX_BYTES)
    except UnfitError as error:
        raise type(error)(f"the manifest {error}") from None
    first = content.partition(b"\n")[0].split()
    if not first or not DIGEST.fullmatch(first[0]):
        raise IncompleteError(
            "the manifest holds no digest: expected 64 hex digits at its start, as sha256sum writes them"
        )
    expected = first[0].decode().lower()
    if expected != digest:
        raise IncompleteError(
            f"the manifest says {expected[:DIGEST_SHOWN]}…, the file is {digest[:DIGEST_SHOWN]}…"
        )


def _path(file: Path) -> Path:
    return file.with_name(file.name + SUFFIX)
