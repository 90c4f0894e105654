"""Shared memory for tests: objects that are gone after the test, and tensors that lie in them."""

import contextlib
import secrets
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.utils.shared_memory as shm
from tritonclient.utils import InferenceServerException

from inference_server.adapters.shared_memory import SharedMemoryOptions

FOLDER = Path("/dev/shm")  # noqa: S108 - where Linux has shared memory
PREFIX = "tickserve-test-"
ROWS = np.array([[1, 2, 3], [4, 5, 6]], dtype=np.float32)
SUMS = [[6], [15]]
OPTIONS = SharedMemoryOptions(max_regions=4, max_region_bytes=4096, max_total_bytes=10_000, sweep_s=0.05)


def new_key() -> str:
    """A name of an object that nobody has."""
    return f"{PREFIX}{secrets.token_hex(8)}"


class Objects:
    """Makes shared memory objects and registers them."""

    def __init__(self, client: triton.InferenceServerClient) -> None:
        self._client = client
        self._handles: list[shm.SharedMemoryRegion] = []
        self._files: list[Path] = []

    def create(self, byte_size: int = 256) -> tuple[str, shm.SharedMemoryRegion]:
        """An object of a name that nobody has, and its handle."""
        key = new_key()
        handle = shm.create_shared_memory_region("test", key, byte_size, create_only=True)
        self._handles.append(handle)
        return key, handle

    def register(
        self, name: str, byte_size: int = 256, offset: int = 0
    ) -> tuple[str, shm.SharedMemoryRegion]:
        """The same, registered from this offset to its end."""
        key, handle = self.create(byte_size)
        self._client.register_system_shared_memory(name, f"/{key}", byte_size - offset, offset)
        return key, handle

    def register_file(self, name: str, byte_size: int = 256) -> Path:
        """One that this process does not hold open itself, registered."""
        file = FOLDER / new_key()
        file.write_bytes(bytes(byte_size))
        self._files.append(file)
        self._client.register_system_shared_memory(name, file.name, byte_size)
        return file

    def close(self) -> None:
        """Unlink those that the test has not."""
        for file in self._files:
            file.unlink(missing_ok=True)
        for handle in self._handles:
            with contextlib.suppress(FileNotFoundError):
                shm.destroy_shared_memory_region(handle)


def in_region(region: str, byte_size: int = 24, offset: int = 0) -> list[triton.InferInput]:
    """The input `features` of two rows, in a region."""
    return [triton.InferInput("features", [2, 3], "FP32").set_shared_memory(region, byte_size, offset)]


def into_region(region: str, byte_size: int = 8, offset: int = 0) -> list[triton.InferRequestedOutput]:
    """The output `score`, into a region."""
    output = triton.InferRequestedOutput("score")
    output.set_shared_memory(region, byte_size, offset)
    return [output]


def open_objects() -> list[str]:
    """The objects that this process, which is the sidecar's too, has open."""
    links = []
    for name in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            links.append(str(name.readlink()))
    return [link for link in links if link.startswith(f"{FOLDER}/{PREFIX}")]


def refused(status: str, text: str) -> contextlib.AbstractContextManager[object]:
    """Expect this status with a text."""

    @contextlib.contextmanager
    def expecting() -> Iterator[None]:
        with pytest.raises(InferenceServerException, match=text) as caught:
            yield
        assert caught.value.status() == f"StatusCode.{status}"

    return expecting()
