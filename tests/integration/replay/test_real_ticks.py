"""Whole replays of recorded ticks, with traditional and learned strategies and a sidecar process."""

import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from real_ticks import INDIA, NSE_DAYS, RealTick, binance_trades, needs_real_ticks, nse_minutes
from sidecars import process_sidecar
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from model_export import export_model
from strategy_client.factory import StrategyFactory
from strategy_client.features import FeatureSet
from strategy_client.recording.summary import Summary
from strategy_client.replay.session import Replay, ReplayOptions
from strategy_client.sinks.jsonl import VARYING
from strategy_client.store.strategy_file import read_strategies

pytestmark = needs_real_ticks

TRADES = 1_500
MOMENTUM = ("return_20", "momentum_5", "volatility_20")
REVERSION = ("zscore_20", "volatility_20", "history_length")
STRATEGIES = """
strategies:
  - strategy_name: momentum
    strategy_type: momentum
    instrument_tokens: {tokens}
    parameters: {{momentum_threshold: "0.00005", lookback_periods: 10}}
  - strategy_name: reversion
    strategy_type: mean_reversion
    instrument_tokens: {tokens}
  - strategy_name: learned_momentum
    strategy_type: ml_momentum
    instrument_tokens: {tokens}
    parameters: {{model: momentum, confidence_threshold: 0.5, features: {momentum},
                  outside_training_range: count}}
  - strategy_name: learned_reversion
    strategy_type: ml_mean_reversion
    instrument_tokens: {tokens}
    parameters: {{model: reversion, confidence_threshold: 0.5, features: {reversion},
                  outside_training_range: count}}
ticks: {{time: time, price: price, token: token, timezone: Asia/Kolkata}}
"""


def trades(name: str) -> list[RealTick]:
    """Return the first trades of a recording."""
    return list(itertools.islice(binance_trades(name), TRADES))


def write_model(models: Path, name: str, names: tuple[str, ...]) -> None:
    """Fit a classifier of the direction of ten trades to a recording, and export it."""
    prices = np.array([float(trade.price) for trade in trades("spot_btcusdt_20240809")])
    features = FeatureSet(names)
    rows = features.matrix(prices)[features.first_valid_row : -10]
    up = (prices[10:] > prices[:-10])[features.first_valid_row :].astype(int)
    export_model(
        make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, up),
        name=name,
        models=models,
        samples=rows,
        feature_names=names,
        window=features.window,
        meanings={0: "SELL", 1: "BUY"},
    )


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve two models fitted to recorded trades."""
    models = tmp_path_factory.mktemp("models")
    write_model(models, "momentum", MOMENTUM)
    write_model(models, "reversion", REVERSION)
    with process_sidecar(models) as sidecar:
        yield sidecar.target


def lines(ticks: Sequence[RealTick]) -> list[str]:
    """Return a line a tick."""
    return [f"{tick.timestamp.isoformat()},{tick.token},{tick.price}" for tick in ticks]


def replay(out: Path, target: str, written: Sequence[str], tokens: set[int]) -> Summary:
    """Replay some lines."""
    out.mkdir()
    (out / "t.csv").write_text("\n".join(["time,token,price", *written]) + "\n")
    text = STRATEGIES.format(tokens=sorted(tokens), momentum=list(MOMENTUM), reversion=list(REVERSION))
    (out / "s.yaml").write_text(text)
    file = read_strategies(out / "s.yaml", StrategyFactory())
    assert file.ticks is not None
    summary = Replay(ReplayOptions([out / "t.csv"], file.strategies, file.ticks, out, [target])).run()
    assert summary.failed_calls == 0
    for strategy in summary.strategies:
        assert sum(strategy.outcomes.values()) == strategy.ticks == summary.ticks
        assert strategy.signals > 0
        assert not set(strategy.outcomes) - {"BUY", "SELL", "HOLD", "BELOW_THRESHOLD", "WARMING_UP"}
    return summary


def read(out: Path, name: str, token: int | None = None) -> list[dict[str, Any]]:
    """Return the lines of a replay's file, of one instrument, without what tells two runs apart."""
    records = [json.loads(line) for line in (out / f"{name}.jsonl").read_text().splitlines()]
    for record in records:
        del record["tick"]
        record.pop("answered_by", None)  # said once a run, not once an instrument
        for varying in VARYING:
            record.get("metadata", {}).pop(varying, None)
    return [record for record in records if token in (None, record["instrument_token"])]


def assert_apart_is_together(folder: Path, target: str, series: Sequence[Sequence[RealTick]]) -> None:
    """Assert that series merged by time give, for each, what a replay of it alone gives."""
    tokens = {ticks[0].token for ticks in series}
    merged = sorted(itertools.chain(*series), key=lambda tick: tick.timestamp)
    replay(folder / "together", target, lines(merged), tokens)
    for ticks in series:
        token = ticks[0].token
        out = folder / str(token)
        replay(out, target, lines(ticks), {token})
        for name in ("signals", "outcomes"):
            alone = read(out, name)
            assert alone == read(folder / "together", name, token)
        assert len(alone) == len(ticks)


@pytest.mark.parametrize("market", ["spot", "usdm"])
def test_two_instruments_interleaved_are_two_separate_runs(tmp_path: Path, target: str, market: str) -> None:
    """ORIGIN defect 1: recorded BTC at 61,000 and ETH at 2,600 interleaved, spot and futures.

    Each outcome, and each signal to the last digit, is that of a replay of its instrument alone.
    """
    series = [trades(f"{market}_{symbol}_20240808") for symbol in ("btcusdt", "ethusdt")]
    assert_apart_is_together(tmp_path, target, series)


def test_index_and_thin_stock_interleaved_are_separate_runs(tmp_path: Path, target: str) -> None:
    """ORIGIN defect 1: NSE minutes of an index, a stock at 95 INR and one that is often silent (H7)."""
    assert_apart_is_together(tmp_path, target, [list(nse_minutes(name)) for name in NSE_DAYS])


def test_times_without_a_zone_are_the_exchanges(tmp_path: Path, target: str) -> None:
    """ORIGIN defect 11: minutes written as India's local time, with the zone named, are those in UTC."""
    minutes = list(nse_minutes("juniorbees"))
    token = {minutes[0].token}
    local = [minute._replace(timestamp=minute.timestamp.astimezone(INDIA)) for minute in minutes]
    naive = [minute._replace(timestamp=minute.timestamp.replace(tzinfo=None)) for minute in local]
    replay(tmp_path / "utc", target, lines(minutes), token)
    replay(tmp_path / "naive", target, lines(naive), token)
    assert read(tmp_path / "naive", "signals") == read(tmp_path / "utc", "signals")
    assert read(tmp_path / "naive", "outcomes") == read(tmp_path / "utc", "outcomes")


def test_bad_lines_among_recorded_ones_change_nothing(tmp_path: Path, target: str) -> None:
    """H6: prices of 0, below 0, NaN, infinite or no number are counted, and no outcome is another."""
    recorded = trades("usdm_ethusdt_20240808")
    good = lines(recorded)
    moment, token, _ = good[0].split(",")
    bad = itertools.cycle(["0", "-2600.1", "nan", "inf", "", "text", "1e999", '"2600', "2600,1"])
    spoilt = []
    for index, line in enumerate(good):
        spoilt.append(line)
        if index % 50 == 0:
            spoilt.append(f"{moment},{token},{next(bad)}")
    replay(tmp_path / "good", target, good, {recorded[0].token})
    summary = replay(tmp_path / "spoilt", target, spoilt, {recorded[0].token})
    assert summary.bad_lines == len(spoilt) - len(good) == 30
    assert read(tmp_path / "spoilt", "signals") == read(tmp_path / "good", "signals")
    assert read(tmp_path / "spoilt", "outcomes") == read(tmp_path / "good", "outcomes")
