"""Options that several commands have, and what they stand for."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from strategy_client.factory import StrategyFactory
from strategy_client.store.store import StrategySet
from strategy_client.store.strategy_file import read_strategies

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


def read_file(path: Path) -> StrategySet:
    """Read the strategies; their own processors and features are found beside them."""
    sys.path.insert(0, str((path if path.is_dir() else path.parent).resolve()))
    return read_strategies(path, StrategyFactory())
