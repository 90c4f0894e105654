"""A live run on a terminal: what comes of each strategy, and what is wrong now. Needs rich."""

import textwrap
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from strategy_client.binding import Unbound
from strategy_client.live.account import Account, StrategyAccount
from strategy_client.live.view import View
from strategy_client.predictor.breaker import BreakerState
from strategy_client.predictor.endpoints import EndpointState
from strategy_client.recording.table import DIGEST_DIGITS, in_unit

NS_PER_US: Final = 1_000
US_PER_MS: Final = 1_000
SIDES: Final = ("BUY", "SELL")
NOBODYS_FAILURE: Final = frozenset({*SIDES, "HOLD", "BELOW_THRESHOLD", "WARMING_UP", "DISABLED"})
MAX_REASONS: Final = 3
MAX_STRATEGIES: Final = 30
MAX_NAMED: Final = 5
MAX_CAUSE: Final = 100


@dataclass(slots=True)
class Rate:
    """What came between two looks: ticks a second, and what failed, by strategy."""

    _ticks: int = 0
    _at_s: float = 0.0
    _outcomes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    per_s: float = 0.0
    failing: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def look(self, ticks: int, outcomes: Mapping[str, Mapping[str, int]], now_s: float) -> float:
        """Return the rate since the look before; that one's own where no time has passed."""
        if now_s - self._at_s >= 0.5:
            self.per_s = (ticks - self._ticks) / (now_s - self._at_s)
            self.failing = {
                strategy_id: frozenset(
                    name
                    for name, count in counted.items()
                    if name not in NOBODYS_FAILURE
                    and count > self._outcomes.get(strategy_id, {}).get(name, 0)
                )
                for strategy_id, counted in outcomes.items()
            }
            self._ticks, self._outcomes, self._at_s = ticks, outcomes, now_s
        return self.per_s


def live_table(view: View, rate: Rate) -> RenderableType:
    """Return the whole picture; on 80 columns no number is cut off.

    What is wrong stands above the strategies: a terminal that is too low for all of it cuts off its end.
    """
    head = Text(headline(view, rate), style="bold")
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("strategy", overflow="fold")
    for title in ("BUY", "SELL"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("no signal because", overflow="fold")
    table.add_column("model", overflow="fold")
    accounts = [each for each in view.parts.account.strategies if each.running]
    enabled = {executor.strategy_id: executor.enabled for executor in view.executors}
    bindings = view.bindings
    for each in accounts[:MAX_STRATEGIES]:
        outcomes = dict(each.outcomes)
        off = not enabled.get(each.strategy_id, True)
        table.add_row(
            Text(f"{each.strategy_id} (off)" if off else each.strategy_id, style="dim" if off else ""),
            *(f"{outcomes.get(side, 0):,}" for side in SIDES),
            _reasons(outcomes, rate.failing.get(each.strategy_id, frozenset())),
            Text(_model(each, bindings)),
        )
    more = len(accounts) - MAX_STRATEGIES
    lines = [f"... and {more} more strategies"] if more > 0 else []
    return Group(head, *(Text(line) for line in notes(view)), "", table, *lines)


def headline(view: View, rate: Rate) -> str:
    """Return the run in one line."""
    account = view.parts.account
    ticks = view.loop.ticks if view.loop else 0
    per_s = rate.look(
        ticks, {each.strategy_id: dict(each.outcomes) for each in account.strategies}, view.seconds
    )
    return (
        f"{_duration(view.seconds)}  {ticks:,} ticks  {per_s:,.0f}/s  "
        f"{_latency(account)}  deadline {view.deadline_ms:g} ms  over {account.over_deadline:,}"
    )


def _latency(account: Account) -> str:
    if not account.ticks:
        return "no latency yet"
    median, p99 = (account.latency.quantile_ns(part) / NS_PER_US for part in (0.5, 0.99))
    return f"latency p50 {in_unit(median)} p99 {in_unit(p99)}"


def notes(view: View) -> Iterator[str]:
    """Yield a line for each of the sidecars and queues, and for what is wrong."""
    parts = view.parts
    if any(each.learned and each.running for each in parts.account.strategies):
        for endpoint in view.endpoints:
            yield _endpoint(endpoint, view)
    yield _queues(view)
    edge = [f"{count:,} {noticed}" for noticed, count in view.edge.items() if count and noticed != "taken"]
    if edge:
        yield f"at the edge: {', '.join(edge).replace('_', ' ')}"
    if parts.bad.count:
        yield f"{parts.bad.count:,} that are no ticks; the first: {parts.bad.first[0]}"
    if parts.silence.feed_silent:
        yield "THE FEED IS SILENT"
    elif silent := parts.silence.silent:
        named = ", ".join(map(str, list(silent)[:MAX_NAMED]))
        yield f"silent: {named}" + (f" and {len(silent) - MAX_NAMED} more" if len(silent) > MAX_NAMED else "")
    for problem in list(parts.watch.problems)[:MAX_NAMED]:
        yield f"configuration: {problem}"
    last = parts.journal.last
    if last is not None:
        at = time.strftime("%H:%M:%S", time.localtime(last.at_s))
        yield f"last problem, {at}: {last.kind}: {textwrap.shorten(last.text, MAX_CAUSE)}"


def _queues(view: View) -> str:
    parts = view.parts
    waiting = f"{parts.intake.waiting:,} of {parts.intake.max_waiting:,} ticks waiting"
    for broker, sink in view.sinks.items():
        lost = sink.dropped + sink.failed
        waiting += f"; {broker}: {sink.sent:,} sent" + (f", {sink.queued:,} queued" if sink.queued else "")
        waiting += f", {lost:,} lost" if lost else ""
    if parts.audit is not None:
        waiting += f"; audit {parts.audit.counts.written:,}"
        waiting += f", {parts.audit.counts.dropped:,} dropped" if parts.audit.counts.dropped else ""
    return waiting


def _endpoint(endpoint: EndpointState, view: View) -> str:
    counts = view.calls[endpoint.target]
    state = _state(endpoint)
    late = f", {counts.late:,} late" if counts.late else ""
    missed = f", {counts.missed:,} missed" if counts.missed else ""
    failed = f", {counts.failed:,} failed" if counts.failed else ""
    cause = f": {textwrap.shorten(endpoint.cause, MAX_CAUSE)}" if endpoint.cause else ""
    return (
        f"{endpoint.target} {state}, breaker {endpoint.breaker.value}, {counts.answered:,} answered "
        f"over {endpoint.transport}{missed}{failed}{late}{cause}"
    )


def _state(endpoint: EndpointState) -> str:
    if not endpoint.connected:
        return "not connected"
    if endpoint.breaker is BreakerState.OPEN:
        return "not asked"
    if endpoint.breaker is BreakerState.HALF_OPEN:
        return "on trial"
    return "in use" if endpoint.in_use else "standing by"


def _reasons(outcomes: Mapping[str, int], failing: frozenset[str]) -> Text:
    """Return why there was no signal, most often first, but what fails now before all else."""
    reasons = sorted(
        ((name, count) for name, count in outcomes.items() if name not in SIDES),
        key=lambda item: (item[0] not in failing, -item[1]),
    )
    lines = [
        Text(f"{name} {count:,} now", style="bold") if name in failing else Text(f"{name} {count:,}")
        for name, count in reasons[:MAX_REASONS]
    ]
    if rest := sum(count for _, count in reasons[MAX_REASONS:]):
        lines.append(Text(f"others {rest:,}"))
    return Text("\n").join(lines)


def _model(account: StrategyAccount, bindings: Mapping[str, object]) -> str:
    if not account.learned:
        return ""
    binding = bindings.get(account.strategy_id)
    if isinstance(binding, Unbound):
        return textwrap.shorten(f"{binding.reason.value}: {binding.detail}", MAX_CAUSE)
    if account.last_model is None:
        return "bound, not asked yet"
    model, version, digest = account.last_model
    return f"{model} {version} {digest[:DIGEST_DIGITS]}"


def _duration(seconds: float) -> str:
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
