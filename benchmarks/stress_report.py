"""What a stress run came to: the figures, what they were to be, and the tables that show them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from onlooker import Onlooker
from process_size import Size, slope
from removed_calls import RemovedCalls
from rich.console import Console
from rich.table import Column, Table

TAIL_PERCENTILE: Final = 99.9
MAX_TAIL_RATIO: Final = 2.0
# What may be called flat, per 1,000 swaps.
MAX_SLOPES: Final = {"resident_mib": 10.0, "vetting_mib": 10.0, "threads": 2.0, "descriptors": 2.0}
RESAMPLES: Final = 1_000

Seen = Mapping[str, Mapping[str, Mapping[str, Any]]]


@dataclass(slots=True)
class Came:
    """Everything that a run saw.

    `clients` by kind and phase, phases being `swaps N`, `idle N` and `mix`; `sizes` are of the time before
    the mix.
    """

    swaps: int
    taken_ms: dict[str, list[float]]
    sizes: list[Size]
    clients: Seen
    onlooker: Onlooker
    removed: RemovedCalls = field(default_factory=RemovedCalls)
    killed_clients: int = 0
    after_mix: Size | None = None


@dataclass(frozen=True, slots=True)
class Tail:
    """The 99.9th percentile during swaps against idle, all rounds pooled.

    `low` and `high` hold 90 % of the ratios that drawing as many rounds again, with replacement, gives;
    `by_round` are the ratios of each round's swaps to the idle time beside it.
    """

    idle_us: float
    swaps_us: float
    ratio: float
    low: float
    high: float
    by_round: list[float]


def tail(clients: Seen, measure: str) -> Tail:
    """Return the tail of `latency_us` or `wait_us`."""
    rounds = [
        (_pooled(clients, f"swaps {number}", measure), _pooled(clients, f"idle {number}", measure))
        for number in range(_rounds(clients))
    ]
    rng = np.random.default_rng(0)
    drawn = [
        _ratio([rounds[index] for index in rng.integers(len(rounds), size=len(rounds))])
        for _ in range(RESAMPLES)
    ]
    low, high = np.percentile(drawn, [5, 95])
    return Tail(
        idle_us=_tail_us(idle for _, idle in rounds),
        swaps_us=_tail_us(swaps for swaps, _ in rounds),
        ratio=_ratio(rounds),
        low=float(low),
        high=float(high),
        by_round=[_ratio([one]) for one in rounds],
    )


def wrongs(came: Came) -> list[str]:
    """Return what failed or lied, a line each; empty: nothing."""
    found = [
        f"{kind}, {name}: {phase['failed']} failed, {phase['mixed']} mixed: {'; '.join(phase['faults'])}"
        for kind, phases in came.clients.items()
        for name, phase in phases.items()
        if phase["failed"] or phase["mixed"]
    ]
    if came.onlooker.failed:
        found.append(f"looks: {came.onlooker.failed} failed: {'; '.join(came.onlooker.faults)}")
    if came.removed.failed:
        found.append(
            f"calls on removed versions: {came.removed.failed} failed: {'; '.join(came.removed.faults)}"
        )
    if came.removed.calls and not came.removed.outlived:
        found.append("no call outlived the removal of its version: that they complete is not shown")
    return found


def missed(came: Came) -> list[str]:
    """Return which targets of speed and size were missed, a line each."""
    found = []
    ratio = tail(came.clients, "latency_us").ratio
    if ratio > MAX_TAIL_RATIO:
        found.append(f"the tail during swaps is {ratio:.2f} times that of idle, expected {MAX_TAIL_RATIO:g}")
    for name, bound in MAX_SLOPES.items():
        growth = slope(came.sizes, name)
        if not growth <= bound:
            found.append(f"{name} grows by {growth:.2f} per 1,000 swaps, expected at most {bound:g}")
    return found


def exit_code(came: Came, *, check: bool) -> int:
    """Return 1 where a call failed or an answer lied, and with `check` where a target was missed; else 0."""
    return 1 if wrongs(came) or (check and missed(came)) else 0


def figures(came: Came) -> dict[str, Any]:
    """Return what is worth keeping, for JSON: no single latencies."""
    return {
        "swaps": came.swaps,
        "taken_ms": {what: _spread(values) for what, values in came.taken_ms.items()},
        "clients": {
            f"{kind}, {group}": counts
            for kind, phases in came.clients.items()
            for group, counts in _grouped(phases).items()
        },
        "tail_latency": asdict(tail(came.clients, "latency_us")),
        "tail_wait": asdict(tail(came.clients, "wait_us")),
        "looks": came.onlooker.looks,
        "looks_failed": came.onlooker.failed,
        "removed_calls": asdict(came.removed),
        "killed_clients": came.killed_clients,
        "size_after_mix": None if came.after_mix is None else asdict(came.after_mix),
        "sizes": [asdict(size) for size in came.sizes],
        "slopes_per_1000_swaps": {name: slope(came.sizes, name) for name in MAX_SLOPES},
        "wrong": wrongs(came),
        "missed": missed(came),
    }


def show(came: Came, console: Console) -> None:
    """Print the figures."""
    kept = figures(came)
    calls = Table(
        "client, phase", *_right("calls", "failed", "mixed", "late", "p50 µs", "p99 µs", "p99.9 µs")
    )
    for name, counts in kept["clients"].items():
        calls.add_row(
            name,
            *(f"{counts[key]:,}" for key in ("calls", "failed", "mixed", "late")),
            *(f"{value:,.0f}" for value in counts["latency_us"] or ()),
        )
    console.print(calls)
    tails = Table(
        "99.9th percentile of all", *_right("idle µs", "swaps µs", "ratio", "90 % of resamples", "rounds")
    )
    for name, key in (("from the call", "tail_latency"), ("from when it was due", "tail_wait")):
        one = kept[key]
        rounds = np.percentile(one["by_round"], [25, 50, 75])
        tails.add_row(
            name,
            f"{one['idle_us']:,.0f}",
            f"{one['swaps_us']:,.0f}",
            f"{one['ratio']:.2f}",
            f"{one['low']:.2f} to {one['high']:.2f}",
            " / ".join(f"{value:.2f}" for value in rounds),
        )
    console.print(tails)
    swaps = Table("from the file to what callers get", *_right("swaps", "median ms", "longest ms"))
    for what, spread in kept["taken_ms"].items():
        swaps.add_row(what, f"{spread['count']:,}", f"{spread['median']:.0f}", f"{spread['longest']:.0f}")
    console.print(swaps)
    sizes = Table(
        "the sidecar", *_right("before", "after the swaps", "slope per 1,000 swaps", "after the mix")
    )
    for name in MAX_SLOPES:
        first, last = (getattr(size, name) for size in (came.sizes[0], came.sizes[-1]))
        after_mix = "" if came.after_mix is None else f"{getattr(came.after_mix, name):.0f}"
        sizes.add_row(name, f"{first:.0f}", f"{last:.0f}", f"{slope(came.sizes, name):+.2f}", after_mix)
    console.print(sizes)
    looks = ", ".join(f"{name} {count:,}" for name, count in came.onlooker.looks.items())
    console.print(f"looks during all of it: {looks}; {came.onlooker.failed} failed")
    removed = came.removed
    console.print(
        f"calls in flight on a version as it was removed: {removed.calls}, {removed.failed} failed, "
        f"{removed.too_late} came after it, "
        f"{removed.outlived} ended after it was gone; clients killed: {came.killed_clients}"
    )


def _right(*names: str) -> tuple[Any, ...]:
    return tuple(Column(name, justify="right") for name in names)


def _rounds(clients: Seen) -> int:
    return min(
        sum(name.startswith("idle ") for name in phases) for phases in clients.values() if "idle 0" in phases
    )


def _pooled(clients: Seen, phase: str, measure: str) -> NDArray[np.float64]:
    return np.concatenate(
        [np.array(phases[phase][measure]) for phases in clients.values() if phase in phases]
    )


def _tail_us(parts: Iterable[NDArray[np.float64]]) -> float:
    return float(np.percentile(np.concatenate(list(parts)), TAIL_PERCENTILE))


def _ratio(rounds: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]]) -> float:
    return _tail_us(swaps for swaps, _ in rounds) / _tail_us(idle for _, idle in rounds)


def _grouped(phases: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the counts and percentiles of each kind of phase, its rounds together.

    There are no percentiles where nothing was answered, as may happen to an impatient client.
    """
    grouped: dict[str, dict[str, Any]] = {}
    for group in ("idle", "swaps", "mix"):
        parts = [phase for name, phase in phases.items() if name.split()[0] == group]
        if parts:
            latency_us = np.concatenate([np.array(part["latency_us"]) for part in parts])
            grouped[group] = {
                **{key: sum(part[key] for part in parts) for key in ("calls", "failed", "mixed", "late")},
                "latency_us": np.percentile(latency_us, [50, 99, TAIL_PERCENTILE]).tolist()
                if len(latency_us)
                else None,
            }
    return grouped


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"count": len(values), "median": float(np.median(values)), "longest": max(values)}
