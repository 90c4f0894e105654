"""Pictures of curves, as SVG: both axes logarithmic, so that a power law is a straight line."""

import re
from collections.abc import Sequence
from math import ceil, floor, log10
from pathlib import Path

import matplotlib as mpl
from finding import Curve, number
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

mpl.rcParams["svg.fonttype"] = "none"  # text stays text
mpl.rcParams["svg.hashsalt"] = "tickserve"  # the same curve gives the same file


def draw(curves: Sequence[Curve], folder: Path) -> list[Path]:
    """Write a picture for each curve; return the files."""
    return [_draw(curve, folder / f"{_file_name(curve.name)}.svg") for curve in curves]


def _draw(curve: Curve, file: Path) -> Path:
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    axes.loglog(curve.sizes, curve.medians, marker="o", color="#1f5fa8", linewidth=1.8)
    for place in (0, -1):
        axes.annotate(
            f"{number(curve.medians[place])} {curve.unit}",
            (curve.sizes[place], curve.medians[place]),
            xytext=(8 if place == 0 else -8, 10),
            textcoords="offset points",
            ha="left" if place == 0 else "right",
        )
    grows = f"grows by the power {curve.exponent:.2f} over the larger half, {curve.last:.2f} at its end"
    axes.set_title(f"{curve.name}\n{grows}", fontsize=10)
    axes.set_xlabel(_last_word(curve.name))
    axes.set_ylabel(f"median, {curve.unit}")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
        axis.set_minor_formatter(NullFormatter())
    # Whole powers of ten, so that the steepness of two pictures can be compared.
    axes.set_ylim(10 ** floor(log10(min(curve.medians) * 0.9)), 10 ** ceil(log10(max(curve.medians) * 1.5)))
    axes.grid(visible=True, which="major", color="#dddddd")
    axes.spines[["top", "right"]].set_visible(False)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, metadata={"Date": None})
    return file


def _file_name(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _last_word(name: str) -> str:
    return name.partition(" by ")[2] or name
