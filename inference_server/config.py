"""The sidecar's configuration: each key by a flag, by an environment variable, or in the TOML file.

models = "models"                  # the model repository, a folder
listen = ["unix:/run/tickserve.sock", "127.0.0.1:8001"]
max_memory = "4 GiB"               # of all models together
[model.momentum]
versions = "latest 2"              # or "latest", "all", or a list such as [3, 5]

docs/configuration.md has every key; a test holds it and the classes together. To add a table: write a
`Section` in `config_sections`, with a field for each key, of a type of `config_values` and with the default
of the options that it fills; give `Config` a field for it; pass it on where cli.py makes the ServeOptions.
File, variables, errors and --show-config follow. A secret is never a value, only the file that holds it.
"""

import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import Field, ValidationError
from pydantic_core import ErrorDetails

from inference_server.adapters.archive_folder import default_state_folder
from inference_server.config_defaults import CONTROL, HTTP, LOG_LEVEL, MODELS, default_listen
from inference_server.config_layers import ConfigError, Layer, Place, merged, source
from inference_server.config_sections import (
    LimitsSection,
    ModelSection,
    PageSection,
    Section,
    SharedMemorySection,
    SocketSection,
    TlsSection,
    TokensSection,
    TracingSection,
)
from inference_server.config_values import (
    Addresses,
    Bytes,
    Control,
    Flag,
    Folder,
    HttpAddress,
    LogLevel,
    ModelName,
    Transport,
    came,
)
from inference_server.rpc.address import SocketOptions
from inference_server.rpc.listener import ListenerOptions
from inference_server.serving.settings import ModelSettings


def _default_state(known: Mapping[str, Any]) -> Path | None:
    return default_state_folder(known["models"], os.environ)


class Config(Section):
    """What is configured, with the defaults of what is not.

    Folders that are not absolute are taken from where the sidecar is started. `http` None: no HTTP. `state`
    None: nothing says where. `max_memory` is in bytes; None: half of what there is.
    """

    models: Folder = MODELS
    listen: Addresses = Field(default_factory=default_listen)
    http: HttpAddress = HTTP
    transport: Transport = ListenerOptions().transport
    control: Control = CONTROL
    state: Folder | None = Field(default_factory=_default_state)
    max_memory: Bytes | None = None
    allow_remote_plaintext: Flag = False
    log_level: LogLevel = LOG_LEVEL
    tls: TlsSection = TlsSection()
    tokens: TokensSection = TokensSection()
    socket: SocketSection = SocketSection()
    limits: LimitsSection = LimitsSection()
    model: dict[ModelName, ModelSection] = Field(default_factory=dict)
    shared_memory: SharedMemorySection = SharedMemorySection()
    tracing: TracingSection = TracingSection()
    page: PageSection = PageSection()

    @property
    def settings(self) -> dict[str, ModelSettings]:
        """What the life cycle is told of each model that has a section."""
        return {
            name: ModelSettings(
                section.versions, section.allow_contract_change, section.labels, section.max_calls
            )
            for name, section in self.model.items()
        }

    @property
    def listener(self) -> ListenerOptions:
        """What the listener is told."""
        return ListenerOptions(
            transport=self.transport,
            max_connections=self.limits.max_connections,
            max_message_bytes=self.limits.max_message,
            max_metadata_bytes=self.limits.max_metadata,
            max_streams_per_connection=self.limits.max_streams_per_connection,
            keepalive_s=self.limits.keepalive_s,
            keepalive_timeout_s=self.limits.keepalive_timeout_s,
            min_ping_interval_s=self.limits.min_ping_interval_s,
            drain_timeout_s=self.limits.drain_timeout_s,
            allow_remote_plaintext=self.allow_remote_plaintext,
            socket=SocketOptions(self.socket.mode, self.socket.owner, self.socket.group),
        )

    @property
    def required(self) -> tuple[str, ...]:
        """The models without which the sidecar is not ready."""
        return tuple(name for name, section in self.model.items() if section.required)


def read_config(layers: Sequence[Layer]) -> Config:
    """Return what the layers say, the first winning; ConfigError has a line for each value that is wrong."""
    values: dict[str, Any] = {}
    for layer in reversed(layers):
        values = merged(values, layer.values)
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        # A default that follows from a key that is wrong is no mistake of its own.
        wrong = [detail for detail in error.errors() if detail["type"] != "default_factory_not_called"]
        told = [_told(detail, layers) for detail in wrong]
    raise ConfigError("\n".join(told))


def effective(config: Config, layers: Sequence[Layer]) -> Iterator[tuple[Place, Any, str]]:
    """Yield each key, its value as JSON has it, and its origin: a flag, a variable, a file or "default"."""
    for place, value in _leaves(config.model_dump(mode="json"), ()):
        layer = source(layers, place)
        yield place, value, layer.origin(place) if layer else "default"


def _leaves(table: Mapping[str, Any], outer: Place) -> Iterator[tuple[Place, Any]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _leaves(value, (*outer, key))
        else:
            yield (*outer, key), value


def _told(detail: ErrorDetails, layers: Sequence[Layer]) -> str:
    place = tuple(str(key) for key in detail["loc"] if key != "[key]")
    text = detail["msg"]
    layer = source(layers, place)
    name = layer.name(place) if layer else ".".join(place)
    if detail["type"] == "extra_forbidden":
        known = list(_section(place[:-1]).model_fields)
        near = difflib.get_close_matches(place[-1], known, n=1)
        if near and layer:
            hint = f"did you mean {layer.beside(place, near[0])!r}?"
        else:
            hint = f"known are {', '.join(known)}"
        text = f"unknown key; {hint}"
    elif detail["type"] in {"model_type", "dict_type"}:
        text = f"expected a table, came {came(detail['input'])}"
    return f"{name}: {text}"


def _section(place: Place) -> type[Section]:
    kind: Any = Config
    for key in place:
        kind = get_args(kind)[-1] if get_origin(kind) is dict else kind.model_fields[key].annotation
    section: type[Section] = kind
    return section
