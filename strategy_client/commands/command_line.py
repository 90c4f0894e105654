"""The command line of `strategy-client`, put together of its commands."""

import logging

import typer

from strategy_client.commands.audit import audit
from strategy_client.commands.check import check
from strategy_client.commands.create_table import create_table
from strategy_client.commands.parity import parity
from strategy_client.commands.replay import replay
from strategy_client.commands.report import report
from strategy_client.commands.run import run

app = typer.Typer(
    name="strategy-client",
    help="Runs trading strategies over ticks; learned ones are answered by the sidecar.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # its boxes cut the names of options off on 80 columns
)
app.command()(replay)
app.command()(check)
app.command()(create_table)
app.command()(parity)
app.command()(report)
app.command()(run)
app.add_typer(audit, name="audit")


def run_app() -> None:
    """Run the command that the arguments name, and exit."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    app()
