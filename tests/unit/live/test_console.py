"""Lines for a person, on a terminal of 80 columns and in a pipe."""

import io

import pytest
from rich.console import Console

from strategy_client.commands.console import counted, tell

PATH = "/home/somebody/" + "folder/" * 12 + "estimator.py:12"


@pytest.mark.parametrize(
    ("count", "told"),
    [(0, "0 strategies"), (1, "1 strategy"), (2, "2 strategies"), (1_000, "1,000 strategies")],
)
def test_one_is_one(count: int, told: str) -> None:
    """A single thing is told as one, whatever its plural."""
    assert counted(count, "strategy", "strategies") == told
    assert counted(count, "tick") == told.replace("strategies", "ticks").replace("strategy", "tick")


def printed(text: str, *, terminal: bool) -> list[str]:
    """Return the lines that a console of 80 columns writes."""
    file = io.StringIO()
    tell(Console(file=file, width=80, force_terminal=terminal, color_system=None), text)
    return file.getvalue().splitlines()


def test_a_terminal_breaks_between_words_and_never_a_path() -> None:
    """On a terminal no word is broken, and what is longer than a line stands whole, to be copied."""
    words = "nothing differs but not everything could be verified " * 3
    lines = printed(f"{words}{PATH} and more", terminal=True)
    assert " ".join(lines) == f"{words}{PATH} and more"
    assert PATH in lines
    assert all(len(line) <= 80 for line in lines if line != PATH)
    assert printed(f"{words}{PATH} and more", terminal=False) == [f"{words}{PATH} and more"]
