"""How many calls each version had and how long they took: since its start, or since an earlier look."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Self

from open_inference.v2 import inference_pb2 as oip
from rich.table import Table

from inference_server.report import plain_table


@dataclass(frozen=True, slots=True)
class Counts:
    """Calls and rows of one version, and the times of the calls that were answered, together."""

    answered: int = 0
    failed: int = 0
    rows: int = 0
    total_ns: int = 0
    queue_ns: int = 0
    run_ns: int = 0

    @classmethod
    def of(cls, statistics: oip.ModelStatistics) -> Self:
        """Read them from what the sidecar says of a version."""
        told = statistics.inference_stats
        return cls(
            answered=told.success.count,
            failed=told.fail.count,
            rows=statistics.inference_count,
            total_ns=told.success.ns,
            queue_ns=told.queue.ns,
            run_ns=told.compute_infer.ns,
        )

    def since(self, earlier: Self) -> Self:
        """Return what came since then; all of it where the sidecar counts from 0 again."""
        came = type(self)(
            **{each.name: getattr(self, each.name) - getattr(earlier, each.name) for each in fields(self)}
        )
        return self if came.answered < 0 or came.failed < 0 else came


@dataclass(frozen=True, slots=True)
class Look:
    """What was counted at a moment of the monotonic clock, in seconds, by "MODEL:VERSION"."""

    at_s: float
    counts: Mapping[str, Counts]

    @classmethod
    def at(cls, at_s: float, response: oip.ModelStatisticsResponse) -> Self:
        """Read what the sidecar says."""
        return cls(at_s, {f"{each.name}:{each.version}": Counts.of(each) for each in response.model_stats})


def calls_view(look: Look, earlier: Look | None) -> Table:
    """Return a row for each version that was ever called: totals, or a second since the earlier look.

    The times are means, of the calls counted in the row.
    """
    table = plain_table("in all" if earlier is None else "a second")
    for heading in ("answered", "failed", "rows", "time", "wait", "run"):
        table.add_column(heading, justify="right", no_wrap=True)
    for version, total in look.counts.items():
        if not total.answered and not total.failed:
            continue
        counts, passed_s = total, 0.0
        if earlier is not None:
            counts = total.since(earlier.counts.get(version, Counts()))
            passed_s = look.at_s - earlier.at_s
        cells = [
            f"{number / passed_s:.1f}" if passed_s else str(number)
            for number in (counts.answered, counts.failed, counts.rows)
        ]
        cells += [
            shown_duration(time_ns / counts.answered) if counts.answered else ""
            for time_ns in (counts.total_ns, counts.queue_ns, counts.run_ns)
        ]
        table.add_row(version, *cells)
    return table


def shown_duration(duration_ns: float) -> str:
    """Return "8.5 us", "120 us", "1.3 ms" or "2.5 s"."""
    for unit, size_ns in (("us", 1e3), ("ms", 1e6)):
        amount = duration_ns / size_ns
        if amount < 999.5:
            return f"{amount:.1f} {unit}" if amount < 99.95 else f"{amount:.0f} {unit}"
    return f"{duration_ns / 1e9:.1f} s"
