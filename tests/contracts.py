"""A small contract for tests: two features, two classes, three golden rows."""

from typing import Any

import numpy as np

from inference_server.core.contract import Contract, FeatureRange, NanPolicy, OutputKind, OutputMeaning
from inference_server.core.golden import GoldenOutput, GoldenVectors


def make_contract(**changes: Any) -> Contract:
    """Return the contract with some of its fields changed."""
    fields: dict[str, Any] = {
        "model": "momentum",
        "version": 3,
        "feature_names": ("a", "b"),
        "window": 20,
        "includes_current_tick": True,
        "nan_policy": NanPolicy.REFUSE,
        "outputs": (
            OutputMeaning("label", OutputKind.LABEL, ("0", "1"), ("SELL", "BUY")),
            OutputMeaning("probabilities", OutputKind.PROBABILITIES, ("0", "1"), ("SELL", "BUY")),
        ),
        "training_ranges": (FeatureRange(-1.0, 1.0), FeatureRange(0.0, 2.5)),
        "golden": GoldenVectors(
            inputs=np.array([[0, 1], [0.5, 2], [-1, 0]], dtype=np.float32),
            outputs=(
                GoldenOutput("label", np.array([1, 1, 0], dtype=np.int64), atol=0.0, rtol=0.0),
                GoldenOutput(
                    "probabilities",
                    np.array([[0.25, 0.75], [0.125, 0.875], [0.5625, 0.4375]], dtype=np.float32),
                    atol=1e-6,
                    rtol=0.0,
                ),
            ),
        ),
        "estimator": "LogisticRegression()",
        "libraries": (("numpy", "2.4.6"), ("scikit-learn", "1.9.1")),
        "trained_at_ns": 1_378_000_000_000_000_000,
    }
    return Contract(**(fields | changes))
