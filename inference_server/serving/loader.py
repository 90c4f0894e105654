"""What turns vetted bytes into a servable, as serving sees it."""

from typing import Protocol

from inference_server.core.servable import Servable, ServableId


class LoadError(Exception):
    """Bytes that do not become a servable; the text says why."""


class NoRoomError(LoadError):
    """It would pass the bound on the memory of all models; worth another try once memory is freed."""


class Loader(Protocol):
    """Makes servables. Blocks; called off the event loop, by several threads at once."""

    def load(self, id_: ServableId, digest: str, model: bytes, memory_bytes: int) -> Servable:
        """Load and warm up, or raise LoadError, of it NoRoomError.

        `digest` is the SHA-256 of `model`, `memory_bytes` what vetting says that it takes.
        """
        ...
