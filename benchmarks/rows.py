"""The rows that the benchmarks' clients ask, apart from what trains on others: clients import little."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

FEATURES: Final = ("a", "b", "c", "d")
# float32, shape (rows, n_features).
ASKED: Final = np.random.default_rng(1).normal(size=(16, len(FEATURES))).astype(np.float32)
# Several, so that an answer put together from two versions shows.
ROWS_A_CALL: Final = 4


def rows_of(number: int) -> NDArray[np.intp]:
    """Return which of `ASKED` the call of this number asks."""
    return (number + np.arange(ROWS_A_CALL)) % len(ASKED)
