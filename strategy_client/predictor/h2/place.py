"""Where a target is: a Unix socket or a port of this machine, and how it is connected to."""

import os
import select
import socket
import time
from typing import Final

from strategy_client.predictor.h2.forks import abandon_in_children
from strategy_client.predictor.h2.socket_connection import SocketConnection
from strategy_client.predictor.h2.wire import LostConnectionError

NS_PER_MS: Final = 1_000_000
UNIX: Final = "unix:"


class Place:
    """A target in gRPC's writing: unix:PATH, unix:///PATH or HOST:PORT."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.authority = b"localhost" if target.startswith(UNIX) else target.encode("ascii", "replace")

    def __repr__(self) -> str:
        return f"<Place {self.target}>"

    def connect(self, deadline_ns: int) -> SocketConnection:
        """Connect, trying each address of a name; LostConnectionError, saying why, where none takes it."""
        told = "there is no such address"
        for family, address in self._addresses():
            connected = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            try:
                if family != socket.AF_UNIX:
                    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                told = self._connect(connected, address, deadline_ns)
                if not told:
                    connection = SocketConnection(connected)
                    abandon_in_children(connection)
                    return connection
            except OSError as error:
                told = error.strerror or str(error)
            except BaseException:
                connected.close()
                raise
            connected.close()
        raise LostConnectionError(f"failed to connect to {self.target}: {told}")

    def _addresses(self) -> list[tuple[int, object]]:
        if self.target.startswith(UNIX):
            path = self.target.removeprefix(UNIX)
            return [(socket.AF_UNIX, path.removeprefix("//"))]
        host, _, port = self.target.rpartition(":")
        try:
            found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
        except OSError as error:
            raise LostConnectionError(f"failed to connect to {self.target}: {error.strerror}") from None
        return [(family, address) for family, _, _, _, address in found]

    @staticmethod
    def _connect(connected: socket.socket, address: object, deadline_ns: int) -> str:
        try:
            connected.connect(address)  # type: ignore[arg-type]  # its form is that of the family
        except BlockingIOError:
            if connected.family == socket.AF_UNIX:
                return "more wait to be accepted there already than it takes"
            waiting = select.poll()
            waiting.register(connected, select.POLLOUT)
            if not waiting.poll(max((deadline_ns - time.monotonic_ns()) // NS_PER_MS, 0)):
                return "it did not accept in time"
            error = connected.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            return os.strerror(error) if error else ""
        return ""
