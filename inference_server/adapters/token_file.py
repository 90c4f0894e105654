"""Files of bearer tokens: one a line, several while they are exchanged."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from inference_server.adapters.renewal import Renewal, RenewalError, warn_where_others_can_read

MIN_CHARACTERS: Final = 32
MAX_CHARACTERS: Final = 512
MAX_TOKENS: Final = 16
TOKEN: Final = re.compile(rb"[A-Za-z0-9._~+/-]+=*")

Digests = frozenset[bytes]


@dataclass(frozen=True, slots=True)
class TokenOptions:
    """The files of tokens, by what they open; what has none is open to every caller.

    A token of `control` opens what one of `predict` does as well.
    """

    predict: Path | None = None
    control: Path | None = None

    def __post_init__(self) -> None:
        if self.predict and not self.control:
            raise ValueError(
                "expected tokens for control beside those for predict, else it is open to everyone"
            )


def watch_tokens(file: Path) -> Renewal[Digests]:
    """Read the file, or raise RenewalError where it holds no token or something else.

    The value are the SHA-256 digests of the tokens: they themselves are kept nowhere. Empty lines and those
    that begin with # say nothing.
    """

    def parse(contents: Sequence[bytes], before: Digests | None) -> Digests:
        del before
        return _digests(file, contents[0])

    renewal = Renewal("tokens", [file], parse)
    warn_where_others_can_read("tokens", file)
    return renewal


def digest(token: bytes) -> bytes:
    """Return what is kept of a token."""
    return hashlib.sha256(token).digest()


def _digests(file: Path, content: bytes) -> Digests:
    digests = set()
    for number, line in enumerate(content.splitlines(), 1):
        token = line.strip()
        if not token or token.startswith(b"#"):
            continue
        # The text of the file is a secret: what came is not told.
        if not MIN_CHARACTERS <= len(token) <= MAX_CHARACTERS or not TOKEN.fullmatch(token):
            raise RenewalError(
                f"{file}: line {number}: expected a token of {MIN_CHARACTERS} to {MAX_CHARACTERS} "
                "characters of A-Z a-z 0-9 . _ ~ + / - and = at its end"
            )
        digests.add(digest(token))
    if not 1 <= len(digests) <= MAX_TOKENS:
        raise RenewalError(f"{file}: expected 1 to {MAX_TOKENS} tokens, one a line, there are {len(digests)}")
    return frozenset(digests)
