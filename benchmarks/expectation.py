"""What each version has to answer, and what is wrong with an answer."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

# Versions differ by 1000; float32 against the estimator's float64 by far less than this.
TOLERANCE: Final = 1e-2


@dataclass(frozen=True, slots=True, eq=False)
class Told:
    """What one answer says: the version and digest that it names, and its numbers, one a row."""

    version: int
    digest: str
    values: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """What is known of one version: the SHA-256 of each of its files, and the answers to `rows.ASKED`."""

    version: int
    digests: frozenset[str]
    answers: NDArray[np.float64]


class Expectation:
    """The versions that exist, of every model."""

    def __init__(self, known: Mapping[str, Iterable[Known]]) -> None:
        self._known = {
            model: {version.version: version for version in versions} for model, versions in known.items()
        }

    def fault(self, model: str, rows: NDArray[np.intp], told: Told) -> str:
        """Say what shows that the answer is not wholly of the version that it names; empty: it is."""
        known = self._known[model].get(told.version)
        if known is None:
            return f"{model}: names version {told.version}, which does not exist"
        if told.digest not in known.digests:
            return f"{model}: names version {told.version} with the digest {told.digest[:12]} of another"
        if told.values.shape != rows.shape:
            return f"{model}: {told.values.size} answers to {rows.size} rows"
        # Negated, for a comparison with NaN is false.
        wrong = ~(np.abs(told.values - known.answers[rows]) <= TOLERANCE)
        if np.any(wrong):
            first = int(np.argmax(wrong))
            return (
                f"{model}: names version {told.version}, answers {told.values[first]:g} to row {rows[first]}"
            )
        return ""

    def is_of(self, model: str, version: int, digest: str) -> bool:
        """Whether a file of this version has this digest."""
        known = self._known[model].get(version)
        return known is not None and digest in known.digests

    def write(self, path: Path) -> None:
        """Keep it for another process to `read`."""
        document = {
            model: [
                [known.version, sorted(known.digests), known.answers.tolist()] for known in versions.values()
            ]
            for model, versions in self._known.items()
        }
        path.write_text(json.dumps(document), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "Expectation":
        """Read it back."""
        document = json.loads(path.read_text(encoding="utf-8"))
        return cls(
            {
                model: [
                    Known(version, frozenset(digests), np.array(answers))
                    for version, digests, answers in versions
                ]
                for model, versions in document.items()
            }
        )
