"""The sidecar that a command calls: the options that name it, the way there, and what its shell completes."""

import contextlib
import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Concatenate, Final, ParamSpec, get_type_hints

import typer

from inference_server.config_defaults import default_socket
from inference_server.console import ending
from inference_server.core.errors import InvalidRequestError
from inference_server.rpc.address import Address, AddressError
from inference_server.rpc.caller import Caller, CallError, calling
from inference_server.rpc.proof import Proof, ProofError
from inference_server.rpc.version import parse_version
from inference_server.serving.registry import Which

# How long a shell waits for the names of models; it shows none where they take longer.
COMPLETION_TIMEOUT_S: Final = 0.5

P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class Target:
    """What the options of a command say of the sidecar: each field is an option."""

    target: Annotated[
        str,
        typer.Option(
            metavar="ADDR",
            envvar="TICKSERVE_TARGET",
            help="The sidecar: unix:/PATH or HOST:PORT. Default: the Unix socket of serve.",
        ),
    ] = ""
    timeout_s: Annotated[
        float, typer.Option("--timeout-s", metavar="SECONDS", min=0.001, help="Deadline of a call.")
    ] = 5.0
    ca: Annotated[
        Path | None,
        typer.Option(metavar="FILE", envvar="TICKSERVE_CA", help="Who issues its certificate: TLS."),
    ] = None
    certificate: Annotated[
        Path | None,
        typer.Option(metavar="FILE", envvar="TICKSERVE_CERTIFICATE", help="One of your own, where it asks."),
    ] = None
    key: Annotated[
        Path | None, typer.Option(metavar="FILE", envvar="TICKSERVE_KEY", help="The key of --certificate.")
    ] = None
    token_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", envvar="TICKSERVE_TOKEN_FILE", help="Holds the token that is sent."),
    ] = None

    @contextlib.contextmanager
    def connect(self) -> Iterator[Caller]:
        """Open a channel for this block; CallError for what its calls meet.

        AddressError or ProofError before it, where the options cannot be used.
        """
        address = self.target or default_socket()
        try:
            Address.parse(address)
        except AddressError as error:
            raise AddressError(f"--target {error}" if self.target else str(error)) from None
        proof = Proof(self.ca, self.certificate, self.key, self.token_file)
        with calling(address, self.timeout_s, proof) as caller:
            yield caller

    @contextlib.contextmanager
    def open(self) -> Iterator[Caller]:
        """Connect; what goes wrong ends the command with one line."""
        try:
            with self.connect() as caller:
                yield caller
        except (AddressError, ProofError) as error:
            raise ending(error, code=2) from None
        except CallError as error:
            raise ending(error, code=1) from None


def on_sidecar(
    *, timeout_s: float = 5.0
) -> Callable[[Callable[Concatenate[Target, P], None]], Callable[..., None]]:
    """Return a decorator of commands that call a sidecar: their first parameter becomes Target's options."""
    hints = get_type_hints(Target, include_extras=True)
    options = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=timeout_s if field.name == "timeout_s" else field.default,
            annotation=hints[field.name],
        )
        for field in dataclasses.fields(Target)
    ]

    def decorate(command: Callable[Concatenate[Target, P], None]) -> Callable[..., None]:
        own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]

        def run(**given: Any) -> None:
            target = Target(**{option.name: given.pop(option.name) for option in options})
            call: Callable[..., None] = command
            call(target, **given)

        functools.update_wrapper(run, command)
        del run.__wrapped__  # type: ignore[attr-defined]  # or typer would look there for the parameters
        parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own] + options
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # as inspect has it
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return run

    return decorate


def complete_model(context: typer.Context) -> list[str]:
    """Return the names of the sidecar's models, for a shell; none where it cannot be asked in time."""
    said = context.params.get("target") or ""
    try:
        options = {name: context.params.get(name) for name in ("ca", "certificate", "key", "token_file")}
        with Target(said, COMPLETION_TIMEOUT_S, **options).connect() as caller:
            return [model.name for model in caller.describe_models().models]
    except (AddressError, ProofError, CallError):
        return []


def name_and_version(text: str) -> tuple[str, Which]:
    """Read MODEL, MODEL:VERSION or MODEL:LABEL; anything else ends the command."""
    name, _, version = text.partition(":")
    try:
        return name, parse_version(version)
    except InvalidRequestError:
        expected = "expected MODEL, MODEL:VERSION or MODEL:LABEL, VERSION an integer above 0"
        raise ending(f"{text}: {expected}", code=2) from None


Model = Annotated[str, typer.Argument(metavar="MODEL", autocompletion=complete_model)]
VersionedModel = Annotated[
    str, typer.Argument(metavar="MODEL[:VERSION|:LABEL]", autocompletion=complete_model)
]
