"""The server of this transport: its sockets, from bound to drained."""

import asyncio
import contextlib
import errno
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from inference_server.rpc.address import Address, AddressError
from inference_server.rpc.h2.acceptor import Acceptor
from inference_server.rpc.h2.rows import Row, Shared
from inference_server.rpc.incoming import RequestIds, parser
from inference_server.rpc.method import MethodTable

if TYPE_CHECKING:
    from inference_server.rpc.listener import ListenerOptions

BACKLOG: Final = 1024
# What the system says of an address that this machine has not.
MISSING: Final = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


class H2Server:
    """Answers the rows of a method table on the addresses that are added before it starts."""

    def __init__(self, table: MethodTable, options: "ListenerOptions") -> None:
        rows = {
            method.path: Row(method, parser(method.request), options.max_message_bytes)
            for method in table.methods
        }
        self._shared = Shared(rows, table.clock, RequestIds(), options, set())
        self._drain = table.drain
        self._sockets: list[socket.socket] = []
        self._acceptors: list[Acceptor] = []
        self._draining: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<H2Server with {len(self._shared.connections)} connections>"

    def bind_path(self, path: Path) -> None:
        """Bind a Unix socket."""
        try:
            self._bind(socket.AF_UNIX, str(path))
        except OSError as error:
            raise AddressError(f"unix:{path}: cannot listen there: {error.strerror}") from None

    def bind_host(self, address: Address) -> int:
        """Bind a host and port, on all that the host's name means here, and return the port.

        AddressError where one of them cannot be had. `localhost` may name an address of IPv6 where there is
        no IPv6: what this machine has not is left out, as long as something is left.
        """
        port = address.port
        missing = OSError()
        before = len(self._sockets)
        try:
            found = socket.getaddrinfo(address.host, port, type=socket.SOCK_STREAM)
            for family, _, _, _, place in dict.fromkeys(found):
                try:
                    port = self._bind(family, (place[0], port, *place[2:]))
                except OSError as error:
                    if error.errno not in MISSING:
                        raise
                    missing = error
            if len(self._sockets) == before:
                raise missing
        except OSError as error:
            raise AddressError(f"{address}: cannot listen there: {error.strerror}") from None
        return port

    async def start(self) -> None:
        """Begin to answer."""
        self._acceptors = [Acceptor(bound, self._shared) for bound in self._sockets]
        for acceptor in self._acceptors:
            acceptor.start()
        self._draining = asyncio.create_task(self._drain_streams())

    def close(self) -> None:
        """Give the addresses back; for one that never started."""
        for bound in self._sockets:
            bound.close()

    async def stop(self, timeout_s: float) -> None:
        """Refuse new calls, wait for those in flight, at most this long, and cut off what is left."""
        for acceptor in self._acceptors:
            await acceptor.stop()
        self.close()
        if self._draining is not None:
            self._draining.cancel()
        if connections := tuple(self._shared.connections):
            for connection in connections:
                connection.drain()
            ends = [connection.gone for connection in connections]
            await asyncio.wait(ends, timeout=timeout_s)
            for connection in connections:
                connection.abort()
            await asyncio.wait(ends)
        self._shared.expansion.close()

    def _bind(self, family: int, place: Any) -> int:
        """Bind, and listen at once: only what listens is there for others who want the place."""
        with contextlib.ExitStack() as stack:
            bound = stack.enter_context(socket.socket(family))
            if family != socket.AF_UNIX:
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            bound.bind(place)
            bound.listen(BACKLOG)
            stack.pop_all()
        self._sockets.append(bound)
        return 0 if family == socket.AF_UNIX else int(bound.getsockname()[1])

    async def _drain_streams(self) -> None:
        await self._drain.wait()
        for connection in tuple(self._shared.connections):
            connection.drain_streams()
