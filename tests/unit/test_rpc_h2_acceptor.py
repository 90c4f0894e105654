"""What the log has of connections that are not taken in."""

import asyncio
import errno
import logging
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from eventually import eventually

from inference_server.core.clock import SystemClock
from inference_server.rpc.h2.acceptor import Acceptor
from inference_server.rpc.h2.rows import Shared
from inference_server.rpc.incoming import RequestIds
from inference_server.rpc.listener import ListenerOptions


class ShortOfDescriptors(socket.socket):
    """Accepts one connection, and finds no descriptor for the next."""

    accepted = 0

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept the first."""
        if self.accepted:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        self.accepted += 1
        return super().accept()


def test_a_failure_is_told_beside_a_refusal(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """That a caller was refused a moment ago does not keep what is worse out of the log."""

    def told() -> list[str]:
        return [each.getMessage() for each in caplog.records if each.name == Acceptor.__module__]

    async def main() -> None:
        shared = Shared({}, SystemClock(), RequestIds(), ListenerOptions(max_connections=0), set())
        with ShortOfDescriptors(socket.AF_UNIX) as bound, socket.socket(socket.AF_UNIX) as caller:
            bound.bind(str(tmp_path / "s.sock"))
            bound.listen()
            acceptor = Acceptor(bound, shared)
            acceptor.start()
            caller.connect(str(tmp_path / "s.sock"))
            await eventually(lambda: len(told()) == 2)
            await acceptor.stop()

    with caplog.at_level(logging.WARNING, Acceptor.__module__):
        asyncio.run(main())
    refused, failed = told()
    assert refused.startswith("connections are refused, 1 by now")
    assert failed == "no connection can be taken in: Too many open files; trying again every second"
