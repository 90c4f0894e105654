"""Where the commands print: what was asked for, and in one line why it could not be done."""

import sys
from typing import Final

import typer
from rich.console import Console

PIPED_WIDTH: Final = 200

# A service may be started without any stdout.
IS_TERMINAL: Final = bool(sys.stdout and sys.stdout.isatty())

# Piped output has no width to fit in. Names and reasons are not ours: what looks like markup in them is text.
out = Console(width=None if IS_TERMINAL else PIPED_WIDTH, highlight=False, markup=False, emoji=False)
err = Console(stderr=True, highlight=False, markup=False, emoji=False)


def ending(reason: object, *, code: int) -> typer.Exit:
    """Print the reason, and return the exception that ends the command: 1 is the world, 2 is wrong usage."""
    err.print(f"inference-server: {reason}", soft_wrap=True)
    return typer.Exit(code)
