"""`strategy-client report`."""

from pathlib import Path
from typing import Annotated

import typer

from strategy_client.commands.console import out, reporting
from strategy_client.report.document import write_report
from strategy_client.report.recorded_folder import read_recording

REPORT_FILE = "report.html"


def report(
    folder: Annotated[Path, typer.Argument(help="What a replay or a live run has written.")],
    out_file: Annotated[
        Path | None, typer.Option("--out", help=f"The file to write, else {REPORT_FILE} in the folder.")
    ] = None,
    title: Annotated[str | None, typer.Option(help="What stands at its top.")] = None,
) -> None:
    """Draw a session on one page that needs nothing else: signals, probabilities, reasons, latency, versions."""
    with reporting():
        path = out_file or folder / REPORT_FILE
        write_report(read_recording(folder), path, title or f"Session {folder.resolve().name}")
        out.print(str(path), soft_wrap=True)
