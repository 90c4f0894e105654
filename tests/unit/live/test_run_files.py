"""The files of a live run."""

from pathlib import Path

import numpy as np
from fixtures_ticks import tick

from strategy_client.events import NoSignal, ProcessedTick, Reason
from strategy_client.live.run_files import LatencyFile, RunFiles
from strategy_client.recording.file_names import LATENCY


def test_latency_file_is_whole_after_each_flush(tmp_path: Path) -> None:
    """It can be read while it grows, each tick at its index; where nobody looked at a tick there is 0."""
    path = tmp_path / LATENCY
    file = LatencyFile(path)
    file.add(0, 5)
    file.flush()
    assert np.load(path).tolist() == [5]
    file.add(3, 2**40)
    size = file.flush()
    assert np.load(path).tolist() == [5, 0, 0, 2**40]
    assert size == path.stat().st_size
    for index in range(4, 100_000):
        file.add(index, index)
    file.close()
    file.close()
    assert np.load(path).shape == (100_000,)
    assert np.load(path)[-1] == 99_999


def test_files_are_those_of_a_replay(tmp_path: Path) -> None:
    """Outcomes, signals and latencies lie where `report` looks, and their sizes are counted together."""
    outcome = NoSignal("s", 1, tick(1).timestamp, Reason.HOLD)
    with RunFiles(tmp_path) as files:
        files.took(ProcessedTick(0, tick(1), [outcome], 7))
        size = files.flush()
        assert size == sum(path.stat().st_size for path in tmp_path.iterdir())
        names = {path.name for path in files.paths.values()}
    assert names == {"outcomes.jsonl", "signals.jsonl", LATENCY}
    assert np.load(tmp_path / LATENCY).tolist() == [7]
