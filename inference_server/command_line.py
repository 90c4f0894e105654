"""All that can be said on the command line: `serve`, and the commands of `inference_server.commands`."""

import asyncio
import importlib
import importlib.metadata
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from inference_server.adapters.head_start import HeadStart

# Commands that are imported when they are asked for, and their modules. The module of most is their name.
MODULES: Final = {
    "check": "check",
    "status": "status",
    "models": "models",
    "predict": "predict",
    **dict.fromkeys(("rollback", "resume", "label", "load", "unload"), "orders"),
}
SETTINGS: Final = {"predict": {"ignore_unknown_options": True}}  # a negative value is no option


class Commands(TyperGroup):
    """All commands; `serve` is there from the start, and nothing that it does not need is imported for it."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]  # as typer has it
        """Return the names, in the order of the help."""
        return [*super().list_commands(ctx), *MODULES]

    def get_command(self, ctx: typer.Context, cmd_name: str) -> Any:  # type: ignore[override]
        """Return a command, imported now; None where there is none of this name."""
        if cmd_name not in MODULES:
            return super().get_command(ctx, cmd_name)
        module = importlib.import_module(f"inference_server.commands.{MODULES[cmd_name]}")
        alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
        alone.command(cmd_name, context_settings=SETTINGS.get(cmd_name))(getattr(module, cmd_name))
        return typer.main.get_command(alone)


app = typer.Typer(
    cls=Commands,
    name="inference-server",
    help="Hosts ONNX models behind gRPC; replace a model by replacing its file.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # its boxes cut the names of options off on 80 columns
)


def _tell_version(asked: bool) -> None:
    if asked:
        typer.echo(f"tickserve {importlib.metadata.version('tickserve')}")
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
    transport: Annotated[
        str | None,
        typer.Option(
            metavar="auto|grpcio|h2",
            help="What carries gRPC: the fast h2 for plaintext on this machine, grpcio for the rest, or one "
            "for all. Default: auto.",
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
        "transport": transport,
        "control": control,
        "state": state,
        "max_memory": max_memory,
        "allow_remote_plaintext": allow_remote_plaintext,
        "log_level": log_level,
    }
    flags: dict[tuple[str, ...], tuple[str, object]] = {
        (key,): (f"--{key.replace('_', '-')}", value) for key, value in said.items() if value is not None
    }
    for name in allow_contract_change or ():
        flags["model", name, "allow_contract_change"] = "--allow-contract-change", True
    if show_config:
        from inference_server.commands.serve_configured import show  # noqa: PLC0415 - as below

        show(flags, config)
    else:
        asyncio.run(_serve(flags, config))


async def _serve(flags: dict[tuple[str, ...], tuple[str, object]], config: Path | None) -> None:
    """Serve; the first vetting process loads its libraries while we do, where there is a second processor."""
    with HeadStart.take() as head_start:
        # All that a sidecar needs: it takes as long to import as the child takes to be warm.
        from inference_server.commands.serve_configured import serve_configured  # noqa: PLC0415

        await serve_configured(flags, config, head_start)
