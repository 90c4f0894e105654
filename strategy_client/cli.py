"""`strategy-client COMMAND`; each command is a module of `commands`.

Exit codes: 0 done; 1 the sidecar or a model is not as asked, with the reason; 2 wrong usage, configuration
or input, one line for each thing that is wrong; 3 nothing of a log differs, but not all of it could be
verified; 130 interrupted.
"""

import logging
import signal
from typing import NoReturn

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


def main() -> None:
    """Run the command line."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    # SIGTERM unwinds like Ctrl-C, so that a sidecar that was started is stopped.
    signal.signal(signal.SIGTERM, _interrupt)
    app()


def _interrupt(_number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt
