"""The command line of a start that needs nothing read but its flags: `serve` with values given once each.

Such a start is read here, without the libraries that read all others, for they take as long to import as a
good part of the rest. What is the least uncommon, a file, a variable, an option that is not known, help, a
value that may be an option, is left to them, and so is the text of every error: this only says yes or no.
"""

from collections.abc import Mapping, Sequence
from typing import Final

ONCE: Final = ("models", "http", "transport", "control", "state", "log-level")
REPEATED: Final = ("listen", "allow-contract-change")
SWITCHES: Final = ("allow-remote-plaintext",)
VARIABLES: Final = "TICKSERVE_"
COMPLETION: Final = "_COMPLETE"  # by a variable that ends so a shell asks for what comes next

Said = Mapping[str, Sequence[str]]


def read_plain(arguments: Sequence[str], environ: Mapping[str, str]) -> Said | None:
    """Return the values by flag, in order; None where it takes more than this to know what is meant."""
    if arguments[:1] != ["serve"] or any(_speaks(name) for name in environ):
        return None
    said: dict[str, list[str]] = {}
    rest = iter(arguments[1:])
    for argument in rest:
        flag, given, value = argument.removeprefix("--").partition("=")
        if not argument.startswith("--") or (flag in said and flag not in REPEATED):
            return None
        if flag in SWITCHES and not given:
            said[flag] = []
            continue
        if flag not in (*ONCE, *REPEATED):
            return None
        value = value if given else next(rest, "")
        if not value or value.startswith("-"):
            return None
        said.setdefault(flag, []).append(value)
    return said


def _speaks(name: str) -> bool:
    return name.startswith(VARIABLES) or name.endswith(COMPLETION)
