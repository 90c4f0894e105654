"""`serve`, once its flags are read: the configuration of which they are a part."""

import os
from collections.abc import Mapping
from pathlib import Path

from inference_server.adapters.head_start import HeadStart
from inference_server.app import ServeOptions
from inference_server.commands.serve import ServeError, serve
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

Flags = Mapping[Place, tuple[str, object]]


def show(flags: Flags, file: Path | None) -> None:
    """Print what is configured and by what."""
    from inference_server.report import config_view  # noqa: PLC0415 - nothing of a sidecar that serves

    configured, layers = _configured(flags, file)
    out.print(config_view(effective(configured, layers)), soft_wrap=True)


async def serve_configured(flags: Flags, file: Path | None, head_start: HeadStart) -> None:
    """Serve until it is stopped; what is wrong ends the command with one line."""
    configured, _ = _configured(flags, file)
    read_again = (lambda: serve_options(read_config(_layers(flags, file)))) if file else None
    try:
        await serve(serve_options(configured), configured.log_level, read_again, head_start)
    except ServeError as error:
        raise ending(error, code=1) from None


def _layers(flags: Flags, file: Path | None) -> list[Layer]:
    return [named_layer(flags), environment_layer(os.environ), *([file_layer(file)] if file else [])]


def _configured(flags: Flags, file: Path | None) -> tuple[Config, list[Layer]]:
    try:
        layers = _layers(flags, file)
        return read_config(layers), layers
    except ConfigError as error:
        raise ending(error, code=2) from None


def serve_options(config: Config) -> ServeOptions:
    """Return what a configuration says of a sidecar, in the options of the parts that it configures."""
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
