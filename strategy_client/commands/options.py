"""Options that several commands have, and what they stand for."""

import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from strategy_client.commands.console import err
from strategy_client.factory import StrategyFactory
from strategy_client.store import StrategySet, open_store
from strategy_client.store.place import is_url

Strategies = Annotated[
    str,
    typer.Option(
        metavar="PLACE", help="A YAML file of strategies, a folder of them, or the URL of a database."
    ),
]
Target = Annotated[str | None, typer.Option(help="Address of a sidecar: unix:/PATH or HOST:PORT.")]
Targets = Annotated[
    list[str] | None,
    typer.Option(
        "--target", help="Address of a sidecar, unix:/PATH or HOST:PORT; repeatable, the preferred one first."
    ),
]
TransportName = Annotated[
    str,
    typer.Option(
        "--transport",
        metavar="auto|grpcio|h2",
        help="What carries the calls; auto: h2 where the target is local and tickserve\\[fast] is installed.",
    ),
]
# The least that is still a time; the most is for all budgets the same.
MIN_DEADLINE_MS: Final = 0.001
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


def find_beside(place: str) -> None:
    """Let a user's own processors and features be found beside the strategies, or here if they are far."""
    # A server's URL names no folder: its slashes leave the one that we are in.
    path = Path(place.partition(":///")[2] if is_url(place) else place)
    folder = path if path.is_dir() else path.parent
    sys.path.insert(0, str(folder.resolve()))


def read_place(place: str) -> StrategySet:
    """Read the strategies of a place once."""
    find_beside(place)
    store = open_store(place, StrategyFactory())
    try:
        return store.read()
    finally:
        store.close()


def read_file(place: str) -> StrategySet:
    """Read the strategies of a place once; what is disabled and wrong is left out and told."""
    strategies = read_place(place)
    for problem in strategies.problems:
        err.print(f"strategy-client: left out, as it is disabled: {problem}", soft_wrap=True)
    return strategies
