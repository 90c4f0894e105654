"""`inference-server serve | check | status | predict`.

Exit codes: 0 done; 1 the file, the address or the sidecar is not as asked, with the reason; 2 wrong usage.
"""

import asyncio
import contextlib
import json
import logging
import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console, RenderableType
from rich.live import Live

from inference_server.adapters.checking import check_file
from inference_server.app import ServeOptions, serve_until_stopped
from inference_server.config import ConfigError, read_config
from inference_server.report import prediction_view, status_json, status_view, verdict_view
from inference_server.rpc.address import Address, AddressError
from inference_server.rpc.caller import Caller, CallError, calling
from inference_server.rpc.listener import ListenerOptions

WATCH_INTERVAL_S: Final = 1.0
PIPED_WIDTH: Final = 200

app = typer.Typer(
    name="inference-server",
    help="Hosts ONNX models behind gRPC; replace a model by replacing its file.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
# Piped output has no width to fit in. Names and reasons are not ours: what looks like markup in them is text.
out = Console(width=None if sys.stdout.isatty() else PIPED_WIDTH, highlight=False, markup=False, emoji=False)
err = Console(stderr=True, highlight=False, markup=False, emoji=False)


def default_socket() -> str:
    """Return the address of the Unix socket that `serve` listens on and the other commands call."""
    folder = os.environ.get("XDG_RUNTIME_DIR") or "/tmp"  # noqa: S108 - the socket itself has mode 0600
    return f"unix:{folder}/tickserve.sock"


Target = Annotated[str, typer.Option(help="Address of the sidecar: unix:/PATH or HOST:PORT.")]
TimeoutS = Annotated[float, typer.Option("--timeout-s", min=0.001, help="Deadline of the call.")]


@app.command()
def serve(
    models: Annotated[Path | None, typer.Option(help="The model repository. [default: ./models]")] = None,
    listen: Annotated[
        list[str] | None,
        typer.Option(
            help="unix:/PATH or HOST:PORT; repeatable. [default: the Unix socket and 127.0.0.1:8001]"
        ),
    ] = None,
    http: Annotated[
        str | None, typer.Option(help="HOST:PORT of the probes, or 'off'. [default: 127.0.0.1:8002]")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A TOML file; flags win over it.")] = None,
    allow_remote_plaintext: Annotated[
        bool, typer.Option(help="Listen where other machines can reach, although there is no TLS.")
    ] = False,
    log_level: Annotated[str, typer.Option(help="DEBUG, INFO, WARNING or ERROR.")] = "INFO",
) -> None:
    """Serve the models of a folder until SIGTERM or SIGINT, which drains; a second one exits at once."""
    logging.basicConfig(level=_level(log_level), format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("watchfiles").setLevel(logging.WARNING)  # a line for each file event says nothing
    try:
        file = read_config(config)
        options = ServeOptions(
            models=models or file.models or Path("models"),
            listen=_addresses(listen or file.listen or [default_socket(), "127.0.0.1:8001"]),
            http=_http_address(http or file.http or "127.0.0.1:8002"),
            listener=ListenerOptions(allow_remote_plaintext=allow_remote_plaintext),
            policies=file.policies,
            required=file.required,
        )
    except (AddressError, ConfigError) as error:
        err.print(f"inference-server: {error}", soft_wrap=True)
        raise typer.Exit(2) from None
    try:
        asyncio.run(serve_until_stopped(options))
    except (AddressError, OSError) as error:
        err.print(f"inference-server: {error}", soft_wrap=True)
        raise typer.Exit(1) from None


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="The model file.")],
    against: Annotated[Path | None, typer.Option(help="The file that it would replace.")] = None,
) -> None:
    """Say what `serve` would say of this file; exit 1 if it would refuse it."""
    verdict = check_file(file, against)
    out.print(verdict_view(file, verdict))
    if verdict.refusal:
        err.print(f"inference-server: {file}: {verdict.refusal}", soft_wrap=True)
        raise typer.Exit(1)


@app.command()
def status(
    target: Target = "",
    watch: Annotated[bool, typer.Option("--watch", help="Show it again every second.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as one JSON object.")] = False,
    timeout_s: TimeoutS = 5.0,
) -> None:
    """Show models, versions, states, digests and reasons of a running sidecar; exit 1 if none answers."""
    if watch and as_json:
        raise typer.BadParameter("--watch and --json do not go together")
    target = target or default_socket()
    with _reporting(), calling(target, timeout_s) as caller:
        if as_json:
            out.print_json(json.dumps(status_json(caller.describe_models())))
        elif watch:
            _watch(caller)
        else:
            out.print(status_view(caller.describe_models(), target))


@app.command(context_settings={"ignore_unknown_options": True})  # a negative value is no option
def predict(
    model: Annotated[str, typer.Argument(metavar="MODEL[:VERSION]")],
    values: Annotated[list[float], typer.Argument(help="One row of features, in the contract's order.")],
    target: Target = "",
    timeout_s: TimeoutS = 5.0,
) -> None:
    """Ask a running sidecar for one prediction."""
    name, _, version = model.partition(":")
    if version and not re.fullmatch(r"[1-9][0-9]{0,17}", version):
        err.print(f"inference-server: {model}: expected MODEL or MODEL:VERSION, an integer above 0")
        raise typer.Exit(2)
    with _reporting(), calling(target or default_socket(), timeout_s) as caller:
        out.print(prediction_view(caller.predict(name, int(version or 0), values)))


def _watch(caller: Caller) -> None:
    """Show the status again and again, also through a restart of the sidecar."""
    with Live(console=out, auto_refresh=False) as live:
        while True:
            try:
                shown: RenderableType = status_view(caller.describe_models(), caller.target)
            except CallError as error:
                shown = f"{error}; trying again"
            if out.is_terminal:
                live.update(shown, refresh=True)
            else:
                out.print(shown)
            time.sleep(WATCH_INTERVAL_S)  # the pause between two looks


def _addresses(texts: Sequence[str]) -> tuple[Address, ...]:
    return tuple(Address.parse(text) for text in texts)


def _http_address(text: str) -> Address | None:
    if text == "off":
        return None
    address = Address.parse(text)
    if address.path is not None or not address.is_local:
        raise AddressError(f"--http {text}: expected a loopback HOST:PORT, or 'off'")
    return address


def _level(name: str) -> int:
    level = logging.getLevelNamesMapping().get(name.upper())
    if level is None:
        raise typer.BadParameter(
            f"{name!r}: expected DEBUG, INFO, WARNING or ERROR", param_hint="--log-level"
        )
    return level


@contextlib.contextmanager
def _reporting() -> Iterator[None]:
    """Turn what a call can meet into one line and exit 1; Ctrl-C ends a watch without a word."""
    try:
        yield
    except CallError as error:
        err.print(f"inference-server: {error}", soft_wrap=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def main() -> None:
    """Run the command line."""
    app()
