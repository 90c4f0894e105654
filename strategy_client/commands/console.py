"""What a run prints and how it fails: the two consoles, and the exit code of each kind of error."""

import contextlib
import sys
import textwrap
from collections.abc import Iterator
from typing import Any, Final, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from strategy_client.configuration import ConfigurationError, HeldError
from strategy_client.predictor.channel import TargetError
from strategy_client.predictor.security import SecurityError
from strategy_client.predictor.status import InferenceError
from strategy_client.report.document import ReportError
from strategy_client.report.recorded_folder import RecordingError
from strategy_client.sidecar.own_sidecar import SidecarError
from strategy_client.sources.bad_line import BadFileError, BadLineError

PLAIN_LINES: Final = 10
PIPED_WIDTH: Final = 120

# Not narrower than a table needs where nobody looks at a terminal.
# What a user wrote is shown as it is, be it [bold] or :x:.
out = Console(highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else PIPED_WIDTH)
err = Console(
    stderr=True,
    highlight=False,
    markup=False,
    emoji=False,
    width=None if sys.stderr.isatty() else PIPED_WIDTH,
)


@contextlib.contextmanager
def reporting() -> Iterator[None]:
    """Turn what a command raises into a line for each thing that is wrong, and the exit code."""
    try:
        yield
    except (ConfigurationError, BadFileError, BadLineError, TargetError, SecurityError) as error:
        fail(error, 2)
    except HeldError as error:
        # It passes: a service manager is to try again, as it does not where what is wrong stays wrong.
        fail(error, 1)
    except OSError as error:
        fail(error, 2)
    except RecordingError as error:
        fail(error, 2)
    except (SidecarError, InferenceError, ReportError) as error:
        fail(error, 1)


def tell(console: Console, text: str) -> None:
    """Print a line; a terminal breaks it between words, and what is longer than its width not at all."""
    lines = [text]
    if console.is_terminal:
        lines = textwrap.wrap(text, console.width, break_long_words=False, break_on_hyphens=False)
    for line in lines:
        console.print(line, soft_wrap=True)


def counted(count: int, one: str, several: str = "") -> str:
    """Return a number and what it counts: 1 segment, 2 segments."""
    return f"{count:,} {one if count == 1 else several or one + 's'}"


def fail(error: Exception, code: int) -> NoReturn:
    """Print the error's lines and end the command."""
    for line in str(error).splitlines():
        err.print(f"strategy-client: {line}", soft_wrap=True)
    raise typer.Exit(code) from None


@contextlib.contextmanager
def progress_of(limit: int | None) -> Iterator[Any]:
    """Show how far a run is: a bar on a terminal, ten lines elsewhere. Yields what is called with it."""
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
