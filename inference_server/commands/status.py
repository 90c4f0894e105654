"""`status`: what a sidecar serves, once, as JSON, or again and again."""

import contextlib
import json
import time
from typing import Annotated, Final

import typer
from rich.console import RenderableType
from rich.live import Live

from inference_server.call_rates import Look, calls_view
from inference_server.commands.target import Target, on_sidecar
from inference_server.console import out
from inference_server.report import status_json, status_view
from inference_server.rpc.caller import Caller, CallError

WATCH_INTERVAL_S: Final = 1.0


@on_sidecar()
def status(
    target: Target,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show it again every second, with what came since.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as one JSON object.")] = False,
) -> None:
    """Show what a running sidecar serves; exit 1 if none answers."""
    if watch and as_json:
        raise typer.BadParameter("--watch and --json do not go together")
    with target.open() as caller:
        if as_json:
            out.print_json(json.dumps(status_json(caller.describe_models(), caller.statistics())))
        elif watch:
            _watch(caller)
        else:
            out.print(_view(caller, _look(caller), None))


def _watch(caller: Caller) -> None:
    """Show the status again and again, also through a restart of the sidecar, until Ctrl-C."""
    earlier: Look | None = None
    with contextlib.suppress(KeyboardInterrupt), Live(console=out, auto_refresh=False) as live:
        while True:
            try:
                look = _look(caller)
                shown: RenderableType = _view(caller, look, earlier)
                earlier = look
            except CallError as error:
                shown, earlier = f"{error}; trying again", None
            if out.is_terminal:
                live.update(shown, refresh=True)
            else:
                out.print(shown)
            time.sleep(WATCH_INTERVAL_S)  # the pause between two looks


def _look(caller: Caller) -> Look:
    return Look.at(time.monotonic(), caller.statistics())


def _view(caller: Caller, look: Look, earlier: Look | None) -> RenderableType:
    calls = calls_view(look, earlier)
    return status_view(caller.describe_models(), caller.target, time.time_ns(), calls)
