"""Takes in what connects to one socket, within the bound on connections."""

import asyncio
import logging
import math
import socket
from typing import Final

from inference_server.rpc.h2.connection import Connection
from inference_server.rpc.h2.rows import Shared

log: Final = logging.getLogger(__name__)

# So many connections are taken in before others get their turn on the event loop.
AT_ONCE: Final = 64
# Where the system has no descriptor left, this is how long nothing is taken in: the socket would ask at once.
PAUSE_S: Final = 1.0
# The log has a line of what is refused, and of what fails, at most so often each.
TOLD_EVERY_S: Final = 60.0


class Acceptor:
    """Takes connections in; one beyond the bound is closed.

    It is closed without a word. gRPC's clients take a server that says anything for one that works: told to
    go away, they are back at once, many times a second, and their callers wait; cut off, they tell them and
    wait before they try again.
    """

    def __init__(self, bound: socket.socket, shared: Shared) -> None:
        self._socket = bound
        self._shared = shared
        self._loop = asyncio.get_running_loop()
        self._arriving: set[asyncio.Task[None]] = set()
        self._paused: asyncio.TimerHandle | None = None
        self._refused = 0
        self._refusal_told_s = self._failure_told_s = -math.inf

    def __repr__(self) -> str:
        return f"<Acceptor of {self._socket.getsockname()!r} that has refused {self._refused}>"

    def start(self) -> None:
        """Begin to take connections in."""
        self._socket.setblocking(False)  # noqa: FBT003 - the system's
        self._go_on()

    async def stop(self) -> None:
        """Take no more in; returns when those that were taken in are connections in every respect."""
        self._loop.remove_reader(self._socket)
        if self._paused is not None:
            self._paused.cancel()
        if self._arriving:
            await asyncio.wait(self._arriving)

    def _go_on(self) -> None:
        self._loop.add_reader(self._socket, self._accept)

    def _accept(self) -> None:
        for _ in range(AT_ONCE):
            try:
                came, _ = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._pause(error)
                return
            if len(self._shared.connections) < self._shared.options.max_connections:
                self._take(came)
            else:
                came.close()
                self._refuse()

    def _take(self, came: socket.socket) -> None:
        came.setblocking(False)  # noqa: FBT003 - the system's
        connection = Connection(self._shared)
        self._shared.connections.add(connection)
        arriving = self._loop.create_task(self._connect(connection, came))
        self._arriving.add(arriving)
        arriving.add_done_callback(self._arriving.discard)

    async def _connect(self, connection: Connection, came: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: connection, came)
        except OSError as error:
            connection.connection_lost(error)
            came.close()

    def _refuse(self) -> None:
        self._refused += 1
        now_s = self._loop.time()
        if now_s - self._refusal_told_s >= TOLD_EVERY_S:
            self._refusal_told_s = now_s
            log.warning(
                "connections are refused, %d by now: %d are open, which is the bound (max_connections)",
                self._refused,
                self._shared.options.max_connections,
            )

    def _pause(self, error: OSError) -> None:
        self._loop.remove_reader(self._socket)
        self._paused = self._loop.call_later(PAUSE_S, self._go_on)
        now_s = self._loop.time()
        if now_s - self._failure_told_s >= TOLD_EVERY_S:
            self._failure_told_s = now_s
            log.error("no connection can be taken in: %s; trying again every second", error.strerror)
