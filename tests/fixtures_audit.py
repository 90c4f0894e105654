"""Small audit logs: two traditional strategies over a random walk, and what is done to their files."""

import json
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from fixtures_ticks import ticks

from strategy_client.audit import AuditLog, AuditOptions, chain
from strategy_client.audit.reader import LogReader
from strategy_client.audit.segment import Segment
from strategy_client.configuration import StrategyConfig
from strategy_client.events import MarketTick, ProcessedTick
from strategy_client.executor import StrategyExecutor
from strategy_client.factory import StrategyFactory
from strategy_client.lineup import create_executors
from strategy_client.runner import StrategyRunner

BOUND_S = 60.0


def config(name: str = "momentum", **parameters: object) -> StrategyConfig:
    """Return a traditional strategy that often signals."""
    given = {"momentum_threshold": "0.0005", "lookback_periods": 5, **parameters}
    return StrategyConfig(name, "momentum", given, ("paper",), (1,))


def executors(*configs: StrategyConfig) -> list[StrategyExecutor]:
    """Make executors, by default of one strategy."""
    return create_executors(configs or (config(),), StrategyFactory())


def walk_ticks(count: int, seed: int = 3) -> list[MarketTick]:
    """Return ticks of a random walk."""
    steps = np.random.default_rng(seed).normal(0, 0.1, count).cumsum()
    return ticks(np.round(100 + steps, 2).tolist())


def processed(
    line_up: Sequence[StrategyExecutor], given: Iterable[MarketTick], first: int = 0
) -> list[ProcessedTick]:
    """Run ticks through a runner without a sidecar."""
    runner = StrategyRunner(line_up)
    return [ProcessedTick(first + i, tick, runner.process(tick), 0) for i, tick in enumerate(given)]


def write_log(folder: Path, count: int = 60, options: AuditOptions | None = None) -> AuditLog:
    """Write a whole log of `count` ticks; returns it closed."""
    line_up = executors()
    with AuditLog(folder, line_up, options=options or AuditOptions(patient=True)) as log:
        for each in processed(line_up, walk_ticks(count)):
            log.took(each)
    return log


def findings(folder: Path) -> list[str]:
    """Read a log and return what was found, the broken first."""
    reader = LogReader(folder)
    for _ in reader:
        pass
    return [f"{'broken' if each.broken else 'missing'} {each}" for each in reader.findings]


def records(folder: Path, kind: str) -> list[dict]:
    """Return the records of a log that have a member of this name."""
    return [dict(entry.record) for entry in LogReader(folder) if kind in entry.record]


def rechain(folder: Path, change: Callable[[dict], None]) -> None:
    """Change the records of a log, and work all of its hashes out again, as a forger would."""
    before = chain.START
    for path in sorted(folder.glob("audit-*.jsonl")):
        lines = []
        for text in path.read_bytes().splitlines():
            record = json.loads(text)
            del record["hash"]
            change(record)
            if record.get("previous"):
                record["previous"]["hash"] = before.hex()
            before, line = chain.link(before, json.dumps(record, separators=(",", ":"))[:-1].encode())
            lines.append(line)
        path.write_bytes(b"".join(lines))


def segment_of(log: AuditLog) -> Segment:
    """Return the segment that a log writes now."""
    assert log._writer is not None
    assert log._writer._segment is not None
    return log._writer._segment


def wait_until(holds: Callable[[], object], bound_s: float = BOUND_S) -> None:
    """Wait for what the log's thread does; AssertionError when it is not done within the bound."""
    end_s = time.monotonic() + bound_s
    while not holds():
        assert time.monotonic() < end_s, f"not within {bound_s:g} s: {holds}"
        time.sleep(0.002)
