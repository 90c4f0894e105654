"""How much faster a replay in windows is than tick by tick, over the same ticks and with the same bytes.

The strategies and models of `make run`: two traditional and two learned ones on the E-mini S&P 500 future.
Each round replays the same ticks tick by tick and in windows, one after the other, by one sidecar. Counted is
the loop from the first tick to the last, reading and writing included; not the start of the sidecar.
REPLAY_TICKS says how many ticks; 500,000 are what the bound is asked of.
"""

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Final

from bench import Effort
from finding import AT_LEAST, Finding, compare
from interleaved import interleave_measures

from strategy_client.factory import StrategyFactory
from strategy_client.replay.session import Replay, ReplayOptions
from strategy_client.replay.window import WINDOW_TICKS
from strategy_client.sidecar.own_sidecar import OwnSidecar
from strategy_client.sinks.jsonl import VARYING
from strategy_client.store.strategy_file import read_strategies

ROOT: Final = Path(__file__).resolve().parents[1]
TICKS: Final = ROOT / ".cache" / "es_ticks.csv"
FILES: Final = ("outcomes.jsonl", "signals.jsonl")
TICKS_A_RUN: Final = 20_000
TICKS_A_SHORT_RUN: Final = 600
US_PER_S: Final = 1_000_000


def run_us(target: str, folder: Path, ticks: int, window: int) -> float:
    """Replay into a folder; return microseconds a tick. RuntimeError: a request failed."""
    file = read_strategies(ROOT / "examples" / "strategies.yaml", StrategyFactory())
    if file.ticks is None:
        raise RuntimeError("examples/strategies.yaml does not say how to read the ticks")
    summary = Replay(
        ReplayOptions([TICKS], file.strategies, file.ticks, folder, [target], window=window, limit=ticks)
    ).run()
    if summary.failed_calls:
        raise RuntimeError(f"{summary.failed_calls} requests failed")
    return US_PER_S / summary.ticks_per_s


def digest_of(folder: Path) -> str:
    """Return the SHA-256 of outcomes and signals without the fields of VARYING, which tell two runs apart."""
    digest = hashlib.sha256()
    for name in FILES:
        with (folder / name).open("rb") as lines:
            for line in lines:
                if any(field.encode() in line for field in VARYING):
                    record = json.loads(line)
                    for field in VARYING:
                        record["metadata"].pop(field, None)
                    digest.update(json.dumps(record).encode())
                else:
                    digest.update(line)
    return digest.hexdigest()


def measure(effort: Effort) -> Finding:
    """Measure replays. RuntimeError where two runs did not write the same bytes."""
    title = "Replay in windows"
    if not TICKS.is_file():
        return Finding("replay", title, skipped="no ticks: python examples/fetch_ticks.py .cache")
    count = int(os.environ.get("REPLAY_TICKS", TICKS_A_RUN))
    if effort.short:
        count = TICKS_A_SHORT_RUN
    digests: set[str] = set()
    with OwnSidecar(ROOT / "models") as sidecar, tempfile.TemporaryDirectory() as folder:

        def replay(window: int) -> float:
            out = Path(folder) / str(window)
            taken_us = run_us(sidecar.target, out, count, window)
            digests.add(digest_of(out))
            return taken_us

        by_tick, windows = f"a tick of {count:,}, one by one", f"a tick of {count:,}, in windows"
        series = interleave_measures(
            {by_tick: lambda: replay(1), windows: lambda: replay(WINDOW_TICKS)}, effort.rounds, "us"
        )
    if len(digests) > 1:
        raise RuntimeError("the runs did not write the same bytes")
    return Finding(
        "replay",
        title,
        [compare(by_tick, series, windows, bound=10, sense=AT_LEAST)],
        notes=[
            f"{WINDOW_TICKS} ticks a window; outcomes and signals of all {2 * (effort.rounds + 1)} runs: "
            f"SHA-256 {digests.pop()} (without {' and '.join(VARYING)}, which tell two runs apart)"
        ],
    )
