"""A live run's numbers at its end, in the form of a replay's."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from strategy_client.live.account import StrategyAccount
from strategy_client.live.view import View
from strategy_client.recording.summary import ModelAnswers, StrategySummary, Summary, TickLatency
from strategy_client.runner import StrategyRunner
from strategy_client.shadow import shadow_id
from strategy_client.sources.bad_line import BadLines

NS_PER_US: Final = 1_000


def summarise_live(view: View, bad: BadLines, files: Mapping[str, Path]) -> Summary:
    """Return the summary of a run that has ended.

    Its quantiles of the ticks' latency are right to 2.5 %: a run without an end cannot keep each duration.
    """
    account, runner = view.parts.account, view.parts.runner
    median, p99, longest = (account.latency.quantile_ns(part) / NS_PER_US for part in (0.5, 0.99, 1.0))
    return Summary(
        ticks=view.loop.ticks if view.loop else 0,
        seconds=view.seconds,
        window=1,
        latency_us=TickLatency(round(median, 1), round(p99, 1), round(longest, 1)),
        strategies=[_summarise(each, runner) for each in account.strategies],
        edge=runner.counts,
        bad_lines=bad.count,
        first_bad_lines=[str(line) for line in bad.first],
        replaced=[],
        calls=view.call_counts if any(each.learned for each in account.strategies) else None,
        files={name: str(path) for name, path in files.items()},
        deadline_ms=view.deadline_ms,
        transports=[endpoint.transport for endpoint in view.endpoints],
    )


def _summarise(account: StrategyAccount, runner: StrategyRunner) -> StrategySummary:
    shadow_answers = runner.answered_by.get(shadow_id(account.strategy_id), Counter())
    drift = runner.drift.get(account.strategy_id)
    return StrategySummary(
        strategy_id=account.strategy_id,
        strategy_type=account.strategy_type,
        learned=account.learned,
        ticks=account.ticks,
        outcomes=dict(sorted(account.outcomes.items())),
        models=[ModelAnswers(*key, count) for key, count in account.answers.items()],
        drift=drift if drift is not None and (drift.below or drift.above) else None,
        shadow=account.shadow,
        shadow_models=[ModelAnswers(*key, count) for key, count in shadow_answers.items()],
    )


def closing_lines(view: View) -> Iterator[str]:
    """Yield what a replay's summary has no place for: queues, and what went wrong, by kind."""
    parts = view.parts
    for broker, sink in view.sinks.items():
        lost = f", {sink.dropped + sink.failed + sink.queued:,} lost" if sink.sent != sink.taken else ""
        yield f"{broker}: {sink.sent:,} signals delivered{lost}"
    if parts.audit is not None:
        counts = parts.audit.counts
        yield f"audit log: {counts.written:,} records, {counts.dropped + counts.dropped_shadows:,} dropped"
    if parts.recorder is not None and (parts.recorder.dropped or parts.recorder.problem):
        yield f"recording: {parts.recorder.dropped:,} left out. {parts.recorder.problem}".rstrip()
    if parts.intake.waiting:
        yield f"{parts.intake.waiting:,} ticks had come and were not taken any more"
    if parts.intake.problem:
        yield parts.intake.problem
    for kind, count in sorted(parts.journal.counts.items()):
        yield f"problems, {kind}: {count:,}"
