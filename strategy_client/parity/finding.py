"""What a comparison found."""

from dataclasses import dataclass
from typing import Final

EQUAL: Final = "equal"


@dataclass(frozen=True, slots=True)
class Finding:
    """One comparison: `what` was compared of `subject`, over `rows`.

    `worst` is the largest difference, relative for features, absolute for answers. `difference` names the
    first row that differs and is empty where none does; `skipped` says why nothing was compared, and
    `unproved` that it was to be.
    """

    subject: str
    what: str
    rows: int = 0
    worst: float = 0.0
    difference: str = ""
    skipped: str = ""
    unproved: bool = False

    @property
    def result(self) -> str:
        """What a person reads: equal, the difference, or why it was not compared."""
        if self.skipped:
            return f"not compared: {self.skipped}"
        return self.difference or EQUAL
