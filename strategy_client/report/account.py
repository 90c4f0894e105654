"""What a session came to, in words and tables: from what the run itself counted."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np

from strategy_client.report.charts import DIGEST_CHARACTERS, SIDES, side_of
from strategy_client.report.recording import NO_MODEL, Recording

NS_PER_S: Final = 1_000_000_000
# Reasons that say that something did not work, the worst first; others are the market's or the user's.
FAILURES: Final[Mapping[str, str]] = {
    "PROCESSOR_ERROR": "a processor raised",
    "INVALID_SIGNAL": "a processor wanted what no broker takes",
    "CONTRACT_MISMATCH": "the model served was not the one that the strategy was made for",
    "MODEL_NOT_FOUND": "the sidecar knew no such model",
    "MODEL_NOT_READY": "the model was not available",
    "UNAVAILABLE": "the sidecar could not be asked",
    "DEADLINE_EXCEEDED": "no answer came by the deadline",
    "BREAKER_OPEN": "the sidecar was not asked, as it had not answered before",
}
CAUTIONS: Final[Mapping[str, str]] = {
    "NON_FINITE": "a price, feature or answer was no finite number",
    "OUT_OF_RANGE": "a price or feature lay where the model was never trained",
    "STALE_TICK": "the tick was too old, out of order, or had no time zone",
    "MODEL_STALE": "the model was older than its strategy allows",
}
# What is counted of the ticks and requests of a run, in words.
FACTS: Final[Sequence[tuple[str, str, str]]] = (
    ("edge", "taken", "ticks taken"),
    ("edge", "unknown_instrument", "ticks of an instrument that no strategy knows"),
    ("edge", "invalid", "ticks refused for a price or time that is none"),
    ("edge", "out_of_order", "ticks older than the one before"),
    ("edge", "ahead", "ticks from the future"),
    ("edge", "stale", "ticks that came too late"),
    ("bad_lines", "count", "lines that are no ticks"),
    ("calls", "requests", "requests to the sidecar"),
    ("calls", "answered", "requests answered in time"),
    ("calls", "missed", "requests not answered by the deadline"),
    ("calls", "failed", "requests that failed"),
    ("calls", "late", "answers after their deadline, dropped"),
    ("calls", "streams", "connections made"),
    ("calls", "breaker_opened", "times the circuit breaker opened"),
)
MAX_NAMED: Final = 3
GOOD, WARN, BAD = "good", "warn", "bad"


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the page; numbers are lined up at the right."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | int | float]]
    note: str = ""


def totals(recording: Recording) -> dict[str, Counter[str]]:
    """Return how often each outcome came, by strategy."""
    names = recording.outcome_names
    return {
        track.strategy_id: Counter(
            {names[code]: int(count) for code, count in enumerate(np.bincount(track.outcomes)) if count}
        )
        for track in recording.strategies
    }


def verdict(recording: Recording, counted: Mapping[str, Counter[str]]) -> dict[str, Any]:
    """Return whether a person has to look closer, at what, and when it came."""
    came: Counter[str] = sum(counted.values(), Counter())
    points = [
        f"{name}, {came[name]:,} times: {why} ({_whose(counted, name)}), {_when(recording, name)}"
        for name, why in (*FAILURES.items(), *CAUTIONS.items())
        if came[name]
    ]
    signals = sum(came[side] for side in SIDES)
    spoken = f"{signals:,} signals from {len(counted)} strategies"
    if any(came[name] for name in FAILURES):
        return {"tone": BAD, "text": f"{spoken}; some ticks went without an answer", "points": points}
    if points:
        return {"tone": WARN, "text": f"{spoken}; some ticks could not be used", "points": points}
    return {"tone": GOOD, "text": f"{spoken}; every question was answered", "points": points}


def outcome_table(counted: Mapping[str, Counter[str]]) -> Table:
    """Return each strategy's outcomes; a row adds up to its ticks."""
    names = [*SIDES, *sorted({name for each in counted.values() for name in each} - set(SIDES))]
    return Table(
        "Outcomes",
        ["strategy", "ticks", *names],
        [[each, count.total(), *(count[name] for name in names)] for each, count in counted.items()],
        "Each tick of a strategy's instruments gave it exactly one of these.",
    )


def model_table(recording: Recording) -> Table | None:
    """Return which bytes answered whom, and from which tick on; None where no model was asked."""
    rows: list[list[str | int | float]] = []
    for track in recording.strategies:
        for code in dict.fromkeys(track.made_by[track.made_by != NO_MODEL].tolist()):
            by_it = track.ticks[track.made_by == code]
            model = recording.models[code]
            rows.append(
                [
                    track.strategy_id,
                    model.model,
                    model.version,
                    model.digest[:DIGEST_CHARACTERS],
                    len(by_it),
                    int(recording.index[by_it[0]]),
                    int(recording.index[by_it[-1]]),
                ]
            )
    columns = ["strategy", "model", "version", "SHA-256", "answers", "first tick", "last tick"]
    return Table("Model versions", columns, rows) if rows else None


def shadow_table(recording: Recording) -> Table | None:
    """Return how far each shadow went along with the live model; None where there was none."""
    rows: list[list[str | int | float]] = []
    sides = side_of(recording)
    for track in recording.shadows:
        counted = _strategies(recording.summary).get(track.strategy_id, {}).get("shadow", {})
        apart = counted.get("probability_difference", {})
        same = int((sides[track.live] == sides[track.shadow]).sum())
        rows.append(
            [
                track.strategy_id,
                f"{track.model.model} v{track.model.version}" if track.model else "never answered",
                len(track.ticks),
                f"{100 * same / len(track.ticks):.1f} %",
                f"{apart['mean']:.4f}" if apart.get("compared") else "",
                f"{apart['largest']:.4f}" if apart.get("compared") else "",
            ]
        )
    columns = ["strategy", "shadow", "ticks", "did the same", "mean difference", "largest difference"]
    note = (
        "The same is the same side, or no signal of either. The difference is the largest between the two "
        "probabilities of one class, where both models answered."
    )
    return Table("Shadow against live", columns, rows, note) if rows else None


def drift_table(summary: Mapping[str, Any]) -> Table | None:
    """Return which features left the range that their model was trained in; None where none did."""
    rows: list[list[str | int | float]] = []
    for strategy_id, strategy in _strategies(summary).items():
        drift = strategy.get("drift", {})
        below, above = drift.get("below", {}), drift.get("above", {})
        rows += [
            [strategy_id, name, drift["rows"], below.get(name, 0), above.get(name, 0)]
            for name in sorted({*below, *above})
        ]
    columns = ["strategy", "feature", "rows", "below", "above"]
    note = "Rows in which a feature lay outside of what the model saw in training, on each side."
    return Table("Features outside of the training range", columns, rows, note) if rows else None


def facts_table(summary: Mapping[str, Any]) -> Table | None:
    """Return what the run counted besides, as far as it is more than 0; None for nothing."""
    rows = [[name, value] for name, value in _leaves(summary) if value]
    return Table("Ticks and requests", ["counted", "times"], rows) if rows else None


def replaced_table(summary: Mapping[str, Any]) -> Table | None:
    """Return the files that were put in a model's place on the way; None where there were none."""
    rows = [
        [each["tick"], each["model"], each["digest"][:DIGEST_CHARACTERS], each["refused"] or "served"]
        for each in summary.get("replaced", ())
    ]
    return (
        Table("Model files replaced", ["before tick", "model", "SHA-256", "came of it"], rows)
        if rows
        else None
    )


def _strategies(summary: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    """Return what the run counted of each strategy; nothing of a run that was cut off."""
    strategies: Mapping[str, Mapping[str, Any]] = summary.get("strategies", {})
    return strategies


def _leaves(summary: Mapping[str, Any]) -> Iterable[tuple[str, int | float]]:
    for key, name, words in FACTS:
        value = (summary.get(key) or {}).get(name, 0)
        if isinstance(value, int | float):
            yield words, value


def _when(recording: Recording, name: str) -> str:
    """Return when an outcome first and last came, by the ticks' own time, and on which instruments."""
    code = recording.outcome_names.index(name)
    rows = np.concatenate([track.ticks[track.outcomes == code] for track in recording.strategies])
    came_ns = recording.time_ns[rows]
    days = {f"{_utc(at_ns):%Y-%m-%d}" for at_ns in (recording.time_ns.min(), recording.time_ns.max())}
    form = "%H:%M:%S" if len(days) == 1 else "%Y-%m-%d %H:%M:%S"
    first, last = (_utc(at_ns).strftime(form) for at_ns in (came_ns.min(), came_ns.max()))
    when = f"at {first} UTC" if first == last else f"from {first} to {last} UTC"
    if len(recording.tokens) == 1:
        return when
    tokens = np.unique(recording.token[rows]).tolist()
    more = f" and {len(tokens) - MAX_NAMED} more" if len(tokens) > MAX_NAMED else ""
    return f"{when}, on {', '.join(map(str, tokens[:MAX_NAMED]))}{more}"


def _utc(at_ns: np.int64) -> datetime:
    return datetime.fromtimestamp(int(at_ns) / NS_PER_S, UTC)


def _whose(counted: Mapping[str, Counter[str]], name: str) -> str:
    return ", ".join(strategy_id for strategy_id, count in counted.items() if count[name])
