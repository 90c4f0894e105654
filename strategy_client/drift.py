"""How often what a model is asked lies outside of what it was trained on."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class DriftCounts:
    """Of one strategy: the rows that were compared with the training range, and the features outside of it.

    `below` and `above` have a number for each of the `features` that was ever outside.
    """

    features: tuple[str, ...]
    rows: int = 0
    below: Counter[str] = field(default_factory=Counter)
    above: Counter[str] = field(default_factory=Counter)

    def count(self, outside: Sequence[tuple[int, bool]]) -> None:
        """Count the features of one row that were outside: their places, and whether above."""
        for place, above in outside:
            (self.above if above else self.below)[self.features[place]] += 1
