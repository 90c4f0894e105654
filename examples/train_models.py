"""Train the sample models on real ticks and export them; prints the account that models/README.md gives.

Label: whether the next change of the traded price is up. Every tick has one, the last ones apart. Split by
time, with the ticks between training and report left out, so that no label looks across.

    python examples/train_models.py [TICKS.csv]          # or: make models
"""

import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from model_export import export_model
from strategy_client.features import FeatureSet

ROOT: Final = Path(__file__).resolve().parent.parent
EXCHANGE: Final = ZoneInfo("America/Chicago")
REPORT_FROM: Final = 300_000
GAP: Final = 5_000
MEANINGS: Final = {0: "SELL", 1: "BUY"}
# The processor's confidence threshold in examples/strategies.yaml.
CONFIDENT: Final = 0.6


@dataclass(frozen=True, slots=True)
class Recipe:
    """One model: what it is called, what it sees, how it learns and until which tick."""

    name: str
    version: int
    features: tuple[str, ...]
    estimator: Any
    train_until: int
    folder: Path


def forest() -> RandomForestClassifier:
    """Return a small forest; its leaves are large because ticks that follow one another are alike."""
    return RandomForestClassifier(n_estimators=20, max_depth=6, min_samples_leaf=200, random_state=1)


RECIPES: Final = (
    Recipe(
        "es_momentum",
        1,
        ("return_50", "momentum_5", "volatility_50"),
        forest(),
        200_000,
        ROOT / "models",
    ),
    Recipe(
        "es_momentum",
        2,
        ("return_50", "momentum_5", "volatility_50"),
        forest(),
        REPORT_FROM - GAP,
        ROOT / "examples" / "next",
    ),
    Recipe(
        "es_reversion",
        1,
        ("zscore_50", "zscore_20", "volatility_50"),
        make_pipeline(StandardScaler(), LogisticRegression()),
        REPORT_FROM - GAP,
        ROOT / "models",
    ),
)


def read_ticks(path: Path) -> tuple[NDArray[np.float64], list[str]]:
    """Return prices, float64, shape (n,), and the times as they stand in the file."""
    lines = path.read_text(encoding="ascii").splitlines()[1:]
    rows = [line.split(",") for line in lines]
    return np.array([float(row[1]) for row in rows]), [row[0] for row in rows]


def next_change_is_up(prices: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 1 where the next change of the price is up, 0 where it is down, NaN where there is none."""
    changes = np.diff(prices)
    places = np.flatnonzero(changes)
    following = np.searchsorted(places, np.arange(len(prices)))
    label = np.full(len(prices), np.nan)
    known = following < len(places)
    label[known] = changes[places[following[known]]] > 0
    return label


def train(recipe: Recipe, prices: NDArray[np.float64], times: list[str], label: NDArray[np.float64]) -> None:
    """Fit, report on the later ticks, and export."""
    features = FeatureSet(recipe.features)
    rows = features.matrix(prices)
    train_rows = slice(features.first_valid_row, recipe.train_until)
    report_rows = slice(REPORT_FROM, int(np.flatnonzero(np.isfinite(label))[-1]) + 1)
    recipe.estimator.fit(rows[train_rows], label[train_rows].astype(np.int64))

    up = label[report_rows].astype(np.int64)
    probability = recipe.estimator.predict_proba(rows[report_rows])
    right = probability.argmax(axis=1) == up
    confident = probability.max(axis=1) > CONFIDENT
    print(
        f"{recipe.name} {recipe.version}: trained on ticks {train_rows.start}-{train_rows.stop}, "
        f"reported on {report_rows.start}-{report_rows.stop}: accuracy {right.mean():.4f}, "
        f"base rate {max(up.mean(), 1 - up.mean()):.4f}, confident on {confident.mean():.3f} of the ticks, "
        f"accuracy there {right[confident].mean():.4f}"
    )
    trained_at = datetime.fromisoformat(times[recipe.train_until]).replace(tzinfo=EXCHANGE)
    report = export_model(
        recipe.estimator,
        name=recipe.name,
        models=recipe.folder,
        samples=rows[train_rows],
        feature_names=recipe.features,
        version=recipe.version,
        window=features.window,
        meanings=MEANINGS,
        trained_at=trained_at,
    )
    print(f"  {report.path.relative_to(ROOT)} {report.digest}")


def main() -> None:
    """Train every recipe."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / ".cache" / "es_ticks.csv"
    prices, times = read_ticks(path)
    label = next_change_is_up(prices)
    # Sums are rounded otherwise by another number of threads, and so would the files be.
    with threadpool_limits(1):
        for recipe in RECIPES:
            train(recipe, prices, times, label)


if __name__ == "__main__":
    main()
