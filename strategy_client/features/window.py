"""Folds over a sliding window, without subtraction: nothing drifts, no departed value leaves a trace.

The values fall into blocks of the window's length n. A window that ends inside a block is a tail of the
block before, folded backwards once when that block was complete, joined to the head of this block, folded
forwards a value at a time (van Herk 1992; Gil and Werman 1993). So a value is O(1) amortised: each n-th
one costs O(n), the others a few operations.

Each fold has two forms, for one value at a time and for a whole array. Both do the same IEEE operations in
the same order, so they agree bit for bit, over any length of run.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
# What is beyond a float is infinite, or no number, as it is where values come one at a time, without a word.
BEYOND_FLOATS: Final[Mapping[str, Any]] = {"over": "ignore", "invalid": "ignore"}


class SlidingFold:
    """Sum, maximum or minimum of the last `length` values; `join` is associative and commutative."""

    __slots__ = ("_block", "_head", "_join", "_length", "_tails")

    def __init__(self, length: int, join: Callable[[float, float], float]) -> None:
        self._length = length
        self._join = join
        self._block: list[float] = []
        self._head = math.nan
        self._tails: list[float] = []

    def push(self, value: float) -> None:
        """Take the next value."""
        block = self._block
        if len(block) == self._length:
            self._tails = list(accumulate(reversed(block), self._join))
            block.clear()
        self._head = self._join(self._head, value) if block else value
        block.append(value)

    def value(self) -> float:
        """Return the fold of the window, NaN before it is full."""
        missing = self._length - len(self._block)
        if not missing:
            return self._head
        if not self._tails:
            return math.nan
        return self._join(self._tails[missing - 1], self._head)


def sliding_fold(values: Floats, length: int, join: np.ufunc) -> Floats:
    """Return the fold of each window, shape (n,): entry i is over the `length` values up to i, else NaN."""
    blocks = _blocks(values, length)
    with np.errstate(**BEYOND_FLOATS):
        heads = join.accumulate(blocks, axis=0)
        tails = join.accumulate(blocks[::-1], axis=0)[::-1]
        folded = np.full_like(heads, np.nan)
        folded[-1] = heads[-1]
        folded[:-1, 1:] = join(tails[1:, :-1], heads[:-1, 1:])
    return _series(folded, len(values))


class SlidingMoments:
    """Mean and standard deviation of the last `length` values, at least 2.

    Values are added by Welford's recurrence and the two parts joined by the formula of Chan, Golub and
    LeVeque (1979), each as differences from a value of its own that is in every window it takes part in:
    a head's first, a tail's last. So no digits are lost to the level of the values, and the deviation of
    equal values is exactly 0.
    """

    __slots__ = (
        "_block",
        "_head_mean",
        "_head_reference",
        "_head_spread",
        "_length",
        "_tail_means",
        "_tail_reference",
        "_tail_spreads",
        "_weights",
    )

    def __init__(self, length: int) -> None:
        self._length = length
        self._block: list[float] = []
        self._head_reference = math.nan
        self._head_mean = math.nan
        self._head_spread = math.nan
        self._tail_reference = math.nan
        self._tail_means: list[float] = []
        self._tail_spreads: list[float] = []
        self._weights = [_weights(head, length) for head in range(length + 1)]

    def push(self, value: float) -> None:
        """Take the next value."""
        block = self._block
        if len(block) == self._length:
            self._fold_tails()
            block.clear()
        block.append(value)
        count = len(block)
        if count == 1:
            self._head_reference = value
            self._head_mean = self._head_spread = 0.0
            return
        difference = value - self._head_reference
        delta = difference - self._head_mean
        mean = self._head_mean + delta / count
        self._head_spread += delta * (difference - mean)
        self._head_mean = mean

    def value(self) -> tuple[float, float, float]:
        """Return (reference, offset, std), all NaN before the window is full.

        The mean is reference + offset; whoever needs a distance from it subtracts the two one after another
        and loses nothing. `std` is the sample standard deviation (ddof 1), NaN where its square is beyond a
        float: infinity would make a distance of 0 of every price.
        """
        count = len(self._block)
        missing = self._length - count
        if not missing:
            return self._head_reference, self._head_mean, _root(self._head_spread / (self._length - 1))
        if not self._tail_means:
            return math.nan, math.nan, math.nan
        apart = self._head_reference - self._tail_reference
        delta = (self._head_mean - self._tail_means[missing - 1]) + apart
        share, cross = self._weights[count]
        spread = (self._tail_spreads[missing - 1] + self._head_spread) + delta * delta * cross
        return (
            self._head_reference,
            self._head_mean - delta * share,
            _root(spread / (self._length - 1)),
        )

    def run(self, values: Sequence[float]) -> list[tuple[float, float, float]]:
        """Take the next values; return what `value` gives at each, by the same operations."""
        block, length, weights = self._block, self._length, self._weights
        reference, mean, spread = self._head_reference, self._head_mean, self._head_spread
        moments = []
        for value in values:
            if len(block) == length:
                self._fold_tails()
                block.clear()
            block.append(value)
            count = len(block)
            if count == 1:
                reference, mean, spread = value, 0.0, 0.0
            else:
                difference = value - reference
                delta = difference - mean
                mean += delta / count
                spread += delta * (difference - mean)
            if count == length:
                moments.append((reference, mean, _root(spread / (length - 1))))
            elif self._tail_means:
                place = length - count - 1
                apart = reference - self._tail_reference
                delta = (mean - self._tail_means[place]) + apart
                share, cross = weights[count]
                joined = (self._tail_spreads[place] + spread) + delta * delta * cross
                moments.append((reference, mean - delta * share, _root(joined / (length - 1))))
            else:
                moments.append((math.nan, math.nan, math.nan))
        self._head_reference, self._head_mean, self._head_spread = reference, mean, spread
        return moments

    def _fold_tails(self) -> None:
        means = [0.0]
        spreads = [0.0]
        mean = spread = 0.0
        reference = self._block[-1]
        for count, value in enumerate(reversed(self._block[:-1]), start=2):
            difference = value - reference
            delta = difference - mean
            mean += delta / count
            spread += delta * (difference - mean)
            means.append(mean)
            spreads.append(spread)
        self._tail_reference = reference
        self._tail_means = means
        self._tail_spreads = spreads


def sliding_moments(values: Floats, length: int) -> tuple[Floats, Floats, Floats]:
    """Return what `SlidingMoments.value` gives at each value: three arrays of shape (n,)."""
    with np.errstate(**BEYOND_FLOATS):
        return _sliding_moments(values, length)


def _sliding_moments(values: Floats, length: int) -> tuple[Floats, Floats, Floats]:
    blocks = _blocks(values, length)
    head_means, head_spreads = _running_moments(blocks - blocks[0])
    tail_means, tail_spreads = _running_moments((blocks - blocks[-1])[::-1])
    weights = np.array([_weights(head, length) for head in range(1, length)])
    shares, crosses = weights[:, :1], weights[:, 1:]
    references = np.broadcast_to(blocks[0], blocks.shape).copy()
    offsets = head_means.copy()
    spreads = head_spreads.copy()
    # A head of 1 to n - 1 values takes part with the tail of the n - 1 to 1 values before it.
    tails = np.s_[-2::-1, :-1]
    heads = np.s_[:-1, 1:]
    apart = blocks[0, 1:] - blocks[-1, :-1]
    delta = (head_means[heads] - tail_means[tails]) + apart
    offsets[heads] = head_means[heads] - delta * shares
    spreads[heads] = (tail_spreads[tails] + head_spreads[heads]) + delta * delta * crosses
    for incomplete in (references, offsets, spreads):
        incomplete[:-1, 0] = np.nan
    squares = spreads / (length - 1)
    stds = np.sqrt(np.where(squares < np.inf, squares, np.nan))
    return _series(references, len(values)), _series(offsets, len(values)), _series(stds, len(values))


def _root(square: float) -> float:
    # NaN is not below infinity either, and no square is negative.
    return math.sqrt(square) if square < math.inf else math.nan


def _running_moments(blocks: Floats) -> tuple[Floats, Floats]:
    means = np.zeros_like(blocks)
    spreads = np.zeros_like(blocks)
    for row in range(1, len(blocks)):
        delta = blocks[row] - means[row - 1]
        means[row] = means[row - 1] + delta / (row + 1)
        spreads[row] = spreads[row - 1] + delta * (blocks[row] - means[row])
    return means, spreads


def _weights(head: int, length: int) -> tuple[float, float]:
    tail = length - head
    return tail / length, head * tail / length


def _blocks(values: Floats, length: int) -> Floats:
    # One block a column; what pads the last one is never read.
    count = max(1, -(-len(values) // length))
    padded = np.zeros(count * length)
    padded[: len(values)] = values
    return np.ascontiguousarray(padded.reshape(count, length).T)


def _series(blocks: Floats, size: int) -> Floats:
    return blocks.T.ravel()[:size]
