"""From the close of the new file to the first answer by it, beside the model's own time to load.

    python benchmarks/swap_latency.py [--swaps N] [--trees N,N] [--check]       # or: make swap-latency

A sidecar process serves one forest, and one client asks it all the time. Its file is replaced again and
again, by bytes that it never saw, in two ways in turn: written beside and renamed into place; and copied
over the live file. The clock starts when the file that was written is closed and stops when the client has
the first answer that names the new digest. Right after, a warm process of its own loads the same bytes by
ONNX Runtime alone: the load time.

Where the time went is read from the sidecar's log: `found` (the file lay still and its digest is known),
`vetted`, `available` (loaded and warmed up), then the first answer. Exit 1 if an answer failed or lied; with
--check also if a median is more than 250 ms above the load time.
"""

import argparse
import dataclasses
import itertools
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import grpc
import numpy as np
from expectation import Expectation
from forests import Release, expectation_of, make_forests, put
from load_time import LoadClock
from rich.console import Console
from rich.table import Column, Table
from rows import rows_of
from sidecar_process import SidecarProcess, sidecar_process
from stress_client import asker

OUT: Final = Path("build/benchmarks/swap_latency.json")
MODEL: Final = "swapped"
VERSIONS: Final = 3
MAX_ABOVE_LOAD_MS: Final = 250.0
ASK_TIMEOUT_S: Final = 5.0
SWAP_TIMEOUT_S: Final = 60.0
# Between two questions: it adds at most this to a time, and leaves the processors to the sidecar.
PAUSE_S: Final = 0.002
STAGES: Final = ("found_ms", "vetted_ms", "available_ms", "answered_ms")
PIPED_WIDTH: Final = 140


@dataclass(frozen=True, slots=True)
class Swap:
    """One replacement. The stages are the times that each took after the one before; together, `total_ms`."""

    trees: int
    way: str
    found_ms: float
    vetted_ms: float
    available_ms: float
    answered_ms: float
    load_ms: float

    @property
    def total_ms(self) -> float:
        """From the close of the file to the first answer by it."""
        return self.found_ms + self.vetted_ms + self.available_ms + self.answered_ms

    @property
    def above_load_ms(self) -> float:
        """How much of it is not the model's own load time."""
        return self.total_ms - self.load_ms


class Asker:
    """A thread that asks all the time, checks the answers, and tells when the first by a digest came."""

    def __init__(self, target: str, expectation: Expectation) -> None:
        self._target = target
        self._expectation = expectation
        self._changed = threading.Condition()
        self._digest = ""
        self._since_s = 0.0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.calls = 0
        self.faults: list[str] = []

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Ask until the block ends."""
        self._thread.start()
        try:
            yield
        finally:
            self._stopped.set()
            self._thread.join()

    def first_answer_s(self, digest: str) -> float:
        """Wait for an answer by this digest; return the wall time at which the first came."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._digest == digest, SWAP_TIMEOUT_S):
                raise TimeoutError(f"no answer by {digest[:12]} in {SWAP_TIMEOUT_S:g} s")
            return self._since_s

    def _run(self) -> None:
        with grpc.insecure_channel(self._target) as channel:
            ask = asker("Predict", channel, ASK_TIMEOUT_S)
            for number in itertools.count():
                if self._stopped.wait(PAUSE_S):
                    return
                self.calls += 1
                try:
                    told = ask(MODEL, rows_of(number))
                except (grpc.RpcError, RuntimeError) as error:
                    self.faults.append(repr(error))
                    continue
                answered_s = time.time()
                if fault := self._expectation.fault(MODEL, rows_of(number), told):
                    self.faults.append(fault)
                if told.digest != self._digest:
                    with self._changed:
                        self._digest, self._since_s = told.digest, answered_s
                        self._changed.notify_all()


def rename_into_place(file: Path, content: bytes) -> float:
    """Write beside the file and rename; return the wall time at which what was written was closed."""
    beside = file.with_name(f".{file.name}.part")
    beside.write_bytes(content)
    closed_s = time.time()
    beside.rename(file)
    return closed_s


def copy_over(file: Path, content: bytes) -> float:
    """Write into the live file; return the wall time at which it was closed."""
    file.write_bytes(content)
    return time.time()


WAYS: Final[dict[str, Callable[[Path, bytes], float]]] = {
    "renamed": rename_into_place,
    "copied over": copy_over,
}


def measure(trees: int, swaps: int, folder: Path) -> tuple[list[Swap], list[str]]:
    """Replace a forest of so many trees, `swaps` times each way; return the swaps and what was wrong."""
    forests = make_forests(folder, MODEL, trees=trees, versions=VERSIONS)
    file = folder / "models" / f"{MODEL}.onnx"
    following = (forest.release(number) for number, forest in enumerate(itertools.cycle(forests)))
    first = next(following)
    put(file, first.content)
    came = []
    with sidecar_process(file.parent) as sidecar, LoadClock() as clock:
        asker_ = Asker(sidecar.target, expectation_of({MODEL: forests}, 1 + swaps * len(WAYS)))
        with asker_.asking():
            asker_.first_answer_s(first.digest)
            for _ in range(swaps):
                for way, replace in WAYS.items():
                    release = next(following)
                    closed_s = replace(file, release.content)
                    answered_s = asker_.first_answer_s(release.digest)
                    load_ms = clock.load_ms(file)
                    came.append(
                        _swap(sidecar, release, closed_s, answered_s, Swap(trees, way, 0, 0, 0, 0, load_ms))
                    )
    return came, asker_.faults


def _swap(sidecar: SidecarProcess, release: Release, closed_s: float, answered_s: float, swap: Swap) -> Swap:
    told = {event.event: event.at_s for event in sidecar.events() if release.digest.startswith(event.digest)}
    times_s = [closed_s, told["found"], told["vetted"], told["available"], answered_s]
    stages_ms = [(later - earlier) * 1e3 for earlier, later in itertools.pairwise(times_s)]
    return dataclasses.replace(swap, **dict(zip(STAGES, stages_ms, strict=True)))


def medians(swaps: Sequence[Swap]) -> dict[str, Any]:
    """Return what is to be shown of swaps of one size and way."""
    above_ms = [swap.above_load_ms for swap in swaps]
    return {
        "trees": swaps[0].trees,
        "way": swaps[0].way,
        "swaps": len(swaps),
        **{stage: float(np.median([getattr(swap, stage) for swap in swaps])) for stage in STAGES},
        "total_ms": float(np.median([swap.total_ms for swap in swaps])),
        "load_ms": float(np.median([swap.load_ms for swap in swaps])),
        "above_load_ms": float(np.median(above_ms)),
        "above_load_quartiles_ms": np.percentile(above_ms, [25, 75]).tolist(),
        "above_load_longest_ms": max(above_ms),
    }


def missed(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return which medians are above the bound, a line each."""
    return [
        f"{row['trees']} trees, {row['way']}: {row['above_load_ms']:.0f} ms above the load time, "
        f"expected at most {MAX_ABOVE_LOAD_MS:g}"
        for row in rows
        if not row["above_load_ms"] <= MAX_ABOVE_LOAD_MS
    ]


def show(rows: Sequence[dict[str, Any]], console: Console) -> None:
    """Print the medians."""
    names = (
        "swaps",
        "found",
        "+ vetted",
        "+ available",
        "+ answered",
        "= total",
        "own load",
        "above it",
        "quartiles",
        "longest",
    )
    table = Table("forest, way", *(Column(name, justify="right") for name in names), title="medians, ms")
    for row in rows:
        low, high = row["above_load_quartiles_ms"]
        table.add_row(
            f"{row['trees']} trees, {row['way']}",
            str(row["swaps"]),
            *(f"{row[stage]:.0f}" for stage in STAGES),
            f"{row['total_ms']:.0f}",
            f"{row['load_ms']:.1f}",
            f"{row['above_load_ms']:.0f}",
            f"{low:.0f} to {high:.0f}",
            f"{row['above_load_longest_ms']:.0f}",
        )
    console.print(table)


def main() -> None:
    """Measure, print, keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--swaps", type=int, default=20, help="in each way")
    parser.add_argument("--trees", default="10,500")
    parser.add_argument("--check", action="store_true", help="exit 1 if a median is above the bound")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    swaps: list[Swap] = []
    faults: list[str] = []
    for trees in map(int, arguments.trees.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            came, wrong = measure(trees, arguments.swaps, Path(folder))
        swaps += came
        faults += wrong
    groups = itertools.groupby(sorted(swaps, key=_group), key=_group)
    rows = [medians(list(group)) for _, group in groups]
    console = Console(width=None if sys.stdout.isatty() else PIPED_WIDTH, highlight=False)
    show(rows, console)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    kept = {
        "medians": rows,
        "swaps": [asdict(swap) for swap in swaps],
        "faults": faults,
        "missed": missed(rows),
    }
    arguments.out.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    for text in [*faults, *missed(rows)]:
        console.print(text, style="red", markup=False)
    sys.exit(1 if faults or (arguments.check and missed(rows)) else 0)


def _group(swap: Swap) -> tuple[int, str]:
    return swap.trees, swap.way


if __name__ == "__main__":
    main()
