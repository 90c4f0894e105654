"""`inference-server serve | check`, and the commands of `inference_server.commands`.

Exit codes: 0 done; 1 the file, the address or the sidecar is not as asked, with the reason; 2 wrong usage.
"""

import asyncio
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from inference_server.adapters.archive_folder import default_state_folder
from inference_server.adapters.checking import check_file
from inference_server.app import ServeOptions, serve_until_stopped
from inference_server.commands import commands, default_socket
from inference_server.config import Config, ConfigError, parse_bytes, read_config
from inference_server.console import ending, out
from inference_server.core.contract import check_model_name
from inference_server.core.errors import ContractError
from inference_server.report import verdict_view
from inference_server.rpc.address import Address, AddressError
from inference_server.rpc.listener import ListenerOptions
from inference_server.serving.archive import ArchiveError
from inference_server.serving.settings import DEFAULT_SETTINGS, ModelSettings

app = typer.Typer(
    name="inference-server",
    help="Hosts ONNX models behind gRPC; replace a model by replacing its file.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # its boxes cut the names of options off on 80 columns
)

Control = Literal["files", "explicit"]


@app.command()
def serve(
    models: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="The model repository. Default: ./models.")
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
            help="Of probes and metrics, on this machine; or 'off'. Default: 127.0.0.1:8002.",
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A TOML file; flags win over it.")
    ] = None,
    control: Annotated[
        Control | None,
        typer.Option(help="Models follow their files, or come and go by load and unload. Default: files."),
    ] = None,
    state: Annotated[
        Path | None,
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
        bool,
        typer.Option(
            "--allow-remote-plaintext",
            help="Listen where other machines can reach, although there is no TLS.",
        ),
    ] = False,
    log_level: Annotated[str, typer.Option(metavar="LEVEL", help="DEBUG, INFO, WARNING or ERROR.")] = "INFO",
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
            listen=_listen_addresses(listen, config, file),
            http=_http_address(http, config, file),
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
        raise ending(error, code=2) from None
    try:
        asyncio.run(serve_until_stopped(options, read_options if config else None))
    except (AddressError, ArchiveError, OSError) as error:
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


app.add_typer(commands)


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


def _listen_addresses(flags: Sequence[str] | None, config: Path | None, file: Config) -> tuple[Address, ...]:
    texts, place = flags or (), "--listen "
    if not texts:
        texts, place = file.listen, f"{config}: listen: "
    if not texts:
        texts, place = (default_socket(), "127.0.0.1:8001"), ""
    try:
        return tuple(map(Address.parse, texts))
    except AddressError as error:
        raise AddressError(f"{place}{error}") from None


def _http_address(flag: str | None, config: Path | None, file: Config) -> Address | None:
    text = flag or file.http or "127.0.0.1:8002"
    if text == "off":
        return None
    try:
        address = Address.parse(text)
    except AddressError:
        address = None
    if address is None or address.path is not None or not address.is_local:
        place = "--http" if flag else f"{config}: http:"
        raise AddressError(f"{place} {text}: expected a loopback HOST:PORT, or 'off'")
    return address


def _level(name: str) -> int:
    level = logging.getLevelNamesMapping().get(name.upper())
    if level is None:
        raise typer.BadParameter(
            f"{name!r}: expected DEBUG, INFO, WARNING or ERROR", param_hint="--log-level"
        )
    return level


def main() -> None:
    """Run the command line."""
    app()
