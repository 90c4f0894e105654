"""Many small models for measurements: forests on the features of `make run`, each with its own bytes."""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import onnx
from sklearn.ensemble import RandomForestClassifier

from inference_server.core.contract import METADATA_KEY, Contract
from model_export import export_model
from strategy_client.features import FeatureSet

FEATURES: Final = ("return_50", "momentum_5", "volatility_50")
WINDOW: Final = 50
TRAINING_TICKS: Final = 6_000
TREES: Final = 20


def random_walk(count: int, seed: int) -> list[float]:
    """Return prices of a random walk in steps of a quarter."""
    steps = np.random.default_rng(seed).normal(0, 2e-4, count)
    prices: list[float] = (np.round(1640 * np.exp(np.cumsum(steps)) * 4) / 4).tolist()
    return prices


def fit(seed: int) -> tuple[RandomForestClassifier, np.ndarray]:
    """Return a fitted forest and the rows that it was fitted on."""
    features = FeatureSet(FEATURES)
    rows = features.matrix(np.array(random_walk(TRAINING_TICKS, 3)))[features.first_valid_row :]
    target = (np.roll(rows[:, 1], -3) > 0).astype(int)
    forest = RandomForestClassifier(n_estimators=TREES, max_depth=6, min_samples_leaf=50, random_state=seed)
    return forest.fit(rows, target), rows


def make_models(folder: Path, names: list[str]) -> None:
    """Export a model of its own under each name."""
    for seed, name in enumerate(names):
        forest, rows = fit(seed)
        export_model(
            forest,
            name=name,
            models=folder,
            samples=rows[:500],
            feature_names=FEATURES,
            window=WINDOW,
            meanings={0: "SELL", 1: "BUY"},
        )


def make_copies(folder: Path, names: Sequence[str]) -> None:
    """Write one model under many names: each file names its own model, so that no two have the same bytes."""
    with tempfile.TemporaryDirectory() as first:
        make_models(Path(first), ["first"])
        parsed = onnx.load_model(f"{first}/first.onnx")
    [entry] = [entry for entry in parsed.metadata_props if entry.key == METADATA_KEY]
    contract = Contract.from_json(entry.value)
    for name in names:
        entry.value = replace(contract, model=name).to_json()
        (folder / f"{name}.onnx").write_bytes(parsed.SerializeToString())
