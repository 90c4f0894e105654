"""The lines of a text file, by number."""

from collections.abc import Iterator
from typing import Final, TextIO

from strategy_client.sources.bad_line import FieldError

MAX_CHARACTERS: Final = 1_048_576


def numbered_lines(text: TextIO) -> Iterator[tuple[int, str]]:
    """Yield each line without its end, behind its number, from 1; one that is too long is cut off."""
    number = 0
    while line := text.readline(MAX_CHARACTERS + 1):
        number += 1
        yield number, line.rstrip("\r\n")
        while len(line) > MAX_CHARACTERS and not line.endswith(("\n", "\r")):
            line = text.readline(MAX_CHARACTERS + 1)


def check_length(line: str) -> None:
    """Raise FieldError for a line that was cut off."""
    if len(line) > MAX_CHARACTERS:
        raise FieldError("line", f"at most {MAX_CHARACTERS:,} characters", line)
