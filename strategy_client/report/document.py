"""The page itself: one file that needs nothing else, to be opened, kept and sent."""

import html
import importlib.metadata
import importlib.resources
import json
import math
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from strategy_client.report import account
from strategy_client.report.charts import MAX_INSTRUMENTS, SIDES, draw
from strategy_client.report.recording import Recording

NS_PER_S: Final = 1_000_000_000
US_PER_MS: Final = 1_000


class ReportError(Exception):
    """A page that cannot be made; the text says what is missing."""


def write_report(recording: Recording, path: Path, title: str) -> None:
    """Write the page. ReportError where plotly, whose script goes into it, is not installed."""
    files = importlib.resources.files(__package__) / "report_files"
    parts = {
        "title": html.escape(title),
        "style": (files / "report.css").read_text(encoding="utf-8"),
        "payload": _as_script(payload(recording, title)),
        "plotly": _plotly(),
        "script": (files / "report.js").read_text(encoding="utf-8"),
    }
    page = (files / "report.html").read_text(encoding="utf-8")
    # In one go over the page: what was put in is not looked at again.
    written = []
    for place in page.split("{{"):
        name, end, rest = place.partition("}}")
        written.append(parts[name] + rest if end else place)
    unfinished = path.with_name(f".{path.name}.part")
    try:
        unfinished.write_text("".join(written), encoding="utf-8")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def payload(recording: Recording, title: str) -> dict[str, Any]:
    """Return everything that the page shows, as plain values."""
    counted = account.totals(recording)
    tables = [
        account.outcome_table(counted),
        account.model_table(recording),
        account.shadow_table(recording),
        account.drift_table(recording.summary),
        account.replaced_table(recording.summary),
        account.facts_table(recording.summary),
    ]
    instruments = draw(recording)
    return {
        "title": title,
        "span": _span(recording, len(instruments)),
        "made": f"Written by tickserve {importlib.metadata.version('tickserve')}. Times are UTC.",
        "verdict": account.verdict(recording, counted),
        "tiles": _tiles(recording, counted),
        "strategies": list(counted),
        "failures": list(account.FAILURES),
        "cautions": list(account.CAUTIONS),
        "deadline_ms": recording.summary.get("deadline_ms"),
        "latency_note": _latency_note(recording),
        "instruments": instruments,
        "tables": [asdict(table) for table in tables if table is not None],
    }


def _latency_note(recording: Recording) -> str:
    if np.isnan(recording.latency_us).all():
        return recording.summary.get("latency_note") or "The run wrote no latencies."
    return "From a tick's begin to its last outcome."


def _tiles(recording: Recording, counted: Any) -> list[dict[str, str]]:
    signals = {side: sum(count[side] for count in counted.values()) for side in SIDES}
    outcomes = sum(count.total() for count in counted.values())
    failed = sum(count[name] for count in counted.values() for name in account.FAILURES)
    tiles = [
        _tile("Ticks", f"{len(recording.index):,}", _instruments(len(recording.tokens))),
        _tile("Signals", f"{sum(signals.values()):,}", f"{signals['BUY']:,} buy, {signals['SELL']:,} sell"),
        _tile("No answer", f"{failed:,}", f"of {outcomes:,} outcomes"),
    ]
    latency_us = recording.latency_us[~np.isnan(recording.latency_us)]
    if len(latency_us):
        median, p99 = np.quantile(latency_us, [0.5, 0.99]) / US_PER_MS
        tiles.append(_tile("Tick latency", f"{median:.2f} ms", f"median; 99th percentile {p99:.2f} ms"))
    digests = {model.digest for model in recording.models}
    if digests:
        tiles.append(_tile("Model files", f"{len(digests)}", "different bytes that answered"))
    return tiles


def _instruments(count: int) -> str:
    return "1 instrument" if count == 1 else f"{count:,} instruments"


def _tile(label: str, value: str, note: str) -> dict[str, str]:
    return {"label": label, "value": value, "note": note}


def _span(recording: Recording, drawn: int) -> str:
    if not len(recording.index):
        return "No tick."
    first, last = (datetime.fromtimestamp(each / NS_PER_S, UTC) for each in _ends(recording))
    known = len(recording.tokens)
    which = f"; the {MAX_INSTRUMENTS} instruments with the most ticks are drawn" if known > drawn else ""
    return f"{first:%Y-%m-%d %H:%M:%S} to {last:%Y-%m-%d %H:%M:%S} UTC, by the ticks' own time{which}"


def _ends(recording: Recording) -> tuple[int, int]:
    return int(recording.time_ns.min()), int(recording.time_ns.max())


def _as_script(value: Any) -> str:
    """Return JSON that no browser takes for the end of its script, whatever a user's names hold."""
    text = json.dumps(_finite(value), separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _plotly() -> str:
    try:
        from plotly.offline import get_plotlyjs  # noqa: PLC0415 - only who draws needs it
    except ModuleNotFoundError as error:
        raise ReportError("a report needs plotly: pip install 'tickserve[client]'") from error
    return str(get_plotlyjs())
