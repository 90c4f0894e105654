"""`serve`, once it is known what is to be served: the log, and the process."""

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Literal

from inference_server.adapters.archive_folder import default_state_folder
from inference_server.adapters.head_start import HeadStart
from inference_server.adapters.renewal import RenewalError
from inference_server.app import ServeOptions
from inference_server.config_defaults import CONTROL, HTTP, LOG_LEVEL, LOG_LEVELS, MODELS, default_listen
from inference_server.core.contract import check_model_name
from inference_server.core.errors import ContractError
from inference_server.plain_arguments import Said
from inference_server.rpc.address import Address, AddressError
from inference_server.rpc.listener import ListenerOptions, Transport
from inference_server.rpc.tracing import TracingError
from inference_server.running import serve_until_stopped
from inference_server.serving.archive import ArchiveError
from inference_server.serving.settings import ModelSettings

log = logging.getLogger(__name__)

TRANSPORTS: Final[Mapping[str, Transport]] = {"auto": "auto", "grpcio": "grpcio", "h2": "h2"}
CONTROLS: Final[Mapping[str, Literal["files", "explicit"]]] = {"files": "files", "explicit": "explicit"}

LISTENER: Final = ListenerOptions()


class ServeError(Exception):
    """Something that is not as asked: the text says what, in one line."""


async def serve(
    options: ServeOptions,
    log_level: str,
    read_again: Callable[[], ServeOptions] | None,
    head_start: HeadStart,
) -> None:
    """Serve until it is stopped; ServeError for what is wrong."""
    logging.basicConfig(level=log_level, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("watchfiles").setLevel(logging.WARNING)  # a line for each file event says nothing
    if not os.access(options.models, os.F_OK):  # it may come later, or be a mistake in the name
        log.warning("there is no model folder %s; it is waited for", options.models)
    try:
        await serve_until_stopped(options, read_again, head_start)
    except (AddressError, ArchiveError, RenewalError, TracingError, OSError) as error:
        raise ServeError(str(error)) from None


def plain_options(said: Said, environ: Mapping[str, str]) -> tuple[ServeOptions, str] | None:
    """Return what flags alone say, and the level of the log; None where the configuration would refuse it.

    It is what the configuration makes of the same flags, with every default its own.
    """
    one = {flag: values[0] for flag, values in said.items() if values}
    models = Path(one["models"]) if "models" in one else MODELS
    control = CONTROLS.get(one["control"]) if "control" in one else CONTROL
    transport = TRANSPORTS.get(one.get("transport", LISTENER.transport))
    level = one.get("log-level", LOG_LEVEL).upper()
    names = said.get("allow-contract-change", ())
    try:
        listen = tuple(map(Address.parse, said["listen"])) if "listen" in said else default_listen()
        http = _http(one["http"]) if "http" in one else HTTP
        for name in names:
            check_model_name(name)
    except (AddressError, ContractError):
        return None
    if level not in LOG_LEVELS or control is None or transport is None:
        return None
    options = ServeOptions(
        models=models,
        listen=listen,
        http=http,
        settings={name: ModelSettings(allow_contract_change=True) for name in names},
        control=control,
        state=Path(one["state"]) if "state" in one else default_state_folder(models, environ),
        listener=ListenerOptions(
            transport=transport, allow_remote_plaintext="allow-remote-plaintext" in said
        ),
    )
    return options, level


def _http(text: str) -> Address | None:
    if text == "off":
        return None
    address = Address.parse(text)
    if address.path is not None:
        raise AddressError(text)
    return address
