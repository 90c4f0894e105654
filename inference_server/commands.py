"""The commands that need a sidecar which runs: what it serves, a prediction, an operator's orders."""

import contextlib
import json
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final

import numpy as np
import typer
from rich.console import RenderableType
from rich.live import Live

from inference_server.adapters.model_file import UnfitError, read_file, version_of
from inference_server.console import ending, out
from inference_server.core.contract import MAX_INT64
from inference_server.core.errors import InvalidRequestError
from inference_server.report import prediction_view, rollback_view, status_json, status_view
from inference_server.rpc.address import Address, AddressError
from inference_server.rpc.caller import Caller, CallError, calling
from inference_server.rpc.listener import ListenerOptions
from inference_server.rpc.version import parse_version
from inference_server.serving.registry import Which

WATCH_INTERVAL_S: Final = 1.0
# What a message holds beside an uploaded file, at most.
UPLOAD_FRAME_BYTES: Final = 4096
# Beyond it a number would become infinite on its way.
MAX_FLOAT32: Final = float(np.finfo(np.float32).max)

commands = typer.Typer()

Model = Annotated[str, typer.Argument(metavar="MODEL")]
Target = Annotated[
    str,
    typer.Option(
        metavar="ADDR", help="The sidecar: unix:/PATH or HOST:PORT. Default: the Unix socket of serve."
    ),
]
TimeoutS = Annotated[
    float, typer.Option("--timeout-s", metavar="SECONDS", min=0.001, help="Deadline of the call.")
]
LongTimeoutS = Annotated[
    float,
    typer.Option(
        "--timeout-s", metavar="SECONDS", min=0.001, help="How long to wait; what has begun goes on."
    ),
]


def default_socket() -> str:
    """Return the address of the Unix socket that `serve` listens on and the other commands call."""
    folder = os.environ.get("XDG_RUNTIME_DIR") or "/tmp"  # noqa: S108 - the socket itself has mode 0600
    return f"unix:{folder}/tickserve.sock"


@commands.command()
def status(
    target: Target = "",
    watch: Annotated[bool, typer.Option("--watch", help="Show it again every second.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as one JSON object.")] = False,
    timeout_s: TimeoutS = 5.0,
) -> None:
    """Show what a running sidecar serves; exit 1 if none answers."""
    if watch and as_json:
        raise typer.BadParameter("--watch and --json do not go together")
    with _sidecar(target, timeout_s) as caller:
        if as_json:
            out.print_json(json.dumps(status_json(caller.describe_models())))
        elif watch:
            _watch(caller)
        else:
            out.print(status_view(caller.describe_models(), caller.target, time.time_ns()))


@commands.command(context_settings={"ignore_unknown_options": True})  # a negative value is no option
def predict(
    model: Annotated[str, typer.Argument(metavar="MODEL[:VERSION|:LABEL]")],
    values: Annotated[
        list[float], typer.Argument(metavar="VALUE", help="One row of features, in the contract's order.")
    ],
    target: Target = "",
    timeout_s: TimeoutS = 5.0,
) -> None:
    """Ask a running sidecar for one prediction."""
    name, which = _name_and_version(model)
    for value in values:
        if MAX_FLOAT32 < abs(value) < math.inf:
            raise ending(f"{value:g}: expected a float32, up to {MAX_FLOAT32:g}", code=2)
    with _sidecar(target, timeout_s) as caller:
        out.print(prediction_view(caller.predict(name, which, values)))


@commands.command()
def rollback(model: Model, target: Target = "", timeout_s: LongTimeoutS = 60.0) -> None:
    """Go back to what a model served before.

    What it serves now is held until its file changes, or until `resume`.
    """
    with _sidecar(target, timeout_s) as caller:
        out.print(rollback_view(model, caller.rollback(model)))


@commands.command()
def resume(model: Model, target: Target = "", timeout_s: TimeoutS = 5.0) -> None:
    """Forget a rollback: what lies in the repository counts again."""
    with _sidecar(target, timeout_s) as caller:
        caller.resume(model)
        out.print(f"{model}: what lies in the repository counts again")


@commands.command()
def label(
    model: Model,
    label: Annotated[str, typer.Argument(metavar="LABEL", help="Such as stable or canary.")],
    version: Annotated[int | None, typer.Argument(metavar="VERSION", min=1, max=MAX_INT64)] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Take the label away instead.")] = False,
    target: Target = "",
    timeout_s: TimeoutS = 5.0,
) -> None:
    """Let a label name an available version, for callers to ask by."""
    if remove == (version is not None):
        raise typer.BadParameter("expected a version, or --remove", param_hint="VERSION")
    with _sidecar(target, timeout_s) as caller:
        if version is None:
            caller.delete_label(model, label)
            out.print(f"{model}: {label} is removed")
        else:
            caller.set_label(model, label, version)
            out.print(f"{model}: {label} is {version}")


@commands.command()
def load(
    model: Annotated[str, typer.Argument(metavar="MODEL[:VERSION]")],
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="A file to upload. Default: what lies in the repository."),
    ] = None,
    target: Target = "",
    timeout_s: LongTimeoutS = 60.0,
) -> None:
    """Load a model, of a sidecar with --control explicit.

    The version of a file that is uploaded is the one in the file, unless it is said.
    """
    name, version = _name_and_version(model)
    if isinstance(version, str) or (version and file is None):
        raise ending(f"{model}: expected MODEL, or with a file MODEL:VERSION", code=2)
    try:
        uploads = {} if file is None else _upload(file, version or None)
    except UnfitError as error:
        raise ending(f"{file}: {error}", code=1) from None
    with _sidecar(target, timeout_s) as caller:
        caller.load(name, uploads)
        out.print(f"{name}: {''.join(f'version {version} is ' for version in uploads)}loaded")


@commands.command()
def unload(model: Model, target: Target = "", timeout_s: LongTimeoutS = 60.0) -> None:
    """Take a model out of service, with --control explicit."""
    with _sidecar(target, timeout_s) as caller:
        caller.unload(model)
        out.print(f"{model}: unloaded")


def _watch(caller: Caller) -> None:
    """Show the status again and again, also through a restart of the sidecar."""
    with Live(console=out, auto_refresh=False) as live:
        while True:
            try:
                shown: RenderableType = status_view(caller.describe_models(), caller.target, time.time_ns())
            except CallError as error:
                shown = f"{error}; trying again"
            if out.is_terminal:
                live.update(shown, refresh=True)
            else:
                out.print(shown)
            time.sleep(WATCH_INTERVAL_S)  # the pause between two looks


def _upload(file: Path, version: int | None) -> dict[int, bytes]:
    """Return the file by its version, or raise UnfitError; a bigger one would be refused on its way."""
    model, _ = read_file(file, ListenerOptions().max_message_bytes - UPLOAD_FRAME_BYTES)
    return {version_of(model, version): model}


def _name_and_version(text: str) -> tuple[str, Which]:
    name, _, version = text.partition(":")
    try:
        return name, parse_version(version)
    except InvalidRequestError:
        expected = "expected MODEL, MODEL:VERSION or MODEL:LABEL, VERSION an integer above 0"
        raise ending(f"{text}: {expected}", code=2) from None


@contextlib.contextmanager
def _sidecar(target: str, timeout_s: float) -> Iterator[Caller]:
    """Open a channel for this block; what its calls meet is one line. Ctrl-C ends a watch without a word."""
    try:
        Address.parse(target or default_socket())
    except AddressError as error:
        raise ending(f"--target {error}" if target else error, code=2) from None
    try:
        with calling(target or default_socket(), timeout_s) as caller:
            yield caller
    except CallError as error:
        raise ending(error, code=1) from None
    except KeyboardInterrupt:
        raise typer.Exit(0) from None
