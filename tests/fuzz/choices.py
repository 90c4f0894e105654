"""Bytes read as choices, so that whatever makes bytes (a fuzzer, Hypothesis, a file) makes a case."""

from collections.abc import Sequence
from typing import TypeVar

Chosen = TypeVar("Chosen")


class Choices:
    """Choices until the bytes are used up; from there on the first of what can be chosen."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._raw)

    def byte(self) -> int:
        """Return a number from 0 to 255."""
        taken = self.take(1)
        return taken[0] if taken else 0

    def below(self, bound: int) -> int:
        """Return a number from 0 up to, not with, the bound, which may be large."""
        if bound <= 256:
            return self.byte() % max(bound, 1)
        return int.from_bytes(self.take((bound.bit_length() + 7) // 8), "big") % bound

    def one(self, of: Sequence[Chosen]) -> Chosen:
        """Return one of these."""
        return of[self.below(len(of))]

    def flag(self) -> bool:
        """Return true or false."""
        return bool(self.byte() & 1)

    def take(self, count: int) -> bytes:
        """Return the next bytes as they are; fewer at the end."""
        taken = self._raw[self._at : self._at + count]
        self._at += count
        return taken

    def some(self, most: int) -> bytes:
        """Return up to so many bytes as they are."""
        return self.take(self.below(most + 1))

    def cut(self, whole: bytes) -> list[bytes]:
        """Return the same bytes in up to eight pieces."""
        pieces = []
        for _ in range(self.below(8)):
            at = self.below(len(whole) + 1)
            pieces.append(whole[:at])
            whole = whole[at:]
        return [piece for piece in (*pieces, whole) if piece]
