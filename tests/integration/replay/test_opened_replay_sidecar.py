"""A replay led by hand, with a real sidecar: the same as the command's, and nothing left behind."""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from fixtures_session import csv_lines, walk, write_csv, write_model, write_models, write_strategies
from own_threads import own_threads

from strategy_client import Signal, open_replay
from strategy_client.configuration import TicksConfig
from strategy_client.factory import StrategyFactory
from strategy_client.predictor.status import InferenceError
from strategy_client.replay import sidecar as replay_sidecar
from strategy_client.replay.session import Replay, ReplayOptions
from strategy_client.sidecar.own_sidecar import SidecarError
from strategy_client.store import open_store

COLUMNS = TicksConfig(time="time", price="price", token="token")  # noqa: S106 an instrument

NOTHING: dict[str, Any] = {"processes": [], "threads": [], "files": [], "folders": []}
BEFORE: dict[str, set[Any]] = {}


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """300 ticks, four strategies, two models."""
    folder = tmp_path_factory.mktemp("session")
    return {
        "ticks": write_csv(folder / "ticks.csv", csv_lines(7, walk(300, 100.0, 5))),
        "strategies": write_strategies(folder / "strategies.yaml", [7]),
        "models": write_models(folder / "models"),
    }


def children() -> set[int]:
    """The processes below this one; a library of another test may keep one of its own, as joblib does."""
    return {child.pid for child in psutil.Process().children(recursive=True)}


def leftovers() -> dict[str, Any]:
    """What a replay could leave: child processes, threads of ours, private folders."""
    return {
        "processes": sorted(children() - BEFORE["processes"]),
        "threads": [each.name for each in own_threads() - BEFORE["threads"]],
        "files": [file.path for file in psutil.Process().open_files() if file.path.endswith(".csv")],
        "folders": sorted(Path(tempfile.gettempdir()).glob("tickserve-*")),
    }


@pytest.fixture(autouse=True)
def private_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Private folders of this test's processes only; and what was there before the test is not its own."""
    BEFORE.update(processes=children(), threads=own_threads())
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)


def test_it_gives_what_the_command_gives(session: dict[str, Path], tmp_path: Path) -> None:
    """The outcomes of a notebook's replay are those that `strategy-client replay` writes, to the last one."""
    with open_replay(**session) as replay:
        assert len(leftovers()["folders"]) == 1
        result = replay.run()
    assert leftovers() == NOTHING
    store = open_store(str(session["strategies"]), StrategyFactory())
    strategies = store.read().strategies
    store.close()
    out = tmp_path / "out"
    Replay(ReplayOptions([session["ticks"]], strategies, COLUMNS, out, models=session["models"])).run()
    written = [json.loads(line) for line in (out / "signals.jsonl").read_text().splitlines()]
    assert len(written) > 50
    for ours, theirs in zip(result.emitted, written, strict=True):
        assert isinstance(ours, Signal)
        assert (ours.strategy_id, ours.signal_type, str(ours.price)) == (
            theirs["strategy_id"],
            theirs["signal_type"],
            theirs["price"],
        )
        assert ours.metadata.get("digest") == theirs["metadata"].get("digest")
    signals = result.signals()
    learned = np.char.startswith(signals["strategy_id"].astype(str), "learned")
    assert learned.any()
    assert {len(digest) for digest in signals["digest"][learned]} == {64}


@pytest.mark.parametrize("raised", [KeyboardInterrupt, None])
def test_nothing_is_left_when_it_is_left_half_way(
    session: dict[str, Path], raised: type[BaseException] | None
) -> None:
    """Whether a cell is interrupted or just stops looking: no process, no thread, no folder."""
    replay = open_replay(**session)

    def cell() -> None:
        with replay:
            for processed in replay:
                if processed.index == 5:
                    if raised is not None:
                        raise raised
                    return

    if raised is None:
        cell()
    else:
        with pytest.raises(raised):
            cell()
    assert leftovers() == NOTHING


def test_nothing_is_left_when_it_cannot_start(
    session: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder without models, or a target where nobody answers, is an error of entering, and cleaned up."""
    monkeypatch.setattr(replay_sidecar, "CONNECT_TIMEOUT_S", 0.2)
    with pytest.raises(SidecarError, match="expected a folder of models"):
        open_replay(**{**session, "models": tmp_path / "none"}).__enter__()
    elsewhere = {name: path for name, path in session.items() if name != "models"}
    with pytest.raises(InferenceError, match="ready after"):
        open_replay(**elsewhere, target=f"unix:{tmp_path}/nobody.sock").__enter__()
    assert leftovers() == NOTHING


def test_every_tick_of_a_shadow_is_compared(session: dict[str, Path], tmp_path: Path) -> None:
    """The answers to a shadow come later than its ticks; at the end of a replay none is missing."""
    models = tmp_path / "models"
    features = ("return_20", "volatility_20")
    for seed, name in enumerate(("live", "next"), 1):
        write_model(models, name, features, seed=seed)
    strategy = {
        "strategy_name": "mine",
        "strategy_type": "ml_momentum",
        "instrument_tokens": [7],
        "parameters": {"model": "live", "features": list(features), "shadow": {"model": "next"}},
    }
    columns = {"time": "time", "price": "price", "token": "token"}
    with open_replay(session["ticks"], strategy, models=models, columns=columns, window=1) as replay:
        compared = replay.run().comparisons()
    assert compared["tick"].tolist() == list(range(300))
    both = ~np.isnan(compared["live_probability"]) & ~np.isnan(compared["shadow_probability"])
    assert both.sum() > 200
    assert not np.array_equal(compared["live_probability"][both], compared["shadow_probability"][both])
    assert leftovers() == NOTHING
