"""Feature matrices for exports: from recorded Binance trades where present, else from a random walk."""

from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from real_ticks import DATA, binance_trades

FEATURES = ("total_return", "momentum_5", "volatility", "price", "speed")
LOOKBACK = 20
HORIZON = 20
TRAIN_ROWS = 2_000
SOURCES = ("walk", "trades")


@cache
def feature_matrix(source: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return features, shape (more than 15,000, 5), and the return that followed each row."""
    prices = _walk() if source == "walk" else _trades()
    at = np.arange(LOOKBACK, len(prices) - HORIZON)
    returns = np.diff(prices) / prices[:-1]
    sums, squares = (np.concatenate([[0.0], np.cumsum(values)]) for values in (returns, returns**2))
    mean = (sums[at] - sums[at - LOOKBACK]) / LOOKBACK
    variance = (squares[at] - squares[at - LOOKBACK]) / LOOKBACK - mean**2
    speed = np.abs(prices[at] - prices[at - 1])
    columns = [
        prices[at] / prices[at - LOOKBACK] - 1,
        prices[at] / prices[at - 5] - 1,
        np.sqrt(np.maximum(variance, 0.0)),
        prices[at],
        speed,
    ]
    features = np.stack(columns, axis=1).astype(np.float32).astype(np.float64)
    return features, prices[at + HORIZON] / prices[at] - 1


def with_gaps(features: NDArray[np.float64], seed: int = 0) -> NDArray[np.float64]:
    """Return a copy with NaN in a tenth of the places."""
    random = np.random.default_rng(seed)
    return np.where(random.random(features.shape) < 0.1, np.nan, features)


def sides(returns: NDArray[np.float64], classes: int) -> NDArray[np.int64]:
    """Label a return 0 or 1 (up), or 0 down, 1 flat, 2 up; each about equally often."""
    edges = np.quantile(returns, np.arange(1, classes) / classes)
    return np.searchsorted(edges, returns).astype(np.int64)


@cache
def _session(content: bytes) -> ort.InferenceSession:
    return ort.InferenceSession(content, providers=["CPUExecutionProvider"])


def answers(path: Path, features: NDArray[np.float64]) -> dict[str, NDArray[np.generic]]:
    """Run the file by ONNX Runtime alone."""
    session = _session(path.read_bytes())
    names = [output.name for output in session.get_outputs()]
    rows = np.ascontiguousarray(features, dtype=np.float32)
    parts = [session.run(names, {"features": rows[i : i + 1000]}) for i in range(0, len(rows), 1000)]
    return {name: np.concatenate([part[i] for part in parts]) for i, name in enumerate(names)}


def around(features: NDArray[np.float64], cuts: list[tuple[int, float]]) -> NDArray[np.float64]:
    """Return rows with one feature at, just below and just above a (feature, threshold), float32 steps."""
    rows = []
    for number, (feature, threshold) in enumerate(cuts):
        nearest = np.float32(threshold)
        for value in (
            np.nextafter(nearest, np.float32(-np.inf)),
            nearest,
            np.nextafter(nearest, np.float32(np.inf)),
        ):
            row = features[number % len(features)].copy()
            row[feature] = value
            rows.append(row)
    return np.array(rows)


def _walk() -> NDArray[np.float64]:
    random = np.random.default_rng(7)
    return np.round(2_400.0 * np.exp(np.cumsum(random.normal(0.0, 1e-4, 16_000))), 2)


def _trades() -> NDArray[np.float64]:
    files = ("spot_btcusdt_20240808", "spot_btcusdt_20240809")
    return np.array([float(tick.price) for name in files for tick in binance_trades(name)])


def present(source: str) -> bool:
    """Tell whether the source can be read here."""
    return source == "walk" or DATA.is_dir()
