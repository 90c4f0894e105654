"""How much faster a replay in windows is than tick by tick, over the same ticks and with the same bytes.

    python benchmarks/replay_speed.py [--ticks N] [--rounds N] [--window N]

The strategies and models of `make run`: two traditional and two learned ones on the E-mini S&P 500 future.
Each round replays the same ticks tick by tick and in windows, one after the other, by one sidecar. Counted
is the loop from the first tick to the last, reading and writing included; not the start of the sidecar.
"""

import argparse
import hashlib
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Final

from strategy_client.factory import StrategyFactory
from strategy_client.replay.session import Replay, ReplayOptions
from strategy_client.replay.window import WINDOW_TICKS
from strategy_client.sidecar.own_sidecar import OwnSidecar
from strategy_client.sinks.jsonl import VARYING
from strategy_client.store.strategy_file import read_strategies

ROOT: Final = Path(__file__).resolve().parents[1]
TICKS: Final = ROOT / ".cache" / "es_ticks.csv"
FILES: Final = ("outcomes.jsonl", "signals.jsonl")


def run(target: str, folder: Path, ticks: int, window: int) -> float:
    """Replay into a folder; return ticks a second."""
    file = read_strategies(ROOT / "examples" / "strategies.yaml", StrategyFactory())
    if file.ticks is None:
        sys.exit("replay_speed: examples/strategies.yaml does not say how to read the ticks")
    summary = Replay(
        ReplayOptions([TICKS], file.strategies, file.ticks, folder, [target], window=window, limit=ticks)
    ).run()
    if summary.failed_calls:
        sys.exit(f"replay_speed: {summary.failed_calls} requests failed")
    return summary.ticks_per_s


def digest_of(folder: Path) -> str:
    """Return the SHA-256 of outcomes and signals without the fields of VARYING."""
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


def main() -> None:
    """Measure, and print a line a round."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--ticks", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--window", type=int, default=WINDOW_TICKS)
    options = parser.parse_args()
    if not TICKS.is_file():
        sys.exit(f"replay_speed: no {TICKS}; get it by `python examples/fetch_ticks.py .cache`")
    ratios, digests = [], set()
    with OwnSidecar(ROOT / "models") as sidecar, tempfile.TemporaryDirectory() as folder:
        run(sidecar.target, Path(folder) / "warm", min(options.ticks, 1_000), 1)
        for number in range(1, options.rounds + 1):
            paces = {}
            for name, window in (("one by one", 1), ("in windows", options.window)):
                out = Path(folder) / name
                paces[name] = run(sidecar.target, out, options.ticks, window)
                digests.add(digest_of(out))
            ratios.append(paces["in windows"] / paces["one by one"])
            print(
                f"round {number}: {options.ticks:,} ticks, one by one {paces['one by one']:,.0f} ticks/s, "
                f"in windows of {options.window} {paces['in windows']:,.0f} ticks/s, {ratios[-1]:.1f} times"
            )
    print(f"median {statistics.median(ratios):.1f} times, from {min(ratios):.1f} to {max(ratios):.1f}")
    if len(digests) > 1:
        sys.exit("replay_speed: the runs did NOT write the same bytes")
    print(f"outcomes.jsonl and signals.jsonl of all {2 * options.rounds} runs: SHA-256 {digests.pop()}")
    print(f"(without {' and '.join(VARYING)}, which tell two runs apart)")


if __name__ == "__main__":
    main()
