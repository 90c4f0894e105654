"""Where a sidecar listens and what it serves when nobody says it. The tables' defaults are their options'."""

import os
from pathlib import Path
from typing import Final

from inference_server.rpc.address import Address

MODELS: Final = Path("models")
HTTP: Final = Address("127.0.0.1", 8002)
CONTROL: Final = "files"
LOG_LEVEL: Final = "INFO"
LOG_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR")


def default_socket() -> str:
    """Return the address of the Unix socket that `serve` listens on and the other commands call."""
    folder = os.environ.get("XDG_RUNTIME_DIR") or "/tmp"  # noqa: S108 - the socket itself has mode 0600
    return f"unix:{folder}/tickserve.sock"


def default_listen() -> tuple[Address, ...]:
    """Return the addresses of `serve`."""
    return Address.parse(default_socket()), Address("127.0.0.1", 8001)
