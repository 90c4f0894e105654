"""What turns vetted bytes into a servable, as serving sees it."""

from typing import Protocol

from inference_server.core.servable import Servable, ServableId


class LoadError(Exception):
    """Bytes that do not become a servable; the text says why."""


class Loader(Protocol):
    """Makes servables. Blocks; called off the event loop."""

    def load(self, id_: ServableId, digest: str, model: bytes) -> Servable:
        """Load and warm up, or raise LoadError. `digest` is the SHA-256 of `model`."""
        ...
