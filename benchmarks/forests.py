"""Versions of one model that can be told apart by their answers: forests shifted by their version number."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from expectation import Expectation, Known
from numpy.typing import NDArray
from rows import ASKED, FEATURES
from sklearn.ensemble import RandomForestRegressor

from model_export import export_model

TRAINING_ROWS: Final = 2_000


@dataclass(frozen=True, slots=True, eq=False)
class Forest:
    """One version: its file's bytes and SHA-256, and what the fitted estimator answers to `ASKED`."""

    version: int
    content: bytes
    digest: str
    answers: NDArray[np.float64]


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
        made.append(Forest(version, report.path.read_bytes(), report.digest, answers))
    return made


def expectation_of(forests: dict[str, list[Forest]]) -> Expectation:
    """Return what each version of each model has to answer."""
    return Expectation(
        {
            model: [Known(forest.version, forest.digest, forest.answers) for forest in versions]
            for model, versions in forests.items()
        }
    )


def put(path: Path, content: bytes) -> None:
    """Put a file in place whole: written beside, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content)
    part.replace(path)
