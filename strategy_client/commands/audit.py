"""`strategy-client audit`: verify and show."""

import json
import math
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, time, tzinfo
from pathlib import Path
from typing import Annotated, Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from strategy_client.audit.decoder import Recorded
from strategy_client.audit.show import Event, Shown, Wish, find, first_time
from strategy_client.audit.verdict import DIFFERS, UNVERIFIED, VERIFIED, Tally, Verdict
from strategy_client.audit.verification import Verification, VerificationOptions
from strategy_client.commands.console import counted, err, out, reporting, tell
from strategy_client.commands.options import Ca, Certificate, Key, Target, TokenFile, TransportName
from strategy_client.configuration import ConfigurationError, Problem, did_you_mean
from strategy_client.edge import write_time
from strategy_client.events import Reason
from strategy_client.predictor.channel import check_target
from strategy_client.predictor.security import Security
from strategy_client.predictor.transport import check_transport

SAID: Final = ("BUY", "SELL", *(reason.value for reason in Reason))
SHOWN_DIFFERENCES: Final = 20
NS_PER_S: Final = 1_000_000_000

audit = typer.Typer(
    help="Verify an audit log, or find in it why there was no signal.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The folder of the log.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document, or one a line.")]


@audit.command()
def verify(
    folder: Folder,
    models: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="Where model files lie, under any name; repeatable."),
    ] = None,
    target: Target = None,
    anchor: Annotated[
        list[str] | None,
        typer.Option(metavar="HASH", help="A hash noted earlier that must be in the log; repeatable."),
    ] = None,
    tolerance: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="How far a probability may be from the recorded one.")
    ] = 0.0,
    code: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="Where your own processors and features lie; repeatable."),
    ] = None,
    as_json: Json = False,
    ca: Ca = None,
    certificate: Certificate = None,
    key: Key = None,
    token_file: TokenFile = None,
    transport: TransportName = "auto",
) -> None:
    """Say whether a log is whole, and whether every signal in it comes out the same again.

    Exit codes: 0 all of it does; 1 something differs; 3 nothing differs, but not all could be verified.
    """
    with reporting():
        sys.path[:0] = [str(each.resolve()) for each in code or ()]
        options = VerificationOptions(
            folder,
            _folders(models or []),
            None if target is None else check_target(target),
            Security(ca, certificate, key, token_file),
            [_anchor(text) for text in anchor or ()],
            tolerance,
            check_transport(transport),
        )
        with _progress() as progress:
            verdict = Verification(options).run(progress)
    if as_json:
        sys.stdout.write(json.dumps(verdict.to_json(), indent=2) + "\n")
    else:
        for line in _lines(verdict):
            tell(out, _printable(line))
    if verdict.code:
        raise typer.Exit(verdict.code)


@audit.command()
def show(
    folder: Folder,
    strategy: Annotated[str | None, typer.Option(metavar="ID", help="Of this strategy only.")] = None,
    begin: Annotated[
        str | None,
        typer.Option("--from", metavar="TIME", help="From this time of a tick on: 10:32, or ISO 8601."),
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", metavar="TIME", help="Up to this time of a tick, not included.")
    ] = None,
    reason: Annotated[str | None, typer.Option(help="BUY, SELL or a reason, such as WARMING_UP.")] = None,
    timezone: Annotated[
        str | None, typer.Option(help="Zone of times given without one; by default that of the first tick.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what each strategy said, tick by tick, and why."""
    with reporting():
        first = first_time(folder)
        wish = Wish(
            strategy,
            _time("--from", begin, first, timezone),
            _time("--to", end, first, timezone),
            _said(reason),
        )
        counts: Counter[tuple[str, str]] = Counter()
        for each in find(folder, wish):
            if as_json:
                sys.stdout.write(json.dumps(_shown_json(each)) + "\n")
            else:
                tell(out, _printable(_shown(each)))
            if isinstance(each, Shown):
                counts[each.outcome.strategy_id, each.outcome.said] += 1
        if not as_json:
            for (strategy_id, said), count in sorted(counts.items(), key=lambda item: (item[0][0], -item[1])):
                tell(err, _printable(f"{strategy_id}: {said} {count:,}"))
            if not counts:
                err.print("nothing of this kind in the log", soft_wrap=True)


@contextmanager
def _progress() -> Iterator[Any]:
    if not sys.stderr.isatty():
        yield lambda _part: None
        return
    columns = (TextColumn("verifying"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task("verify", total=1.0)
        yield lambda part: bar.update(task, completed=part)


def _folders(models: list[Path]) -> list[Path]:
    for each in models:
        if not each.is_dir():
            raise ConfigurationError(
                Problem("--models", f"{each}: expected a folder of models, there is none")
            )
    return models


def _anchor(text: str) -> bytes:
    try:
        anchor = bytes.fromhex(text)
    except ValueError:
        anchor = b""
    if len(anchor) != 32:
        raise ConfigurationError(
            Problem("--anchor", f"{text!r}: expected the 64 hexadecimal digits of a hash")
        )
    return anchor


def _said(text: str | None) -> str | None:
    if text is None or text.upper() in SAID:
        return text and text.upper()
    near = did_you_mean(text, SAID)
    raise ConfigurationError(Problem("--reason", f"{text!r}{near}: expected one of {', '.join(SAID)}"))


def _time(flag: str, text: str | None, first: datetime | None, timezone: str | None) -> datetime | None:
    if text is None:
        return None
    zone: tzinfo = (first.tzinfo if first else None) or UTC
    if timezone is not None:
        try:
            zone = ZoneInfo(timezone)
        except (ZoneInfoNotFoundError, ValueError):
            text_ = f"{timezone!r}: expected an IANA zone, such as Asia/Kolkata"
            raise ConfigurationError(Problem("--timezone", text_)) from None
    try:
        if len(text) <= len("10:32:00.000000") and ":" in text:
            # A time of day is that of the day on which the log begins.
            day = (first or datetime.now(UTC)).astimezone(zone).date()
            return datetime.combine(day, time.fromisoformat(text), zone)
        moment = datetime.fromisoformat(text)
    except ValueError:
        expected = "expected a time such as 10:32, 10:32:05 or 2024-08-08T10:32:05+05:30"
        raise ConfigurationError(Problem(flag, f"{text!r}: {expected}")) from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=zone)


def _lines(verdict: Verdict) -> Iterator[str]:
    for finding in verdict.findings:
        yield ("BROKEN  " if finding.broken else "MISSING ") + str(finding)
    for unmet in verdict.unmet:
        yield f"BROKEN  the anchor {unmet} is not in this log"
    for difference in verdict.differences[:SHOWN_DIFFERENCES]:
        yield f"DIFFERS {difference}"
    more = verdict.difference_count - SHOWN_DIFFERENCES
    if more > 0:
        yield f"DIFFERS {more:,} more; --json has up to a thousand"
    for missing in verdict.missing:
        yield (
            f"MISSING model {missing.name} version {missing.version}, sha256 {missing.digest}: "
            f"{missing.problem}; what hangs on it: {counted(missing.outcomes, 'answer')}, "
            f"of them {counted(missing.signals, 'signal')}"
        )
    for note in verdict.notes:
        yield f"NOTE    {note}"
    if verdict.being_written:
        yield "NOTE    the log is being written: this is what was there"
    yield (
        f"{counted(verdict.segments, 'segment')}, {counted(verdict.lines, 'line')}, "
        f"{counted(verdict.ticks, 'tick')}, {counted(verdict.dropped, 'tick')} dropped when it was written"
    )
    yield _tally("signals", verdict.signals)
    yield _tally("outcomes", verdict.outcomes)
    if verdict.shadows.total:
        yield _tally("shadows", verdict.shadows)
    rows = f"{counted(verdict.rows, 'row')} asked again"
    yield f"{rows}, {verdict.features:,} of them worked out again from the ticks"
    yield f"head {verdict.head}"
    yield {
        VERIFIED: "VERIFIED: everything comes out as it was recorded",
        DIFFERS: "NOT THE SAME: see above",
        UNVERIFIED: "NOTHING DIFFERS, but not everything could be verified: see above",
    }[verdict.code]


def _printable(text: str) -> str:
    # What stands in a log is somebody's: it must not write a line of its own here, nor move the cursor.
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def _tally(name: str, tally: Tally) -> str:
    parts = [f"{name}: {tally.total:,}", f"{tally.verified:,} verified", f"{tally.differs:,} differ"]
    parts += [f"{count:,} not verified ({why})" for why, count in sorted(tally.unverified.items())]
    if tally.of_the_moment:
        parts.append(f"{tally.of_the_moment:,} that no model answered (nothing to verify)")
    return ", ".join(parts)


def _shown(each: Shown | Event) -> str:
    if isinstance(each, Event):
        at = datetime.fromtimestamp(each.at_ns / NS_PER_S, UTC).isoformat(timespec="milliseconds")
        return f"-- {each.text}" + (f" (written {at})" if each.at_ns else "")
    tick, outcome = each.tick, each.outcome
    parts = [
        write_time(tick.tick.timestamp) or "no time",
        f"tick {tick.index}",
        f"{tick.tick.symbol or tick.tick.instrument_token} at {tick.tick.last_price}",
        f"{outcome.strategy_id}: {outcome.said}",
    ]
    if outcome.quantity is not None:
        parts.append(f"quantity {outcome.quantity}, confidence {outcome.confidence:.4f}")
    if outcome.detail:
        parts.append(outcome.detail)
    return "  ".join(parts) + _answer(outcome)


def _answer(outcome: Recorded) -> str:
    model = outcome.model
    if model is None:
        return ""
    text = f"  {model.name} {model.version} ({model.digest[:12]})"
    if outcome.probabilities is not None:
        named = zip(model.classes, outcome.probabilities, strict=False)
        text += " said " + ", ".join(f"{name}: {value:.4f}" for name, value in named)
    if model.threshold is not None:
        text += f", threshold {model.threshold:g}"
    if outcome.row is not None:
        values = zip(model.features, outcome.row.tolist(), strict=True)
        text += "; " + ", ".join(f"{name} {value:.6g}" for name, value in values)
    return text


def _shown_json(each: Shown | Event) -> dict[str, Any]:
    if isinstance(each, Event):
        return {"event": each.text, "written_ns": each.at_ns or None}
    tick, outcome = each.tick, each.outcome
    model = outcome.model
    answered = (
        {}
        if model is None
        else {
            "model": model.name,
            "version": model.version,
            "digest": model.digest,
            "contract_hash": model.contract_hash,
            "confidence_threshold": model.threshold,
            "probabilities": None
            if outcome.probabilities is None
            else dict(zip(model.classes, map(_finite, outcome.probabilities), strict=False)),
            "features": None
            if outcome.row is None
            else dict(zip(model.features, map(_finite, outcome.row.tolist()), strict=True)),
        }
    )
    return {
        "tick": tick.index,
        "timestamp": write_time(tick.tick.timestamp),
        "instrument_token": tick.tick.instrument_token,
        "price": str(tick.tick.last_price),
        "strategy_id": outcome.strategy_id,
        "outcome": outcome.said,
        "detail": outcome.detail,
        "quantity": outcome.quantity,
        "confidence": outcome.confidence,
        "request_id": tick.request_id,
        "latency_us": tick.latency_us,
        **answered,
    }


def _finite(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)
