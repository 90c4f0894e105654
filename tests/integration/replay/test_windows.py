"""Whole replays in windows against the same ticks one by one, through a real sidecar process."""

import gc
import hashlib
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures_session import (
    MOMENTUM_LOOKBACK,
    csv_lines,
    momentum_features,
    walk,
    write_csv,
    write_model,
    write_models,
    write_strategies,
)
from real_ticks import NSE_DAYS, RealTick, binance_trades, needs_real_ticks, nse_minutes
from sidecars import process_sidecar

from strategy_client.events import ProcessedTick, ShadowComparison
from strategy_client.factory import StrategyFactory
from strategy_client.recording.summary import Summary
from strategy_client.replay.replacement import Replacement
from strategy_client.replay.session import Replay, ReplayOptions
from strategy_client.sinks.jsonl import VARYING
from strategy_client.store.strategy_file import read_strategies

TICKS = 400
ES_TICKS = Path(__file__).resolve().parents[3] / ".cache" / "es_ticks.csv"
EXAMPLES = Path(__file__).resolve().parents[3] / "examples" / "strategies.yaml"
ES_LIMIT = 3_000
SAME = ("outcomes", "signals", "shadows")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the models of the session, and another to shadow with."""
    folder = tmp_path_factory.mktemp("models")
    write_models(folder)
    write_model(folder, "other", momentum_features(MOMENTUM_LOOKBACK), seed=9)
    return folder


@pytest.fixture(scope="module")
def target(models: Path) -> Iterator[str]:
    """Serve them."""
    with process_sidecar(models) as sidecar:
        yield sidecar.target


def replay(folder: Path, ticks: Path, tokens: Sequence[int], more: str = "", **options: Any) -> Summary:
    """Replay a file into a folder."""
    folder.mkdir(parents=True)
    strategies = write_strategies(folder / "s.yaml", list(tokens))
    place = "outside_training_range: count"  # of the learned strategies; the first one gets it
    strategies.write_text(strategies.read_text().replace(place, place + more, 1))
    file = read_strategies(strategies, StrategyFactory())
    assert file.ticks is not None
    return Replay(ReplayOptions([ticks], file.strategies, file.ticks, folder, **options)).run()


def same(folder: Path) -> dict[str, str]:
    """Return the digest of each file of a run, without the fields of VARYING."""
    digests = {}
    for name in SAME:
        path = folder / f"{name}.jsonl"
        if not path.exists():
            continue
        digest = hashlib.sha256()
        for line in path.read_bytes().splitlines(keepends=True):
            record = json.loads(line)
            varying = record.get("metadata", {}).keys() & set(VARYING)
            for field in varying:
                del record["metadata"][field]
            digest.update(json.dumps(record).encode() if varying else line)
        digests[name] = digest.hexdigest()
    return digests


def write_ticks(path: Path, ticks: Sequence[RealTick]) -> Path:
    """Write recorded ticks."""
    return write_csv(path, [f"{each.timestamp.isoformat()},{each.token},{each.price}" for each in ticks])


def assert_windows_change_nothing(
    folder: Path, ticks: Path, tokens: Sequence[int], target: str, more: str = ""
) -> Summary:
    """Assert that windows of several sizes write the bytes of a tick-by-tick run."""
    came = {}
    for name, window in (("one", 1), ("few", 17), ("many", 250)):
        summary = replay(folder / name, ticks, tokens, more, targets=[target], window=window)
        assert summary.failed_calls == 0
        assert summary.window == window
        assert (summary.latency_us is None) == (window > 1)
        assert (folder / name / "latency.npy").exists() == (window == 1)
        came[name] = same(folder / name)
    assert came["few"] == came["many"] == came["one"]
    assert summary.calls is not None
    assert 0 < summary.calls.requests < summary.ticks / 50 + 10
    return summary


def test_windows_write_the_bytes_of_a_tick_by_tick_run(tmp_path: Path, target: str) -> None:
    """G2, G4: outcomes, signals and shadows of two interleaved instruments, to the byte, in few requests."""
    cheap, dear = csv_lines(1, walk(TICKS, 95.0, 7)), csv_lines(2, walk(TICKS, 60_000.0, 8))
    ticks = write_csv(tmp_path / "t.csv", [line for pair in zip(cheap, dear, strict=True) for line in pair])
    rules = ", emission: {edge_trigger: true, cooldown_s: 3}"
    summary = assert_windows_change_nothing(tmp_path, ticks, (1, 2), target, rules)
    assert all(each.signals for each in summary.strategies)


def test_shadows_are_written_and_told(tmp_path: Path, target: str) -> None:
    """A strategy with a shadow: a line a comparison, and agreement and models in the summary."""
    ticks = write_csv(tmp_path / "t.csv", csv_lines(1, walk(TICKS, 100.0, 7)))
    summary = assert_windows_change_nothing(tmp_path, ticks, (1,), target, ", shadow: {model: other}")
    lines = [json.loads(line) for line in (tmp_path / "many" / "shadows.jsonl").read_text().splitlines()]
    learned = [each for each in summary.strategies if each.shadow is not None]
    assert [each.strategy_id for each in learned] == ["learned_momentum"]
    written = json.loads((tmp_path / "many" / "summary.json").read_text())
    assert written["files"]["shadows"].endswith("shadows.jsonl")
    told = written["strategies"]["learned_momentum"]["shadow"]
    assert told["compared"] == len(lines) == TICKS


def test_a_model_replaced_between_two_ticks_ends_a_window(tmp_path: Path, models: Path) -> None:
    """B1: the tick of a replacement is the first that the new file answers, in windows as tick by tick."""
    newer = write_model(tmp_path / "newer", "up_momentum", momentum_features(MOMENTUM_LOOKBACK), 2, seed=5)
    ticks = write_csv(tmp_path / "t.csv", csv_lines(1, walk(TICKS, 95.0, 7)))
    came = []
    for window in (1, 250):
        folder = tmp_path / str(window)
        replacements = [Replacement(133, "up_momentum", newer)]
        replay(folder, ticks, (1,), models=models, replacements=replacements, window=window)
        came.append(same(folder))
    assert came[0] == came[1]
    versions = [
        json.loads(line)["answered_by"]["learned_momentum"]["version"]
        for line in (folder / "outcomes.jsonl").read_text().splitlines()
        if "learned_momentum" in json.loads(line).get("answered_by", {})
    ]
    assert versions == [1, 2]


class Thresholds:
    """Takes note of how often the collector looks while ticks are told."""

    def __init__(self) -> None:
        self.seen: set[tuple[int, int, int]] = set()

    def took(self, processed: ProcessedTick) -> None:
        """Take note."""
        self.seen.add(gc.get_threshold())

    def compared(self, comparison: ShadowComparison) -> None:
        """Have no use for it."""


@pytest.mark.parametrize(("window", "seldom"), [(1, False), (250, True)])
def test_the_collector_looks_seldom_in_windows_alone(
    tmp_path: Path, target: str, window: int, *, seldom: bool
) -> None:
    """A replay in windows leaves the collector as it found it, and one tick by tick does not touch it."""
    ticks = write_csv(tmp_path / "t.csv", csv_lines(1, walk(TICKS, 95.0, 7)))
    file = read_strategies(write_strategies(tmp_path / "s.yaml", [1]), StrategyFactory())
    assert file.ticks is not None
    options = ReplayOptions([ticks], file.strategies, file.ticks, tmp_path, [target], window=window)
    before, listener = gc.get_threshold(), Thresholds()
    Replay(options, listeners=[listener]).run()
    assert len(listener.seen) == 1
    assert (listener.seen == {before}) is not seldom
    assert gc.get_threshold() == before


@needs_real_ticks
@pytest.mark.parametrize("market", ["binance", "nse"])
def test_windows_of_recorded_ticks(tmp_path: Path, target: str, market: str) -> None:
    """G2, G4: recorded trades of two symbols, and minutes of three, interleaved by time."""
    if market == "binance":
        series = [
            list(itertools.islice(binance_trades(f"spot_{each}_20240808"), 600))
            for each in ("btcusdt", "ethusdt")
        ]
    else:
        series = [list(nse_minutes(name))[:400] for name in NSE_DAYS]
    merged = sorted(itertools.chain(*series), key=lambda each: each.timestamp)
    tokens = sorted({each.token for each in merged})
    assert_windows_change_nothing(tmp_path, write_ticks(tmp_path / "t.csv", merged), tokens, target)


@pytest.mark.skipif(not ES_TICKS.is_file(), reason="no E-mini ticks; `python examples/fetch_ticks.py .cache`")
def test_windows_of_the_session_of_make_run(tmp_path: Path) -> None:
    """G2, G4: the strategies and models of `make run`; `make bench` does it on many more ticks."""
    file = read_strategies(EXAMPLES, StrategyFactory())
    assert file.ticks is not None
    came = []
    with process_sidecar(EXAMPLES.parents[1] / "models") as sidecar:
        for window in (1, 100):
            out = tmp_path / str(window)
            options = ReplayOptions(
                [ES_TICKS], file.strategies, file.ticks, out, [sidecar.target], window=window, limit=ES_LIMIT
            )
            summary = Replay(options).run()
            came.append(same(out))
    assert came[0] == came[1]
    assert all(each.signals for each in summary.strategies if each.learned)
    assert np.load(tmp_path / "1" / "latency.npy").shape == (ES_LIMIT,)


def test_a_shadow_of_another_version_is_beside_the_one_that_is_asked_for(tmp_path: Path) -> None:
    """A run's own sidecar serves both versions where a strategy names one, and its shadow another."""
    models = write_models(tmp_path / "models")
    (models / "up_momentum.onnx").unlink()
    for version, seed in ((1, 1), (2, 5)):
        made = write_model(
            tmp_path / "made", "up_momentum", momentum_features(MOMENTUM_LOOKBACK), version, seed
        )
        place = models / "up_momentum" / str(version) / "model.onnx"
        place.parent.mkdir(parents=True)
        made.rename(place)
    ticks = write_csv(tmp_path / "t.csv", csv_lines(1, walk(100, 100.0, 7)))
    pinned = ", model_version: 1, shadow: {model: up_momentum, model_version: 2}"
    summary = replay(tmp_path / "out", ticks, (1,), pinned, models=models)
    learned = next(each for each in summary.strategies if each.strategy_id == "learned_momentum")
    assert {each.version for each in learned.models} == {1}
    assert "MODEL_NOT_FOUND" not in learned.outcomes
    lines = [json.loads(line) for line in (tmp_path / "out" / "shadows.jsonl").read_text().splitlines()]
    assert [each["answered_by"]["version"] for each in lines if "answered_by" in each] == [2]
