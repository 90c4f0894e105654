"""What a measurement found: numbers beside each other, and what they were to be."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from interleaved import Ratio, Series

AT_MOST: Final = "at most"
AT_LEAST: Final = "at least"


@dataclass(frozen=True, slots=True)
class Line:
    """One subject: its series, and how it stands to its floor or peer.

    `bound` is what the ratio is to be, `sense` AT_MOST or AT_LEAST that; None where nothing is asked.
    """

    name: str
    series: Series
    floor: str = ""
    ratio: Ratio | None = None
    bound: float | None = None
    sense: str = AT_MOST

    @property
    def met(self) -> bool | None:
        """Whether the median ratio keeps the bound; None without one."""
        if self.bound is None or self.ratio is None:
            return None
        if self.sense == AT_MOST:
            return self.ratio.median <= self.bound
        return self.ratio.median >= self.bound


@dataclass(frozen=True, slots=True)
class Curve:
    """How a cost grows: a series for each size, and exponents of power laws.

    `exponent` is through the larger half of the sizes, `last` between the two largest: where they differ, the
    curve bends.
    """

    name: str
    sizes: Sequence[int]
    medians: Sequence[float]
    unit: str
    exponent: float
    last: float

    @classmethod
    def through(cls, name: str, series: Mapping[int, Series]) -> "Curve":
        """Return the curve through series by size; at least two."""
        sizes = sorted(series)
        medians = [series[size].median for size in sizes]
        half = slice(min(len(sizes) // 2, len(sizes) - 2), None)
        exponent, last = (
            float(np.polyfit(np.log(sizes[part]), np.log(medians[part]), 1)[0])
            for part in (half, slice(-2, None))
        )
        return cls(name, sizes, medians, series[sizes[0]].unit, exponent, last)


@dataclass(frozen=True, slots=True)
class Finding:
    """All that one measurement says. `skipped` says why there is nothing."""

    measurement: str
    title: str
    lines: Sequence[Line] = ()
    curves: Sequence[Curve] = ()
    notes: Sequence[str] = ()
    skipped: str = ""
    machine: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        plain = asdict(self)
        for told, line in zip(plain["lines"], self.lines, strict=True):
            told["median"] = line.series.median
            told["met"] = line.met
        return plain


def compare(
    name: str,
    series: Mapping[str, Series],
    floor: str,
    *,
    bound: float | None = None,
    sense: str = AT_MOST,
) -> Line:
    """Return the line of a subject beside its floor or peer."""
    return Line(name, series[name], floor, Ratio.of(series[name], series[floor]), bound, sense)


def write_findings(findings: Sequence[Finding], machine: Mapping[str, Any], file: Path) -> None:
    """Write a JSON file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    told = {"machine": dict(machine), "findings": [finding.to_json() for finding in findings]}
    file.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


def table_of(findings: Sequence[Finding]) -> str:
    """Return the lines and curves as tables in Markdown."""
    rows = [
        "| what | median | beside | ratio (lowest to highest) | asked | |",
        "|---|---:|---|---:|---:|---|",
    ]
    for finding in findings:
        for line in finding.lines:
            asked = "" if line.bound is None else f"{line.sense} {line.bound:g}"
            verdict = {None: "", True: "met", False: "**not met**"}[line.met]
            rows.append(
                f"| {line.name} | {_shown(line.series)} | {line.floor} | {line.ratio or ''} "
                f"| {asked} | {verdict} |"
            )
    curves = [curve for finding in findings for curve in finding.curves]
    if curves:
        rows += [
            "",
            "| how it grows | smallest | largest | exponent | at its end |",
            "|---|---:|---:|---:|---:|",
        ]
    for curve in curves:
        ends = [
            f"{size:,}: {number(median)} {curve.unit}"
            for size, median in list(zip(curve.sizes, curve.medians, strict=True))[:: len(curve.sizes) - 1]
        ]
        rows.append(f"| {curve.name} | {ends[0]} | {ends[1]} | {curve.exponent:.2f} | {curve.last:.2f} |")
    return "\n".join(rows) + "\n"


def _shown(series: Series) -> str:
    return f"{number(series.median)} {series.unit}"


def number(value: float) -> str:
    """Return a number with three places that count, or whole from a thousand on."""
    return f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"
