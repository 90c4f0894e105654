"""Servers of others for tests, each on a port that nobody has."""

import contextlib
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from sidecars import PATIENCE_S, eventually

TRIES = 5


@contextlib.contextmanager
def listening(
    command: Callable[[int], Sequence[str]], is_up: Callable[[int], bool], log: Path
) -> Iterator[int]:
    """Run a server that is told its port until the block ends; yields the port once it is up.

    Between our look for a free port and the server's start somebody else may take it, and it ends: then it is
    tried with another one.
    """
    for _ in range(TRIES):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        with log.open("ab") as stream:
            process = subprocess.Popen(command(port), stdout=stream, stderr=stream)
        try:
            eventually(lambda: process.poll() is not None or is_up(port), "the server is up, or has ended")  # noqa: B023
            if process.poll() is None:
                yield port
                return
        finally:
            process.terminate()
            process.wait(PATIENCE_S)
    raise AssertionError(f"the server ended {TRIES} times: {log.read_text()}")
