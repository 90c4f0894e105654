"""`strategy-client run`."""

import json
import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.live import Live

from strategy_client.commands.console import counted, err, out, reporting
from strategy_client.commands.options import (
    MIN_DEADLINE_MS,
    Ca,
    Certificate,
    Key,
    Strategies,
    TokenFile,
    TransportName,
    find_beside,
)
from strategy_client.commands.process_signals import Reload, Stop
from strategy_client.commands.report import report_run
from strategy_client.configuration import MAX_DEADLINE_MS, ConfigurationError, Problem, TicksConfig
from strategy_client.live.closing import closing_lines, summarise_live
from strategy_client.live.metrics import health_page, metrics_page, ready_page
from strategy_client.live.prepared_factory import PreparedFactory
from strategy_client.live.probes import CachedPage, ProbeServer, read_address
from strategy_client.live.recorder import MAX_BYTES
from strategy_client.live.session import DEADLINE_MS, MAX_TICK_AGE_MS, LiveOptions, LiveRun
from strategy_client.live.session import Strategies as RunningStrategies
from strategy_client.live.silence import SILENT_AFTER_S
from strategy_client.live.table import Rate, headline, live_table
from strategy_client.live.view import View
from strategy_client.predictor.channel import TargetError, check_target
from strategy_client.predictor.security import Security, SecurityError
from strategy_client.predictor.transport import check_transport
from strategy_client.recording.folder_lock import FolderLock
from strategy_client.recording.table import summary_table
from strategy_client.sinks import open_fan_out, writes_to_standard_output
from strategy_client.sources import open_source
from strategy_client.sources.bad_line import BadFileError, BadLines
from strategy_client.store import StrategySet, open_store

MIB: Final = 1024**2
SHOW_EVERY_S: Final = 0.5
LINE_EVERY_S: Final = 30.0
# A scrape is Python too: it gives the loop its turn after this long, where Python's own would be 5 ms.
SWITCH_INTERVAL_S: Final = 0.0005
# A stop must not take long: what grew beyond this is drawn by `strategy-client report`.
MAX_REPORTED_MIB: Final = 64


def default_target() -> str:
    """Return where a sidecar on this machine listens when nothing else is said."""
    folder = os.environ.get("XDG_RUNTIME_DIR") or "/tmp"  # noqa: S108 the sidecar's own rule; see its --listen
    return f"unix:{folder}/tickserve.sock"


def run(
    strategies: Strategies,
    source: Annotated[str, typer.Option(metavar="URL", help="The feed: a bus, a file, or - for stdin.")],
    target: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ADDR",
            help="A sidecar, unix:/PATH or HOST:PORT; repeatable, the first that is well is asked. "
            "Default: where a sidecar on this machine listens, unix:$XDG_RUNTIME_DIR/tickserve.sock or /tmp.",
        ),
    ] = None,
    sink: Annotated[
        list[str] | None,
        typer.Option(metavar="[BROKER=]URL", help="Where signals go, of one broker or of all; repeatable."),
    ] = None,
    audit: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Append every outcome to the log in this folder.")
    ] = None,
    out_folder: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="DIR", help="Write what a replay writes; the run before goes to before/."
        ),
    ] = None,
    max_out_mib: Annotated[
        int, typer.Option(min=1, help="How large the files of --out may grow; then nothing more is recorded.")
    ] = MAX_BYTES // MIB,
    http: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Serve /metrics, /healthz and /readyz, as on 127.0.0.1:9102."),
    ] = None,
    deadline_ms: Annotated[
        float, typer.Option(min=MIN_DEADLINE_MS, max=MAX_DEADLINE_MS, help="The budget of one tick.")
    ] = DEADLINE_MS,
    max_tick_age_ms: Annotated[
        float, typer.Option(min=0, help="No signal comes of a tick that waited longer; 0: of any age.")
    ] = MAX_TICK_AGE_MS,
    max_behind_s: Annotated[
        float,
        typer.Option(
            min=0,
            help="No signal comes of a tick whose own time is further back; 0: however far, as in a file.",
        ),
    ] = 0.0,
    silent_after_s: Annotated[
        float,
        typer.Option(min=0, help="Tell of a feed or an instrument without a tick for so long; 0: never."),
    ] = SILENT_AFTER_S,
    time: Annotated[str | None, typer.Option(help="Column of the time.")] = None,
    price: Annotated[str | None, typer.Option(help="Column of the price.")] = None,
    volume: Annotated[str | None, typer.Option(help="Column of the trade's size.")] = None,
    token: Annotated[str | None, typer.Option(help="Column of the instrument, or its token.")] = None,
    symbol: Annotated[str | None, typer.Option(help="Column of the symbol.")] = None,
    timezone: Annotated[str | None, typer.Option(help="Zone of times without one, as UTC.")] = None,
    time_format: Annotated[str | None, typer.Option(help="iso, s, ms, us, ns or a strptime format.")] = None,
    ca: Ca = None,
    certificate: Certificate = None,
    key: Key = None,
    token_file: TokenFile = None,
    transport: TransportName = "auto",
) -> None:
    """Run strategies over live ticks, until the feed ends or SIGINT or SIGTERM; SIGHUP reads them again."""
    flags: dict[str, Any] = {
        "time": time,
        "price": price,
        "volume": volume,
        "token": int(token) if token and token.isdecimal() else token,
        "symbol": symbol,
        "timezone": timezone,
        "time_format": time_format,
    }
    _log_with_times()
    with reporting(), ExitStack() as stack:
        reload = stack.enter_context(Reload())
        problems: list[Problem] = []
        options = None
        with _collecting(problems):
            options = LiveOptions(
                targets=[check_target(each) for each in target or [default_target()]],
                security=Security(ca, certificate, key, token_file),
                transport=check_transport(transport),
                deadline_ms=deadline_ms,
                max_tick_age_ms=max_tick_age_ms or None,
                max_behind_s=max_behind_s or None,
                silent_after_s=silent_after_s,
                audit=audit,
                out=out_folder,
                max_out_bytes=max_out_mib * MIB,
            )
        views: list[View] = []
        server = None
        with _collecting(problems):
            if http is not None:
                server = _probes(http, views)
                stack.callback(server.close)
        find_beside(strategies)
        factory = PreparedFactory()
        running = StrategySet(())
        with _collecting(problems):
            store = open_store(strategies, factory)
            stack.callback(store.close)
            running = store.read()
            if not running.strategies:
                raise ConfigurationError(
                    Problem("--strategies", "expected at least one strategy, there is none")
                )
        tokens = {token for each in running.strategies for token in each.instrument_tokens}
        columns = replace(running.ticks or TicksConfig(), **{k: v for k, v in flags.items() if v is not None})
        bad = BadLines()
        with _collecting(problems):
            feed = open_source(source, columns, tokens, bad)
            stack.callback(feed.close)
        fan_out, shown = None, out
        with _collecting(problems):
            fan_out = stack.enter_context(open_fan_out(sink)) if sink else None
            shown = err if sink and writes_to_standard_output(sink) else out
        if problems or options is None:
            raise ConfigurationError(*problems)
        for problem in running.problems:
            err.print(f"strategy-client: left out, as it is disabled: {problem}", soft_wrap=True)
        if out_folder is not None:
            stack.enter_context(FolderLock(out_folder))
        live = LiveRun(
            options,
            RunningStrategies(store, running, factory),
            feed,
            tokens=tokens,
            bad=bad,
            fan_out=fan_out,
        )
        stop = stack.enter_context(Stop())
        views.append(live.view)
        with live:
            reload.begin(live)
            if server is not None:
                stack.enter_context(server)
                with _going_on(live):
                    err.print(f"metrics on http://{server.address}/metrics", soft_wrap=True)
            _watch(live, stop, shown)
        _finish(live, shown)


def _watch(live: LiveRun, stop: Stop, shown: Console) -> None:
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    count = len(live.runner.executors)
    with _going_on(live):
        instruments = len(live.runner.instruments)
        running = f"{counted(count, 'strategy', 'strategies')} on {counted(instruments, 'instrument')}"
        err.print(f"{running}; end with SIGINT or SIGTERM", soft_wrap=True)
        # A table among the signals on one terminal could not be read, and neither could they.
        if shown.is_terminal and not (shown is err and out.is_terminal):
            _watch_table(live, stop, shown)
        else:
            _watch_lines(live, stop)
    while not stop.asked and not live.wait(SHOW_EVERY_S):
        pass
    if stop.asked:
        with _going_on(live):
            name = signal.Signals(stop.asked).name
            err.print(f"{name}: stopping; a second signal ends it at once", soft_wrap=True)


@contextmanager
def _going_on(live: LiveRun) -> Iterator[None]:
    """Take a terminal or a pipe that is gone for what it is: not the end of the session."""
    try:
        yield
    # rich ends the program where nobody reads what it prints.
    except (Exception, SystemExit) as error:  # noqa: BLE001 told
        live.journal.problem("display", f"nothing more is shown: {error!r}", error=error)


def _watch_table(live: LiveRun, stop: Stop, shown: Console) -> None:
    rate = Rate()
    with Live(console=shown, auto_refresh=False, transient=True) as table, _logging_above():
        while not stop.asked and not live.wait(SHOW_EVERY_S):
            table.update(live_table(live.view, rate), refresh=True)


def _watch_lines(live: LiveRun, stop: Stop) -> None:
    rate, line_at_s = Rate(), LINE_EVERY_S
    while not stop.asked and not live.wait(SHOW_EVERY_S):
        if live.view.seconds >= line_at_s:
            line_at_s += LINE_EVERY_S
            err.print(headline(live.view, rate), soft_wrap=True)


def _finish(live: LiveRun, shown: Console) -> None:
    summary = summarise_live(live.view, live.bad, live.files)
    if "summary" in live.files:
        text = json.dumps(summary.to_json(), indent=2) + "\n"
        try:
            live.files["summary"].write_text(text, encoding="utf-8")
        except OSError as error:
            live.journal.problem("recording", f"{live.files['summary']}: {error.strerror}")
    shown.print(summary_table(summary), soft_wrap=not shown.is_terminal)
    for line in closing_lines(live.view):
        shown.print(line, soft_wrap=True)
    if "summary" in live.files:
        report_run(live.files["summary"].parent, MAX_REPORTED_MIB * MIB, shown)
    if live.failed:
        raise typer.Exit(1)


def _probes(http: str, views: list[View]) -> ProbeServer:
    # The address is taken before anything is started; there is a view by the time that it is served.
    try:
        return ProbeServer(
            *read_address(http),
            {
                "/metrics": CachedPage(lambda: metrics_page(views[0])),
                "/healthz": lambda: health_page(views[0]),
                "/readyz": lambda: ready_page(views[0]),
            },
        )
    except OSError as error:
        raise ConfigurationError(Problem("--http", f"{http}: {error.strerror}")) from None


@contextmanager
def _collecting(problems: list[Problem]) -> Iterator[None]:
    """Keep what is wrong, so that all of it is told at once."""
    try:
        yield
    except ConfigurationError as error:
        problems += error.problems
    except (BadFileError, TargetError, SecurityError) as error:
        problems.append(Problem("", str(error)))


def _log_with_times() -> None:
    logging.getLogger("strategy_client.live").setLevel(logging.INFO)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))


@contextmanager
def _logging_above() -> Iterator[None]:
    """Let log lines scroll by above a table that stands still."""
    handlers = [each for each in logging.getLogger().handlers if isinstance(each, logging.StreamHandler)]
    streams = [handler.setStream(sys.stderr) for handler in handlers]
    try:
        yield
    finally:
        for handler, stream in zip(handlers, streams, strict=True):
            if stream is not None:
                handler.setStream(stream)
