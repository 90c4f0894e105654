"""`strategy-client create-table`."""

from typing import Annotated

import typer

from strategy_client.commands.console import out, reporting
from strategy_client.commands.options import read_file
from strategy_client.configuration import ConfigurationError, Problem
from strategy_client.store.place import is_url, without_login


def create_table(
    database: Annotated[
        str, typer.Argument(metavar="URL", help="sqlite:///FILE, which is made, or postgresql://…")
    ],
    source: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="PLACE", help="Strategies to write into it: a YAML file, or a folder of them."
        ),
    ] = None,
) -> None:
    """Make the table that --strategies URL reads, and fill it from files; what stands in it stays."""
    with reporting():
        if not is_url(database):
            text = f"expected a URL as sqlite:///strategies.db, came {without_login(database)!r}"
            raise ConfigurationError(Problem("", text))
        strategies = read_file(source).strategies if source is not None else ()
        try:
            from strategy_client.store import table_writer  # noqa: PLC0415 - needs an extra of its own
        except ImportError as error:
            text = f"needs the database extra, tickserve[database]: {error}"
            raise ConfigurationError(Problem("", text)) from error
        table_writer.create_table(database, strategies)
        out.print(f"{len(strategies)} strategies written to the table strategy_configurations")
