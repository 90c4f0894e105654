"""`strategy-client replay | check`.

Exit codes: 0 done; 1 the sidecar or a model is not as asked, with the reason; 2 wrong usage, configuration
or input, one line for each thing that is wrong; 130 interrupted.
"""

import contextlib
import logging
import math
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from strategy_client.bindings import Bindings, Unbound
from strategy_client.configuration import ConfigurationError, Problem, TicksConfig
from strategy_client.factory import StrategyFactory
from strategy_client.lineup import create_executors, wanted_models
from strategy_client.predictor.channel import TargetError, check_target
from strategy_client.predictor.client import InferenceClient
from strategy_client.predictor.security import Security, SecurityError
from strategy_client.predictor.status import InferenceError
from strategy_client.replay.replacement import Replacement
from strategy_client.replay.session import DEADLINE_MS, Replay, ReplayOptions
from strategy_client.replay.sidecar import SidecarError
from strategy_client.replay.table import Finding, check_table, summary_table
from strategy_client.sources.bad_line import BadFileError, BadLineError
from strategy_client.store.strategy_file import StrategyFile, read_strategies

PLAIN_LINES: Final = 10
PIPED_WIDTH: Final = 120
CHECK_TIMEOUT_S: Final = 5.0

app = typer.Typer(
    name="strategy-client",
    help="Runs trading strategies over ticks; learned ones are answered by the sidecar.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # its boxes cut the names of options off on 80 columns
)
# Not narrower than a table needs where nobody looks at a terminal.
# What a user wrote is shown as it is, be it [bold] or :x:.
out = Console(highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else PIPED_WIDTH)
err = Console(stderr=True, highlight=False, markup=False, emoji=False)

Strategies = Annotated[Path, typer.Option(help="A YAML file of strategies, or a folder of them.")]
Target = Annotated[str | None, typer.Option(help="Address of a sidecar: unix:/PATH or HOST:PORT.")]
# How the sidecar at the target is spoken to.
Ca = Annotated[
    Path | None,
    typer.Option(metavar="FILE", envvar="TICKSERVE_CA", help="Who issues the sidecar's certificate: TLS."),
]
Certificate = Annotated[
    Path | None,
    typer.Option(metavar="FILE", envvar="TICKSERVE_CERTIFICATE", help="This client's own certificate."),
]
Key = Annotated[
    Path | None, typer.Option(metavar="FILE", envvar="TICKSERVE_KEY", help="The key of --certificate.")
]
TokenFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", envvar="TICKSERVE_TOKEN_FILE", help="Holds the token that is sent."),
]


@app.command()
def replay(
    ticks: Annotated[list[Path], typer.Argument(help="CSV, JSON lines (.gz, .zip) or Parquet.")],
    strategies: Strategies,
    target: Target = None,
    models: Annotated[Path, typer.Option(help="The models of a sidecar started for this run.")] = Path(
        "models"
    ),
    out_folder: Annotated[Path, typer.Option("--out", help="Where the files go.")] = Path("out"),
    speed: Annotated[str, typer.Option(help="'max', or a multiple of the ticks' own pace.")] = "max",
    skip: Annotated[int, typer.Option(min=0, help="Leave out so many ticks at the start.")] = 0,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after so many ticks.")] = None,
    deadline_ms: Annotated[float, typer.Option(min=0.001, help="The budget of one tick.")] = DEADLINE_MS,
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
) -> None:
    """Run recorded ticks through strategies; without --target, with a sidecar started for it."""
    with _reporting():
        file = _read(strategies)
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
            target=None if target is None else check_target(target),
            security=Security(ca, certificate, key, token_file),
            models=models,
            speed=_speed(speed),
            skip=skip,
            limit=limit,
            deadline_ms=deadline_ms,
            replacements=[_replacement(text) for text in replaced or ()],
            allow_contract_change=allow_contract_change or (),
            strict=strict,
        )
        with _progress(limit) as progress:
            summary = Replay(options).run(progress)
        out.print(summary_table(summary), soft_wrap=not out.is_terminal)


@app.command()
def check(
    strategies: Strategies,
    target: Target = None,
    ca: Ca = None,
    certificate: Certificate = None,
    key: Key = None,
    token_file: TokenFile = None,
) -> None:
    """Say of each strategy whether it could run: configuration and, with --target, the model's contract."""
    with _reporting():
        executors = create_executors(_read(strategies).strategies, StrategyFactory())
        wanted = wanted_models(executors)
        models = {each.strategy_id: each.model.name for each in wanted}
        problems = dict.fromkeys(models, "the model was not looked at; name a sidecar with --target")
        if target is not None:
            security = Security(ca, certificate, key, token_file)
            with InferenceClient(check_target(target), security=security) as client:
                client.describe(timeout_s=CHECK_TIMEOUT_S)
                bindings = Bindings(wanted, client.describe)
                bindings.refresh()
            problems = {
                strategy_id: f"{binding.reason.value}: {binding.detail}"
                for strategy_id, binding in bindings.all.items()
                if isinstance(binding, Unbound)
            }
        out.print(
            check_table(
                [
                    Finding(
                        each.strategy_id,
                        each.config.strategy_type,
                        models.get(each.strategy_id, ""),
                        problems.get(each.strategy_id, ""),
                    )
                    for each in executors
                ]
            ),
            soft_wrap=not out.is_terminal,
        )
        if target is not None and problems:
            raise typer.Exit(1)


def main() -> None:
    """Run the command line."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    # SIGTERM unwinds like Ctrl-C, so that a sidecar that was started is stopped.
    signal.signal(signal.SIGTERM, _interrupt)
    app()


def _interrupt(_number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


@contextlib.contextmanager
def _reporting() -> Iterator[None]:
    try:
        yield
    except (ConfigurationError, BadFileError, BadLineError, TargetError, SecurityError) as error:
        _fail(error, 2)
    except OSError as error:
        _fail(error, 2)
    except (SidecarError, InferenceError) as error:
        _fail(error, 1)


def _fail(error: Exception, code: int) -> NoReturn:
    for line in str(error).splitlines():
        err.print(f"strategy-client: {line}", soft_wrap=True)
    raise typer.Exit(code) from None


def _read(path: Path) -> StrategyFile:
    # A user's own processors and features lie beside the strategies that name them.
    sys.path.insert(0, str((path if path.is_dir() else path.parent).resolve()))
    return read_strategies(path, StrategyFactory())


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


def _replacement(text: str) -> Replacement:
    try:
        return Replacement.parse(text)
    except ValueError as error:
        raise ConfigurationError(Problem("--replace", str(error))) from None


@contextlib.contextmanager
def _progress(limit: int | None) -> Iterator[Any]:
    if not sys.stderr.isatty():
        yield _PlainProgress(limit)
        return
    columns = (TextColumn("{task.fields[ticks]:>10,} ticks"), BarColumn(), TaskProgressColumn())
    with Progress(*columns, TimeRemainingColumn(), console=err, transient=True) as bar:
        task = bar.add_task("replay", total=1.0, ticks=0)

        def show(ticks: int, part: float) -> None:
            bar.update(task, completed=_part(ticks, part, limit), ticks=ticks)

        yield show


class _PlainProgress:
    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._shown = 0

    def __call__(self, ticks: int, part: float) -> None:
        tenth = int(_part(ticks, part, self._limit) * PLAIN_LINES)
        if tenth > self._shown:
            self._shown = tenth
            err.print(f"{tenth * 100 // PLAIN_LINES:3d} %  {ticks:,} ticks")


def _part(ticks: int, part: float, limit: int | None) -> float:
    return part if limit is None else ticks / limit
