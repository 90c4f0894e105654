"""Lines that hold no tick: counted, the first ones kept, none raised unless asked."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MAX_KEPT: Final = 20
MAX_SHOWN: Final = 80


class FieldError(ValueError):
    """One value of a record cannot be used."""

    def __init__(self, field: str, expected: str, came: object) -> None:
        super().__init__(f"{field}: expected {expected}, came {shortened(came)}")
        self.field = field
        self.expected = expected
        self.came = shortened(came)


class BadFileError(Exception):
    """A file that no tick can be read from; the text names the file, the place and what was expected."""


@dataclass(frozen=True, slots=True)
class BadLine:
    """Where a line is wrong and how. `line` counts from 1; in a Parquet file it is the row.

    Of a message, `path` is the topic or stream on its bus and `line` the position in it.
    """

    path: Path
    line: int | str
    field: str
    expected: str
    came: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.field}: expected {self.expected}, came {self.came}"


class BadLineError(Exception):
    """A bad line where none is allowed."""

    def __init__(self, line: BadLine) -> None:
        super().__init__(str(line))


class BadLines:
    """The bad lines of a run. `strict` stops at the first one, with BadLineError."""

    def __init__(self, *, strict: bool = False) -> None:
        self._strict = strict
        self._kept: list[BadLine] = []
        self.count = 0

    @property
    def first(self) -> Sequence[BadLine]:
        """The first ones, at most twenty."""
        return tuple(self._kept)

    def add(self, path: Path, line: int | str, error: FieldError) -> None:
        """Take note of a line that cannot be used."""
        bad = BadLine(path, line, error.field, error.expected, error.came)
        if self._strict:
            raise BadLineError(bad)
        self.count += 1
        if len(self._kept) < MAX_KEPT:
            self._kept.append(bad)


def shortened(value: object) -> str:
    """Return a value as a person can read it: what a terminal could act on escaped, the end cut off."""
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."
