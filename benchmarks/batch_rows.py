"""How many rows of a batch a model answers otherwise, in some bit, than the same rows alone.

    python benchmarks/batch_rows.py [--rows N]

Each estimator is fitted to drawn numbers and converted twice: by model_export, and by skl2onnx alone. Both
run as the sidecar runs them. A replay in windows is exact whatever comes out: it asks each row alone.
"""

import argparse
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from skl2onnx import to_onnx
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier

from inference_server.adapters.onnx_session import OnnxSession
from model_export import export_model

TRAIN_ROWS: Final = 1_000
BATCHES: Final = (2, 3, 7, 64, 250, 1_000)
FEATURES: Final = (5, 40)
ESTIMATORS: Final[Mapping[str, tuple[Callable[[], Any], str]]] = {
    "LogisticRegression, 2 classes": (LogisticRegression, "two"),
    "LogisticRegression, 3 classes": (LogisticRegression, "three"),
    "LinearRegression": (LinearRegression, "value"),
    "Ridge": (Ridge, "value"),
    "GaussianNB": (GaussianNB, "three"),
    "MLPClassifier": (lambda: MLPClassifier((16,), max_iter=20, random_state=0), "two"),
    "RandomForestClassifier": (lambda: RandomForestClassifier(100, max_depth=5, random_state=0), "three"),
    "GradientBoostingClassifier": (lambda: GradientBoostingClassifier(n_estimators=30), "three"),
}


def differing(content: bytes, rows: np.ndarray) -> float:
    """Return the part of the rows that some size of batch answers otherwise than the row alone."""
    session = OnnxSession(content)
    (given,) = session.inputs
    names = [output.name for output in session.outputs]

    def answers(batch: int) -> list[np.ndarray]:
        parts = [session.run({given.name: rows[at : at + batch]}, names) for at in range(0, len(rows), batch)]
        return [np.concatenate(column).reshape(len(rows), -1) for column in zip(*parts, strict=True)]

    alone = answers(1)
    differs = np.zeros(len(rows), dtype=np.bool_)
    for batch in BATCHES:
        for ours, theirs in zip(alone, answers(batch), strict=True):
            differs |= (ours != theirs).any(axis=1)
    return float(differs.mean())


def exported(estimator: Any, samples: np.ndarray) -> bytes:
    """Convert by model_export."""
    with tempfile.TemporaryDirectory() as folder:
        names = [f"feature_{number}" for number in range(samples.shape[1])]
        report = export_model(estimator, name="m", models=Path(folder), samples=samples, feature_names=names)
        return report.path.read_bytes()


def converted(estimator: Any, samples: np.ndarray) -> bytes:
    """Convert by skl2onnx alone."""
    options = {id(estimator): {"zipmap": False}} if hasattr(estimator, "predict_proba") else None
    content: bytes = to_onnx(
        estimator, samples[:1].astype(np.float32), options=options, target_opset=17
    ).SerializeToString()
    return content


def main() -> None:
    """Measure, and print a line an estimator."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000)
    count = parser.parse_args().rows
    warnings.simplefilter("ignore")
    for features in FEATURES:
        random = np.random.default_rng(0)
        rows = random.normal(size=(count, features)).astype(np.float32)
        score = rows @ random.normal(size=features)
        targets = {"two": score > 0, "three": np.digitize(score, [-1, 1]), "value": score}
        samples = rows[:TRAIN_ROWS].astype(np.float64)
        for name, (make, kind) in ESTIMATORS.items():
            target = targets[kind][:TRAIN_ROWS]
            estimator = make().fit(samples, target.astype(int) if kind == "two" else target)
            ours, theirs = (differing(convert(estimator, samples), rows) for convert in (exported, converted))
            print(
                f"{name}, {features} features: model_export {ours:.0%}, skl2onnx alone {theirs:.0%}",
                flush=True,
            )


if __name__ == "__main__":
    main()
