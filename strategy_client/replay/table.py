"""A replay's summary as tables for a person. Needs rich."""

from collections.abc import Iterable
from typing import Final

from rich.console import Group, JustifyMethod, RenderableType
from rich.table import Table

from strategy_client.replay.summary import Summary

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
        for model in each.models:
            answers.add_row(
                each.strategy_id,
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
    if summary.edge.invalid or summary.edge.out_of_order:
        yield f"{summary.edge.invalid:,} invalid ticks, {summary.edge.out_of_order:,} out of order"
    if summary.bad_lines:
        yield f"bad lines skipped: {summary.bad_lines:,}"
        yield from (f"  {line}" for line in summary.first_bad_lines[:MAX_BAD_LINES_SHOWN])
    yield ""
    yield from summary.files.values()
