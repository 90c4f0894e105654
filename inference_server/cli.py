"""`inference-server serve | check | status | predict | rollback | resume | label | load | unload`.

Exit codes: 0 done; 1 the file, the address or the sidecar is not as asked, with the reason; 2 wrong usage.
"""

import asyncio
import contextlib
import json
import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Final, Literal

import typer
from rich.console import Console, RenderableType
from rich.live import Live

from inference_server.adapters.archive_folder import default_state_folder
from inference_server.adapters.checking import check_file
from inference_server.adapters.model_file import UnfitError, read_file, version_of
from inference_server.app import ServeOptions, serve_until_stopped
from inference_server.config import ConfigError, parse_bytes, read_config
from inference_server.core.contract import MAX_INT64, check_model_name
from inference_server.core.errors import ContractError, InvalidRequestError
from inference_server.report import prediction_view, rollback_view, status_json, status_view, verdict_view
from inference_server.rpc.address import Address, AddressError
from inference_server.rpc.caller import Caller, CallError, calling
from inference_server.rpc.listener import ListenerOptions
from inference_server.rpc.version import parse_version
from inference_server.serving.archive import ArchiveError
from inference_server.serving.registry import Which
from inference_server.serving.settings import DEFAULT_SETTINGS, ModelSettings

WATCH_INTERVAL_S: Final = 1.0
PIPED_WIDTH: Final = 200
# What a message holds beside an uploaded file, at most.
UPLOAD_FRAME_BYTES: Final = 4096

app = typer.Typer(
    name="inference-server",
    help="Hosts ONNX models behind gRPC; replace a model by replacing its file.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # its boxes cut the names of options off on 80 columns
)
# Piped output has no width to fit in. Names and reasons are not ours: what looks like markup in them is text.
out = Console(width=None if sys.stdout.isatty() else PIPED_WIDTH, highlight=False, markup=False, emoji=False)
err = Console(stderr=True, highlight=False, markup=False, emoji=False)


def default_socket() -> str:
    """Return the address of the Unix socket that `serve` listens on and the other commands call."""
    folder = os.environ.get("XDG_RUNTIME_DIR") or "/tmp"  # noqa: S108 - the socket itself has mode 0600
    return f"unix:{folder}/tickserve.sock"


Control = Literal["files", "explicit"]
Target = Annotated[str, typer.Option(help="Address of the sidecar: unix:/PATH or HOST:PORT.")]
TimeoutS = Annotated[float, typer.Option("--timeout-s", min=0.001, help="Deadline of the call.")]
LongTimeoutS = Annotated[
    float, typer.Option("--timeout-s", min=0.001, help="How long to wait; what has begun goes on.")
]


@app.command()
def serve(
    models: Annotated[Path | None, typer.Option(help="The model repository. Default: ./models.")] = None,
    listen: Annotated[
        list[str] | None,
        typer.Option(
            help="unix:/PATH or HOST:PORT; repeatable. Default: the Unix socket and 127.0.0.1:8001."
        ),
    ] = None,
    http: Annotated[
        str | None, typer.Option(help="HOST:PORT of probes and metrics, or 'off'. Default: 127.0.0.1:8002.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A TOML file; flags win over it.")] = None,
    control: Annotated[
        Control | None,
        typer.Option(help="Models follow their files, or come and go by load and unload. Default: files."),
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option(
            help="A folder of this sidecar's own for rollbacks and labels. "
            "Default: one below $STATE_DIRECTORY or the user's state folder."
        ),
    ] = None,
    max_memory: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Of all models, such as '4 GiB'. Default: half of what there is."),
    ] = None,
    allow_contract_change: Annotated[
        list[str] | None,
        typer.Option(metavar="MODEL", help="Its files may come with another contract; repeatable."),
    ] = None,
    allow_remote_plaintext: Annotated[
        bool, typer.Option(help="Listen where other machines can reach, although there is no TLS.")
    ] = False,
    log_level: Annotated[str, typer.Option(help="DEBUG, INFO, WARNING or ERROR.")] = "INFO",
) -> None:
    """Serve the models of a folder until SIGTERM or SIGINT.

    A signal drains: calls in flight are answered. A second one exits at once. With --config,
    SIGHUP reads the file again and takes over what it says of the models.
    """
    logging.basicConfig(level=_level(log_level), format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("watchfiles").setLevel(logging.WARNING)  # a line for each file event says nothing

    def read_options() -> ServeOptions:
        file = read_config(config)
        folder = models or file.models or Path("models")
        return ServeOptions(
            models=folder,
            listen=_addresses(listen or file.listen or [default_socket(), "127.0.0.1:8001"]),
            http=_http_address(http or file.http or "127.0.0.1:8002"),
            listener=ListenerOptions(allow_remote_plaintext=allow_remote_plaintext),
            settings=_settings(file.settings, allow_contract_change or ()),
            required=file.required,
            control=control or file.control or "files",
            state=state or file.state or default_state_folder(folder, os.environ),
            max_memory_bytes=_max_memory_bytes(max_memory) or file.max_memory_bytes,
        )

    try:
        options = read_options()
    except (AddressError, ConfigError) as error:
        err.print(f"inference-server: {error}", soft_wrap=True)
        raise typer.Exit(2) from None
    try:
        asyncio.run(serve_until_stopped(options, read_options if config else None))
    except (AddressError, ArchiveError, OSError) as error:
        err.print(f"inference-server: {error}", soft_wrap=True)
        raise typer.Exit(1) from None


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="The model file.")],
    against: Annotated[Path | None, typer.Option(help="The file that it would replace.")] = None,
    allow_contract_change: Annotated[
        bool, typer.Option("--allow-contract-change", help="It may have another contract than that file.")
    ] = False,
) -> None:
    """Say what `serve` would say of a file; exit 1 if it refuses it."""
    verdict = check_file(file, against, allow_contract_change=allow_contract_change)
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
    """Show what a running sidecar serves; exit 1 if none answers."""
    if watch and as_json:
        raise typer.BadParameter("--watch and --json do not go together")
    target = target or default_socket()
    with _reporting(), calling(target, timeout_s) as caller:
        if as_json:
            out.print_json(json.dumps(status_json(caller.describe_models())))
        elif watch:
            _watch(caller)
        else:
            out.print(status_view(caller.describe_models(), target, time.time_ns()))


@app.command(context_settings={"ignore_unknown_options": True})  # a negative value is no option
def predict(
    model: Annotated[str, typer.Argument(metavar="MODEL[:VERSION|:LABEL]")],
    values: Annotated[list[float], typer.Argument(help="One row of features, in the contract's order.")],
    target: Target = "",
    timeout_s: TimeoutS = 5.0,
) -> None:
    """Ask a running sidecar for one prediction."""
    name, which = _name_and_version(model)
    with _reporting(), calling(target or default_socket(), timeout_s) as caller:
        out.print(prediction_view(caller.predict(name, which, values)))


@app.command()
def rollback(
    model: Annotated[str, typer.Argument(metavar="MODEL")],
    target: Target = "",
    timeout_s: LongTimeoutS = 60.0,
) -> None:
    """Go back to what a model served before.

    What it serves now is held until its file changes, or until `resume`.
    """
    with _reporting(), calling(target or default_socket(), timeout_s) as caller:
        out.print(rollback_view(model, caller.rollback(model)))


@app.command()
def resume(
    model: Annotated[str, typer.Argument(metavar="MODEL")], target: Target = "", timeout_s: TimeoutS = 5.0
) -> None:
    """Forget a rollback: what lies in the repository counts again."""
    with _reporting(), calling(target or default_socket(), timeout_s) as caller:
        caller.resume(model)
        out.print(f"{model}: what lies in the repository counts again")


@app.command()
def label(
    model: Annotated[str, typer.Argument(metavar="MODEL")],
    label: Annotated[str, typer.Argument(metavar="LABEL", help="Such as stable or canary.")],
    version: Annotated[int | None, typer.Argument(metavar="VERSION", min=1, max=MAX_INT64)] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Take the label away instead.")] = False,
    target: Target = "",
    timeout_s: TimeoutS = 5.0,
) -> None:
    """Let a label name an available version, for callers to ask by."""
    if remove == (version is not None):
        raise typer.BadParameter("expected a version, or --remove", param_hint="VERSION")
    with _reporting(), calling(target or default_socket(), timeout_s) as caller:
        if version is None:
            caller.delete_label(model, label)
            out.print(f"{model}: {label} is removed")
        else:
            caller.set_label(model, label, version)
            out.print(f"{model}: {label} is {version}")


@app.command()
def load(
    model: Annotated[str, typer.Argument(metavar="MODEL[:VERSION]")],
    file: Annotated[
        Path | None,
        typer.Argument(help="A file to upload. Default: what lies in the repository.", metavar="FILE"),
    ] = None,
    target: Target = "",
    timeout_s: LongTimeoutS = 60.0,
) -> None:
    """Load a model, of a sidecar with --control explicit.

    The version of a file that is uploaded is the one in the file, unless it is said.
    """
    name, version = _name_and_version(model)
    if isinstance(version, str) or (version and file is None):
        err.print(f"inference-server: {model}: expected MODEL, or with a file MODEL:VERSION", soft_wrap=True)
        raise typer.Exit(2)
    try:
        uploads = {} if file is None else _upload(file, version or None)
    except UnfitError as error:
        err.print(f"inference-server: {file}: {error}", soft_wrap=True)
        raise typer.Exit(1) from None
    with _reporting(), calling(target or default_socket(), timeout_s) as caller:
        caller.load(name, uploads)
        out.print(f"{name}: {''.join(f'version {version} is ' for version in uploads)}loaded")


@app.command()
def unload(
    model: Annotated[str, typer.Argument(metavar="MODEL")],
    target: Target = "",
    timeout_s: LongTimeoutS = 60.0,
) -> None:
    """Take a model out of service, with --control explicit."""
    with _reporting(), calling(target or default_socket(), timeout_s) as caller:
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


def _settings(settings: Mapping[str, ModelSettings], allowed: Sequence[str]) -> Mapping[str, ModelSettings]:
    """Return the settings of the file with the contract change allowed for these models too."""
    for name in allowed:
        try:
            check_model_name(name)
        except ContractError as error:
            raise typer.BadParameter(str(error), param_hint="--allow-contract-change") from None
    return {**settings} | {
        name: replace(settings.get(name, DEFAULT_SETTINGS), allow_contract_change=True) for name in allowed
    }


def _max_memory_bytes(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return parse_bytes(text)
    except ConfigError as error:
        raise typer.BadParameter(str(error), param_hint="--max-memory") from None


def _name_and_version(text: str) -> tuple[str, Which]:
    name, _, version = text.partition(":")
    try:
        return name, parse_version(version)
    except InvalidRequestError:
        expected = "expected MODEL, MODEL:VERSION or MODEL:LABEL, VERSION an integer above 0"
        err.print(f"inference-server: {text}: {expected}", soft_wrap=True)
        raise typer.Exit(2) from None


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
