"""Why an export is refused."""

from collections.abc import Sequence
from dataclasses import dataclass


class ExportError(ValueError):
    """What was given cannot be exported; the text says what, where and what was expected."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One row on which the converted model does not answer as the estimator does.

    `features` are (name, value) pairs; `expected` and `came` are the answers of one output; `error` is the
    largest absolute difference, 1.0 for a label.
    """

    origin: str
    output: str
    features: tuple[tuple[str, float], ...]
    expected: tuple[float | str, ...]
    came: tuple[float | str, ...]
    error: float

    def __str__(self) -> str:
        row = ", ".join(f"{name}={value:.9g}" for name, value in self.features)
        return (
            f"{self.origin} row ({row}): {self.output} is {_numbers(self.came)}, "
            f"the estimator answers {_numbers(self.expected)} (off by {self.error:.3g})"
        )


class ParityError(ExportError):
    """The converted model does not answer as the estimator does. No file was written.

    `differences` holds the worst rows, the worst first; `failed` and `checked` count all rows.
    """

    def __init__(self, differences: Sequence[Difference], failed: int, checked: int) -> None:
        self.differences = tuple(differences)
        self.failed = failed
        self.checked = checked
        lines = "\n".join(f"  {difference}" for difference in self.differences)
        super().__init__(
            f"the converted model differs from the estimator on {failed} of {checked} rows; "
            f"nothing was written. The worst:\n{lines}"
        )


def _numbers(values: Sequence[float | str]) -> str:
    texts = [value if isinstance(value, str) else f"{value:.9g}" for value in values]
    return texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
