"""Versions of one model that can be told apart by their answers: forests shifted by their version number."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from expectation import Expectation, Known
from numpy.typing import NDArray
from onnx import ModelProto
from rows import ASKED, FEATURES
from sklearn.ensemble import RandomForestRegressor

from model_export import export_model

TRAINING_ROWS: Final = 2_000


@dataclass(frozen=True, slots=True, eq=False)
class Release:
    """One file of a version: its bytes and their SHA-256."""

    version: int
    content: bytes
    digest: str


@dataclass(frozen=True, slots=True, eq=False)
class Forest:
    """One version: its exported file, and what the fitted estimator answers to `ASKED`."""

    version: int
    exported: bytes
    answers: NDArray[np.float64]

    def release(self, number: int) -> Release:
        """Return a file of its own for each number: the same model under another remark.

        A sidecar does not vet again what it vetted before, so only a file that it never saw shows what a swap
        costs.
        """
        content = self.exported + _remark(number)
        return Release(self.version, content, hashlib.sha256(content).hexdigest())

    def digests(self, releases: int) -> frozenset[str]:
        """Return the digests of the releases from 0 on, without making them."""
        begun = hashlib.sha256(self.exported)
        digests = []
        for number in range(releases):
            digest = begun.copy()
            digest.update(_remark(number))
            digests.append(digest.hexdigest())
        return frozenset(digests)


def _remark(number: int) -> bytes:
    # Fields of a protobuf message may follow in any order, and what is appended is merged in.
    return ModelProto(doc_string=f"release {number}").SerializeToString()


def make_forests(folder: Path, name: str, *, trees: int, versions: int) -> list[Forest]:
    """Fit and export `versions` forests; version v answers about 1000 v."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(TRAINING_ROWS, len(FEATURES))).astype(np.float32)
    made = []
    for version in range(1, versions + 1):
        target = rows.sum(axis=1) + 1000 * version
        estimator = RandomForestRegressor(trees, max_depth=6, random_state=version, n_jobs=1)
        estimator.fit(rows, target)
        report = export_model(
            estimator,
            name=name,
            models=folder,
            samples=rows[:500],
            feature_names=FEATURES,
            version=version,
        )
        answers = estimator.predict(ASKED)
        made.append(Forest(version, report.path.read_bytes(), answers))
    return made


def expectation_of(forests: Mapping[str, list[Forest]], releases: int) -> Expectation:
    """Return what each version of each model has to answer, under the digests of so many releases."""
    return Expectation(
        {
            model: [Known(forest.version, forest.digests(releases), forest.answers) for forest in versions]
            for model, versions in forests.items()
        }
    )


def put(path: Path, content: bytes) -> None:
    """Put a file in place whole: written beside, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content)
    part.replace(path)
