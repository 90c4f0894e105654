"""`rollback`, `resume`, `label`, `load`, `unload`: what an operator orders a sidecar to do."""

from pathlib import Path
from typing import Annotated, Final

import typer

from inference_server.adapters.model_file import UnfitError, read_file, version_of
from inference_server.commands.target import Model, Target, name_and_version, on_sidecar
from inference_server.console import ending, out
from inference_server.core.contract import MAX_INT64
from inference_server.report import rollback_view
from inference_server.rpc.listener import ListenerOptions

# How long an order waits that ends with a model loaded or drained; what has begun goes on.
LOADING_TIMEOUT_S: Final = 60.0
# What a message holds beside an uploaded file, at most.
UPLOAD_FRAME_BYTES: Final = 4096


@on_sidecar(timeout_s=LOADING_TIMEOUT_S)
def rollback(target: Target, model: Model) -> None:
    """Go back to what a model served before.

    What it serves now is held until its file changes, or until `resume`.
    """
    with target.open() as caller:
        out.print(rollback_view(model, caller.rollback(model)))


@on_sidecar()
def resume(target: Target, model: Model) -> None:
    """Forget a rollback: what lies in the repository counts again."""
    with target.open() as caller:
        caller.resume(model)
        out.print(f"{model}: what lies in the repository counts again")


@on_sidecar()
def label(
    target: Target,
    model: Model,
    label: Annotated[str, typer.Argument(metavar="LABEL", help="Such as stable or canary.")],
    version: Annotated[int | None, typer.Argument(metavar="VERSION", min=1, max=MAX_INT64)] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Take the label away instead.")] = False,
) -> None:
    """Let a label name an available version, for callers to ask by."""
    if remove == (version is not None):
        raise typer.BadParameter("expected a version, or --remove", param_hint="VERSION")
    with target.open() as caller:
        if version is None:
            caller.delete_label(model, label)
            out.print(f"{model}: {label} is removed")
        else:
            caller.set_label(model, label, version)
            out.print(f"{model}: {label} is {version}")


@on_sidecar(timeout_s=LOADING_TIMEOUT_S)
def load(
    target: Target,
    model: Annotated[str, typer.Argument(metavar="MODEL[:VERSION]")],
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="A file to upload. Default: what lies in the repository."),
    ] = None,
) -> None:
    """Load a model, of a sidecar with --control explicit.

    The version of a file that is uploaded is the one in the file, unless it is said.
    """
    name, version = name_and_version(model)
    if isinstance(version, str) or (version and file is None):
        raise ending(f"{model}: expected MODEL, or with a file MODEL:VERSION", code=2)
    try:
        uploads = {} if file is None else _upload(file, version or None)
    except UnfitError as error:
        raise ending(f"{file}: {error}", code=1) from None
    with target.open() as caller:
        caller.load(name, uploads)
        out.print(f"{name}: {''.join(f'version {version} is ' for version in uploads)}loaded")


@on_sidecar(timeout_s=LOADING_TIMEOUT_S)
def unload(target: Target, model: Model) -> None:
    """Take a model out of service, with --control explicit."""
    with target.open() as caller:
        caller.unload(model)
        out.print(f"{model}: unloaded")


def _upload(file: Path, version: int | None) -> dict[int, bytes]:
    """Return the file by its version, or raise UnfitError; a bigger one would be refused on its way."""
    model, _ = read_file(file, ListenerOptions().max_message_bytes - UPLOAD_FRAME_BYTES)
    return {version_of(model, version): model}
