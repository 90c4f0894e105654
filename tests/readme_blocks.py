"""The code blocks of README.md and of the pages in docs."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def readme_block(name: str) -> str:
    """The README's block whose first line is a comment with this file's name, without that line."""
    return page_block(ROOT / "README.md", name)


def page_block(page: Path, name: str) -> str:
    """The block of a page whose first line is a comment with this file's name, without that line."""
    found = re.search(rf"```\w+\n# {re.escape(name)}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    assert found, f"{page.name} has no block {name}"
    return found[1]
