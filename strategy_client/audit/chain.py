"""The chain of hashes through the lines of a log: what was removed, changed or reordered breaks it.

A line is a JSON object whose last member, `hash`, is the SHA-256 over the line before's 32 bytes of hash and
this line's own bytes up to that member. The first line of all begins from 32 zero bytes; the first of a
later segment from the last hash of the segment before.
"""

import hashlib
import re
from typing import Final

START: Final = bytes(32)
_MEMBER: Final = b',"hash":"'
_END: Final = b'"}\n'
_TAIL_BYTES: Final = len(_MEMBER) + 64 + len(_END)
_TAIL: Final = re.compile(re.escape(_MEMBER) + rb"([0-9a-f]{64})" + re.escape(_END))


def link(before: bytes, body: bytes) -> tuple[bytes, bytes]:
    """Return the hash of a line, and the line; `body` is a JSON object without its closing brace."""
    digest = hashlib.sha256(before + body)
    return digest.digest(), b"%b%b%b%b" % (body, _MEMBER, digest.hexdigest().encode(), _END)


def split(line: bytes) -> tuple[bytes, bytes] | None:
    """Return a line's body and the hash that it states; None for what is no whole line."""
    tail = _TAIL.fullmatch(line, max(len(line) - _TAIL_BYTES, 0))
    if tail is None:
        return None
    return line[:-_TAIL_BYTES], bytes.fromhex(tail[1].decode())


def hash_of(before: bytes, body: bytes) -> bytes:
    """Return the hash that a line with this body must state."""
    return hashlib.sha256(before + body).digest()
