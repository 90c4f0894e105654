"""The rows that the benchmarks' clients ask, apart from what trains on others: clients import little."""

from typing import Final

import numpy as np

FEATURES: Final = ("a", "b", "c", "d")
# float32, shape (rows, n_features).
ASKED: Final = np.random.default_rng(1).normal(size=(16, len(FEATURES))).astype(np.float32)
