"""A small session to replay: ticks of a random walk, strategies on them, models fitted to them."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression

from model_export import export_model
from strategy_client.features import FeatureSet
from strategy_client.processors.ml_mean_reversion import mean_reversion_features
from strategy_client.processors.ml_momentum import momentum_features

OPENED = datetime(2024, 8, 8, 3, 45, tzinfo=UTC)
MOMENTUM_LOOKBACK = 20
REVERSION_LOOKBACK = 20

STRATEGIES = """
strategies:
  - strategy_name: momentum
    strategy_type: momentum
    instrument_tokens: {tokens}
    parameters: {{momentum_threshold: "0.002", lookback_periods: 10}}
  - strategy_name: reversion
    strategy_type: mean_reversion
    instrument_tokens: {tokens}
    parameters: {{std_deviation_threshold: 1.5}}
  - strategy_name: learned_momentum
    strategy_type: ml_momentum
    instrument_tokens: {tokens}
    parameters: {{model_path: models/up_momentum.onnx, confidence_threshold: 0.5,
                 outside_training_range: count}}
  - strategy_name: learned_reversion
    strategy_type: ml_mean_reversion
    instrument_tokens: {tokens}
    parameters: {{model_path: models/up_reversion.onnx, confidence_threshold: 0.5,
                 outside_training_range: count}}
ticks:
  time: time
  price: price
  token: token
"""


def walk(count: int, start: float, seed: int) -> np.ndarray:
    """Return prices of a random walk, shape (count,), with two decimals."""
    steps = np.random.default_rng(seed).normal(0, 0.0008, count)
    return np.round(start * np.exp(np.cumsum(steps)), 2)


def csv_lines(token: int, prices: np.ndarray) -> list[str]:
    """Return a line a tick, one a second, without the header."""
    return [
        f"{(OPENED + timedelta(seconds=index)).isoformat()},{token},{price:.2f}"
        for index, price in enumerate(prices.tolist())
    ]


def write_csv(path: Path, lines: list[str]) -> Path:
    """Write a file of ticks."""
    path.write_text("\n".join(["time,token,price", *lines]) + "\n", encoding="utf-8")
    return path


def write_strategies(path: Path, tokens: list[int]) -> Path:
    """Write two traditional and two learned strategies."""
    path.write_text(STRATEGIES.format(tokens=tokens), encoding="utf-8")
    return path


def write_model(models: Path, name: str, features: tuple[str, ...], version: int = 1, seed: int = 1) -> Path:
    """Fit and export a classifier of the next tick's direction; another seed gives another model."""
    feature_set = FeatureSet(features)
    prices = walk(1_200, 100.0, seed)
    rows = feature_set.matrix(prices)[feature_set.first_valid_row : -1]
    up = (np.diff(prices)[feature_set.first_valid_row :] > 0).astype(int)
    report = export_model(
        LogisticRegression(max_iter=1_000).fit(rows, up),
        name=name,
        models=models,
        samples=rows,
        feature_names=features,
        version=version,
        window=feature_set.window,
        meanings={0: "SELL", 1: "BUY"},
        trained_at=OPENED,
    )
    return report.path


def write_models(models: Path) -> Path:
    """Write the models that the strategies ask for."""
    write_model(models, "up_momentum", momentum_features(MOMENTUM_LOOKBACK))
    write_model(models, "up_reversion", mean_reversion_features(REVERSION_LOOKBACK))
    return models
