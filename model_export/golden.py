"""The golden rows: which of the rows that were tried travel in the file.

Some are taken evenly from the rows of each origin. The others are chosen by the leaves of the trees inside,
as a tree that is wrong may be so in one region only: each next row is the one that reaches the most among the
leaves that no row before has reached, a leaf counting as many times as it has rows.
"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model_export.ensembles import find_ensembles
from model_export.reference import by_position

# At most so many rows of each origin, 256 together, and so many more for the leaves.
EVENLY: Final[Mapping[str, int]] = {"sample": 96, "threshold": 96, "extreme": 32, "NaN": 32}
FOR_LEAVES: Final = 256
# Those are looked for among so many rows.
CANDIDATES: Final = 4096


def choose_rows(
    estimator: Any, rows: NDArray[np.float32], origins: NDArray[np.object_], decided: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Return the numbers of the golden rows, ascending; only of rows that are `decided`.

    `rows` has shape (rows, n_features); `origins` says where each comes from, a key of `EVENLY`.
    """
    evenly = [
        _thinned(np.flatnonzero((origins == origin) & decided), most) for origin, most in EVENLY.items()
    ]
    chosen = np.concatenate(evenly)
    for_leaves = _reaching_leaves(estimator, rows, chosen, np.flatnonzero(decided))
    return np.unique(np.concatenate([chosen, for_leaves]))


def _reaching_leaves(
    estimator: Any, rows: NDArray[np.float32], chosen: NDArray[np.int64], decided: NDArray[np.int64]
) -> NDArray[np.int64]:
    candidates = np.unique(np.concatenate([chosen, _thinned(decided, CANDIDATES)]))
    reached = _leaves(estimator, rows[candidates])
    worth = np.bincount(reached.ravel())
    worth[reached[np.isin(candidates, chosen)]] = 0
    found: list[int] = []
    while len(found) < FOR_LEAVES:
        gains = worth[reached].sum(axis=1)
        best = int(gains.argmax())
        if gains[best] == 0:
            break
        worth[reached[best]] = 0
        found.append(best)
    return candidates[found]


def _leaves(estimator: Any, rows: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return a number for each leaf that a row reaches, unlike for each leaf; shape (rows, trees)."""
    columns, first = [np.empty((len(rows), 0), dtype=np.int64)], 0
    for view, ensemble in find_ensembles(estimator):
        with by_position():
            seen = np.asarray(view(rows.astype(np.float64))).astype(ensemble.compares)
        for tree in ensemble.trees:
            columns.append(first + tree.leaves(seen)[:, None])
            first += len(tree.leaf)
    return np.concatenate(columns, axis=1)


def _thinned(numbers: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    if len(numbers) <= most:
        return numbers
    return numbers[np.linspace(0, len(numbers) - 1, most).astype(np.int64)]
