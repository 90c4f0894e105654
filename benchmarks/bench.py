"""All measurements of speed, each beside a floor or a peer in the same run.

    python benchmarks/bench.py [--only NAME ...] [--rounds N] [--short] [--out FOLDER]    # or: make bench

Prints a table, and writes `bench.json` with every number, `bench.md` with the table and a picture for each
curve. `--short` makes each as small as it can be, which proves that it runs and measures nothing.
"""

import argparse
import importlib
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from finding import Finding, table_of, write_findings
from machine import Ticks, describe_machine, load_between

OUT: Final = Path("build/benchmarks")


@dataclass(frozen=True, slots=True)
class Effort:
    """How much to measure. A `short` run proves only that the harness works."""

    rounds: int = 7
    short: bool = False

    def calls(self, wanted: int) -> int:
        """Return how many calls to make a round, where a long run makes `wanted`."""
        return min(wanted, 5) if self.short else wanted

    def sizes(self, wanted: list[int]) -> list[int]:
        """Return which sizes of a curve to measure."""
        return wanted[:2] if self.short else wanted


# Each is a module with `measure(effort) -> Finding`; imported when it is measured.
MEASUREMENTS: Final = (
    "tick",
    "tick_parts",
    "transport",
    "one_row",
    "load",
    "start",
    "strategy",
    "floors",
    "replay",
    "growth",
    "memory",
)


def measurement(name: str) -> Callable[[Effort], Finding]:
    """Return the function that measures."""
    measure: Callable[[Effort], Finding] = importlib.import_module(f"measure_{name}").measure
    return measure


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=MEASUREMENTS, default=list(MEASUREMENTS), metavar="NAME")
    parser.add_argument("--rounds", type=int, default=Effort().rounds)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    effort = Effort(1 if options.short else options.rounds, options.short)
    findings = []
    for name in options.only:
        before = Ticks.now()
        print(f"{name} ...", file=sys.stderr, flush=True)
        finding = measurement(name)(effort)
        load = load_between(before, Ticks.now())
        findings.append(replace(finding, machine=load))
        print(table_of([finding]) if not finding.skipped else f"skipped: {finding.skipped}", flush=True)
        for note in finding.notes:
            print(f"  {note}", flush=True)
        print(f"  {load['seconds']:g} s, {load['stolen']:.1%} of the processors stolen", flush=True)
    write_findings(findings, describe_machine(), options.out / "bench.json")
    (options.out / "bench.md").write_text(table_of(findings), encoding="utf-8")
    curves = [curve for finding in findings for curve in finding.curves]
    if curves:
        from pictures import draw  # noqa: PLC0415 - nothing else needs matplotlib, which the extra `bench` has

        for picture in draw(curves, options.out):
            print(f"wrote {picture}", file=sys.stderr)


if __name__ == "__main__":
    # As at Ctrl-C, the servers that a measurement started are ended.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    main()
