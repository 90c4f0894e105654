"""`strategy-client replay`."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from strategy_client.commands.console import out, progress_of, reporting
from strategy_client.commands.options import (
    MIN_DEADLINE_MS,
    Ca,
    Certificate,
    Key,
    Strategies,
    Targets,
    TokenFile,
    TransportName,
    read_file,
)
from strategy_client.commands.report import report_run
from strategy_client.configuration import MAX_DEADLINE_MS, ConfigurationError, Problem, TicksConfig
from strategy_client.predictor.channel import check_target
from strategy_client.predictor.security import Security
from strategy_client.predictor.transport import check_transport
from strategy_client.recording.folder_lock import FolderLock
from strategy_client.recording.table import summary_table
from strategy_client.replay.replacement import Replacement
from strategy_client.replay.session import DEADLINE_MS, Replay, ReplayOptions
from strategy_client.replay.window import WINDOW_TICKS


def replay(
    ticks: Annotated[list[Path], typer.Argument(help="CSV, JSON lines (.gz, .zip) or Parquet.")],
    strategies: Strategies,
    target: Targets = None,
    models: Annotated[Path, typer.Option(help="The models of a sidecar started for this run.")] = Path(
        "models"
    ),
    out_folder: Annotated[Path, typer.Option("--out", help="Where the files go.")] = Path("out"),
    speed: Annotated[str, typer.Option(help="'max', or a multiple of the ticks' own pace.")] = "max",
    window: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Ticks that are asked together at full speed, with the same outcomes; 1 is tick by tick, "
            f"which alone tells how long a tick takes. {WINDOW_TICKS}, or 1 where --deadline-ms is given.",
        ),
    ] = None,
    skip: Annotated[int, typer.Option(min=0, help="Leave out so many ticks at the start.")] = 0,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after so many ticks.")] = None,
    deadline_ms: Annotated[
        float | None,
        typer.Option(
            min=MIN_DEADLINE_MS,
            max=MAX_DEADLINE_MS,
            help=f"The budget of one tick; {DEADLINE_MS:g}, so that nothing is late.",
        ),
    ] = None,
    replaced: Annotated[
        list[str] | None,
        typer.Option("--replace", help="TICK:MODEL:FILE, replace a model just before a tick; repeatable."),
    ] = None,
    allow_contract_change: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL", help="Let a file replace this model's though its contract differs; repeatable."
        ),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first bad line.")] = False,
    audit: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Append every outcome to an audit log: `strategy-client audit`."),
    ] = None,
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
    """Run recorded ticks through strategies; without --target, with a sidecar started for it."""
    with reporting():
        file = read_file(strategies)
        flags: dict[str, Any] = {
            "time": time,
            "price": price,
            "volume": volume,
            "token": int(token) if token and token.isdecimal() else token,
            "symbol": symbol,
            "timezone": timezone,
            "time_format": time_format,
        }
        options = ReplayOptions(
            ticks=ticks,
            strategies=file.strategies,
            columns=replace(file.ticks or TicksConfig(), **{k: v for k, v in flags.items() if v is not None}),
            out=out_folder,
            targets=[check_target(each) for each in target or ()],
            security=Security(ca, certificate, key, token_file),
            transport=check_transport(transport),
            models=models,
            speed=_speed(speed),
            window=_window(window, speed, deadline_ms),
            skip=skip,
            limit=limit,
            deadline_ms=DEADLINE_MS if deadline_ms is None else deadline_ms,
            replacements=[_replacement(text) for text in replaced or ()],
            allow_contract_change=allow_contract_change or (),
            strict=strict,
            audit=audit,
        )
        run = Replay(options)
        with FolderLock(out_folder):
            with progress_of(limit) as progress:
                summary = run.run(progress)
            out.print(summary_table(summary), soft_wrap=not out.is_terminal)
            report_run(out_folder)


def _speed(text: str) -> float | None:
    if text == "max":
        return None
    try:
        speed = float(text)
    except ValueError:
        speed = math.nan
    if not 0 < speed < math.inf:
        raise ConfigurationError(Problem("--speed", f"{text!r}: expected 'max' or a number above 0"))
    return speed


def _window(window: int | None, speed: str, deadline_ms: float | None) -> int:
    if speed != "max":
        if window not in (None, 1):
            text = f"{window}: expected 1 beside --speed {speed}, where each tick comes in its own time"
            raise ConfigurationError(Problem("--window", text))
        return 1
    if window is None:
        # Who sets a deadline wants to see which ticks miss it.
        return WINDOW_TICKS if deadline_ms is None else 1
    return window


def _replacement(text: str) -> Replacement:
    try:
        return Replacement.parse(text)
    except ValueError as error:
        raise ConfigurationError(Problem("--replace", str(error))) from None
