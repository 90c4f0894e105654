"""`strategy-client report`."""

from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from strategy_client.commands.console import err, out, reporting
from strategy_client.recording.file_names import OUTCOMES, REPORT
from strategy_client.report.document import ReportError, write_report
from strategy_client.report.recorded_folder import RecordingError, read_recording

MIB: Final = 1024**2


def report(
    folder: Annotated[Path, typer.Argument(help="What a replay or a live run has written.")],
    out_file: Annotated[
        Path | None, typer.Option("--out", help=f"The file to write, else {REPORT} in the folder.")
    ] = None,
    title: Annotated[str | None, typer.Option(help="What stands at its top.")] = None,
) -> None:
    """Draw a session on one page by itself: signals, probabilities, reasons, latency, versions."""
    with reporting():
        _draw(folder, out_file or folder / REPORT, title, out)


def report_run(folder: Path, max_bytes: int | None = None, shown: Console = out) -> None:
    """Draw a run that has ended, into its own folder. What is in the way of that is told, and fails no run.

    Of more than `max_bytes` of outcomes nothing is drawn: None is no bound. `shown` is told the page's path.
    """
    try:
        size = (folder / OUTCOMES).stat().st_size
        if max_bytes is None or size <= max_bytes:
            _draw(folder, folder / REPORT, None, shown)
        else:
            text = f"{size / MIB:,.0f} MiB of outcomes; draw it by `strategy-client report {folder}`"
            err.print(f"strategy-client: no {REPORT} yet: {text}", soft_wrap=True)
    except (ReportError, RecordingError, OSError) as error:
        err.print(f"strategy-client: no {REPORT}: {error}", soft_wrap=True)


def _draw(folder: Path, path: Path, title: str | None, shown: Console) -> None:
    write_report(read_recording(folder), path, title or f"Session {folder.resolve().name}")
    shown.print(str(path), soft_wrap=True)
