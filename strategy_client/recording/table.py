"""A run's summary as tables for a person. Needs rich."""

from collections.abc import Iterable
from typing import Final

from rich.console import Group, JustifyMethod, RenderableType
from rich.table import Table

from strategy_client.recording.summary import StrategySummary, Summary
from strategy_client.shadow import shadow_id

DIGEST_DIGITS: Final = 12
NUMBERS: Final = frozenset({"ticks", "BUY", "SELL", "answers", "version"})
US_PER_MS: Final = 1_000
MAX_BAD_LINES_SHOWN: Final = 3


def summary_table(summary: Summary) -> RenderableType:
    """Return one row a strategy, one row a model version that answered it, and the run as a whole.

    On 80 columns no number is cut off; a long name goes on in the next line.
    """
    strategies = _table("strategy", "ticks", "BUY", "SELL", "no signal because")
    answers = _table("strategy", "answers", "by model", "version", "digest")
    for each in summary.strategies:
        strategies.add_row(
            each.strategy_id,
            f"{each.ticks:,}",
            f"{each.outcomes.get('BUY', 0):,}",
            f"{each.outcomes.get('SELL', 0):,}",
            "\n".join(f"{reason} {count:,}" for reason, count in each.reasons.items()),
        )
        named = [(each.strategy_id, model) for model in each.models]
        named += [(shadow_id(each.strategy_id), model) for model in each.shadow_models]
        for name, model in named:
            answers.add_row(
                name,
                f"{model.answers:,}",
                model.model,
                str(model.version),
                model.digest[:DIGEST_DIGITS],
            )
    tables = [strategies, answers] if answers.row_count else [strategies]
    return Group(*(part for table in tables for part in (table, "")), *_lines(summary))


def _table(*titles: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        name = title in {"strategy", "by model"}
        justify: JustifyMethod = "right" if title in NUMBERS else "left"
        table.add_column(title, justify=justify, no_wrap=not name, overflow="fold")
    return table


def in_unit(duration_us: float) -> str:
    """Return a duration in the unit that suits it."""
    return f"{duration_us:.1f} us" if duration_us < US_PER_MS else f"{duration_us / US_PER_MS:.2f} ms"


def _drift(strategy: StrategySummary) -> Iterable[str]:
    drift = strategy.drift
    if drift is None:
        return
    yield f"{strategy.strategy_id}: features outside of the training range, of {drift.rows:,} rows"
    for name in drift.features:
        sides = {"below": drift.below[name], "above": drift.above[name]}
        if any(sides.values()):
            yield f"  {name}: " + ", ".join(f"{count:,} {side}" for side, count in sides.items() if count)


def _shadow(strategy: StrategySummary) -> Iterable[str]:
    shadow = strategy.shadow
    if shadow is None:
        return
    agreed = f"{shadow.agreement:.2%} of {shadow.compared:,} ticks"
    yield f"{strategy.strategy_id}: its shadow did the same on {agreed}"
    yield f"  same side {shadow.same_side:,}, neither {shadow.both_none:,}, differ {shadow.differ:,}"
    if shadow.differences:
        yield (
            f"  probabilities differ by {shadow.mean_difference:.4f} in the mean, "
            f"{shadow.largest_difference:.4f} at most"
        )


def _timing(summary: Summary) -> str:
    latency = summary.latency_us
    if latency is None:
        return f"asked {summary.window} ticks at a time (--window 1 tells a tick's latency)"
    return f"tick latency median {in_unit(latency.median)}, 99th percentile {in_unit(latency.p99)}"


def _lines(summary: Summary) -> Iterable[str]:
    pace = f"{summary.ticks:,} ticks in {summary.seconds:.1f} s, {summary.ticks_per_s:,.0f} ticks/s"
    yield f"{pace}; {_timing(summary)}"
    for each in summary.replaced:
        done = "not replaced" if each.refused else "replaced"
        why = f": {each.refused}" if each.refused else ""
        yield f"tick {each.tick:,}: {each.model} {done} by {each.digest[:DIGEST_DIGITS]}{why}"
    if summary.calls is not None:
        yield f"{summary.calls.requests:,} requests to the sidecar, {summary.failed_calls:,} failed"
    refused = {"invalid": summary.edge.invalid, "out of order": summary.edge.out_of_order}
    if any(refused.values()):
        yield "ticks refused: " + ", ".join(f"{count:,} {why}" for why, count in refused.items() if count)
    for strategy in summary.strategies:
        yield from _drift(strategy)
        yield from _shadow(strategy)
    if summary.bad_lines:
        yield f"bad lines skipped: {summary.bad_lines:,}"
        yield from (f"  {line}" for line in summary.first_bad_lines[:MAX_BAD_LINES_SHOWN])
    yield ""
    yield from summary.files.values()
