"""What turns vetted bytes into a servable, as serving sees it."""

from typing import ClassVar, Protocol

from inference_server.core.servable import Servable, ServableId


class LoadError(Exception):
    """Bytes that do not become a servable; the text says why, `step` where, of `changes.STEPS`."""

    usual_step: ClassVar[str] = "load"

    def __init__(self, text: str, step: str = "") -> None:
        super().__init__(text)
        self.step = step or self.usual_step


class NoRoomError(LoadError):
    """It would pass the bound on the memory of all models; worth another try once memory is freed."""

    usual_step = "memory"


class Loader(Protocol):
    """Makes servables. Blocks; called off the event loop, by several threads at once."""

    def load(self, id_: ServableId, digest: str, model: bytes, memory_bytes: int) -> Servable:
        """Load and warm up, or raise LoadError, of it NoRoomError.

        `digest` is the SHA-256 of `model`, `memory_bytes` what vetting says that it takes.
        """
        ...
