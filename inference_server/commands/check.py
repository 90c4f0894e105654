"""`check`: what `serve` would say of a file."""

from pathlib import Path
from typing import Annotated

import typer

from inference_server.adapters.checking import check_file
from inference_server.console import ending, out
from inference_server.report import verdict_view


def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The model file.")],
    against: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The file that it would replace, or a copy of it.")
    ] = None,
    allow_contract_change: Annotated[
        bool, typer.Option("--allow-contract-change", help="It may have another contract than that file.")
    ] = False,
) -> None:
    """Say what `serve` would say of a file; exit 1 if it refuses it."""
    verdict = check_file(file, against, allow_contract_change=allow_contract_change)
    out.print(verdict_view(file, verdict))
    if verdict.refusal:
        raise ending(f"{file}: {verdict.refusal}", code=1)
