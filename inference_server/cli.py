"""`inference-server serve | check`, and the commands of `inference_server.commands`.

Exit codes: 0 done; 1 the file, the address or the sidecar is not as asked, with the reason; 2 wrong usage;
130 interrupted, except where that is how it ends (`serve`, `status --watch`).
"""

import asyncio
import importlib.metadata
import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from inference_server.adapters.checking import check_file
from inference_server.adapters.renewal import RenewalError
from inference_server.app import ServeOptions
from inference_server.commands.models import models as explain_models
from inference_server.commands.orders import label, load, resume, rollback, unload
from inference_server.commands.predict import predict
from inference_server.commands.status import status
from inference_server.config import Config, effective, read_config
from inference_server.config_layers import (
    ConfigError,
    Layer,
    Place,
    environment_layer,
    file_layer,
    named_layer,
)
from inference_server.console import ending, out
from inference_server.report import config_view, verdict_view
from inference_server.rpc.address import AddressError
from inference_server.rpc.tracing import TracingError
from inference_server.running import serve_until_stopped
from inference_server.serving.archive import ArchiveError

log = logging.getLogger(__name__)

app = typer.Typer(
    name="inference-server",
    help="Hosts ONNX models behind gRPC; replace a model by replacing its file.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # its boxes cut the names of options off on 80 columns
)


def _tell_version(asked: bool) -> None:
    if asked:
        out.print(f"tickserve {importlib.metadata.version('tickserve')}")
        raise typer.Exit


@app.callback()
def _options_of_all(
    version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Show the release.")
    ] = False,
) -> None:
    del version  # its callback has told it


@app.command()
def serve(
    models: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="The model repository. Default: ./models.")
    ] = None,
    listen: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ADDR",
            help="unix:/PATH or HOST:PORT; repeatable. Default: the Unix socket and 127.0.0.1:8001.",
        ),
    ] = None,
    http: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Of the status page, probes and metrics; or 'off'. Default: 127.0.0.1:8002.",
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", envvar="TICKSERVE_CONFIG", help="A TOML file; flags and variables win over it."
        ),
    ] = None,
    control: Annotated[
        str | None,
        typer.Option(
            metavar="files|explicit",
            help="Models follow their files, or come and go by load and unload. Default: files.",
        ),
    ] = None,
    state: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="A folder of this sidecar's own for rollbacks and labels. "
            "Default: one below $STATE_DIRECTORY or the user's state folder.",
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
        bool | None,
        typer.Option(
            "--allow-remote-plaintext",
            help="Listen where other machines can reach, although there is no TLS.",
        ),
    ] = None,
    log_level: Annotated[
        str | None, typer.Option(metavar="LEVEL", help="DEBUG, INFO, WARNING or ERROR. Default: INFO.")
    ] = None,
    show_config: Annotated[
        bool, typer.Option("--show-config", help="Print what is configured and by what, and do not serve.")
    ] = False,
) -> None:
    """Serve the models of a folder until SIGTERM or SIGINT.

    A signal drains: calls in flight are answered. A second one exits at once. With --config,
    SIGHUP reads the file again and takes over what it says of the models. docs/configuration.md
    has the keys of that file, and the environment variables.
    """
    said = {
        "models": models,
        "listen": listen or None,
        "http": http,
        "control": control,
        "state": state,
        "max_memory": max_memory,
        "allow_remote_plaintext": allow_remote_plaintext,
        "log_level": log_level,
    }
    flags: dict[Place, tuple[str, object]] = {
        (key,): (f"--{key.replace('_', '-')}", value) for key, value in said.items() if value is not None
    }
    for name in allow_contract_change or ():
        flags["model", name, "allow_contract_change"] = "--allow-contract-change", True

    def layers() -> list[Layer]:
        file = [file_layer(config)] if config else []
        return [named_layer(flags), environment_layer(os.environ), *file]

    try:
        first = layers()
        configured = read_config(first)
    except ConfigError as error:
        raise ending(error, code=2) from None
    if show_config:
        out.print(config_view(effective(configured, first)), soft_wrap=True)
        return
    logging.basicConfig(level=configured.log_level, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("watchfiles").setLevel(logging.WARNING)  # a line for each file event says nothing
    if not os.access(configured.models, os.F_OK):  # it may come later, or be a mistake in the name
        log.warning("there is no model folder %s; it is waited for", configured.models)
    read_again = (lambda: _options(read_config(layers()))) if config else None
    try:
        asyncio.run(serve_until_stopped(_options(configured), read_again))
    except (AddressError, ArchiveError, RenewalError, TracingError, OSError) as error:
        raise ending(error, code=1) from None


@app.command()
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


app.command()(status)
app.command("models")(explain_models)  # `models` is a flag of serve here
app.command(context_settings={"ignore_unknown_options": True})(predict)  # a negative value is no option
for order in (rollback, resume, label, load, unload):
    app.command()(order)


def _options(config: Config) -> ServeOptions:
    return ServeOptions(
        models=config.models,
        listen=config.listen,
        http=config.http,
        tls=config.tls.options,
        tokens=config.tokens.options,
        listener=config.listener,
        settings=config.settings,
        required=config.required,
        control=config.control,
        state=config.state,
        max_memory_bytes=config.max_memory,
        guard=config.limits.guard,
        data_plane=config.limits.data_plane,
        shared_memory=config.shared_memory.options,
        tracing=config.tracing.options,
        page=config.page.options,
    )


def main() -> None:
    """Run the command line."""
    try:
        app()
    except OSError as error:  # such as of a full disk where the output goes
        sys.stdout = None  # or Python would try again at its end
        sys.exit(ending(error.strerror or error, code=1).exit_code)
