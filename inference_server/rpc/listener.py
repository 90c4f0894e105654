"""The servers on their addresses, from bound to drained: one by each transport that has addresses."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, Protocol, Self

from inference_server.adapters import machine
from inference_server.adapters.certificate import Certificate
from inference_server.adapters.renewal import Renewal
from inference_server.rpc.address import (
    Address,
    AddressError,
    SocketOptions,
    check_plaintext,
    private_socket,
    remove_socket,
)
from inference_server.rpc.method import MethodTable

log = logging.getLogger(__name__)

Transport = Literal["auto", "grpcio", "h2"]


# Beyond this many local callers something is wrong, whatever the system would allow.
MAX_CONNECTIONS: Final = 4096
# Of the file descriptors of this process, connections may take one in so many.
DESCRIPTORS_SHARE: Final = 2


def default_max_connections() -> int:
    """Return how many connections leave descriptors enough for all else."""
    return min(MAX_CONNECTIONS, machine.file_descriptors() // DESCRIPTORS_SHARE)


@dataclass(frozen=True, slots=True)
class ListenerOptions:
    """Which transport, its bounds, who may use Unix sockets, and whether plaintext may leave this machine.

    By "auto", addresses that only this machine can reach in plaintext are served by the transport for them,
    `rpc.h2`, all others by grpcio; "grpcio" and "h2" serve all addresses by one.

    `max_connections` is a bound of `rpc.h2`, on all its addresses together; a connection beyond it is closed
    at once. One on which the caller has not begun to speak HTTP/2 within `handshake_timeout_s` is closed too.
    `max_metadata_bytes` bounds the metadata of a call, its path among them. On one connection
    `max_streams_per_connection` calls can be open; more wait on the caller's side, unseen here, so it has to
    be above the bound on calls in flight, which refuses. Of all connections together `max_unread_calls` can
    wait until the event loop comes to them; the transport ends the excess, and as CANCELLED, for it knows
    no other word. A connection on which nothing came for `keepalive_s` is asked for a sign of life, and
    closed where none comes within `keepalive_timeout_s`. A caller that asks us more often than every
    `min_ping_interval_s` is sent away after three times.
    """

    transport: Transport = "auto"
    max_connections: int = field(default_factory=default_max_connections)
    handshake_timeout_s: float = 20.0
    max_message_bytes: int = 64 << 20
    max_metadata_bytes: int = 16 << 10
    max_streams_per_connection: int = 4096
    max_unread_calls: int = 4096
    keepalive_s: float = 60.0
    keepalive_timeout_s: float = 20.0
    min_ping_interval_s: float = 10.0
    allow_remote_plaintext: bool = False
    drain_timeout_s: float = 10.0
    socket: SocketOptions = field(default_factory=SocketOptions)


class Server(Protocol):
    """A server of one transport."""

    def bind_path(self, path: Path) -> None:
        """Bind a Unix socket, or raise AddressError."""
        ...

    def bind_host(self, address: Address) -> int:
        """Bind a host and port and return the port that the system chose, or raise AddressError."""
        ...

    async def start(self) -> None:
        """Begin to answer."""
        ...

    def close(self) -> None:
        """Give back what is bound; for a server that was never started."""
        ...

    async def stop(self, timeout_s: float) -> None:
        """Refuse new calls, wait for those in flight, at most this long, and cut off what is left."""
        ...


class Listener:
    """Servers that are bound to their addresses; `start` lets them answer."""

    def __init__(
        self, servers: Sequence[Server], addresses: Sequence[Address], drain_timeout_s: float
    ) -> None:
        self.addresses: Final = tuple(addresses)
        self._servers = tuple(servers)
        self._drain_timeout_s = drain_timeout_s
        self._sockets = _sockets(addresses)

    @classmethod
    def bind(
        cls,
        addresses: Sequence[Address],
        table: MethodTable,
        options: ListenerOptions,
        tls: Renewal[Certificate] | None = None,
    ) -> Self:
        """Bind every address, or raise AddressError for the first that cannot be had.

        Called on the event loop's thread. With `tls`, every address but a Unix socket speaks TLS, each new
        connection with the certificate of that time. The result's `addresses` hold the ports that the system
        chose.
        """
        for address in addresses:
            check_plaintext(address, allowed=options.allow_remote_plaintext or tls is not None)
        servers: dict[bool, Server] = {}
        bound: list[Address] = []
        try:
            for address in addresses:
                fast = _is_fast(address, options.transport, tls)
                if fast not in servers:
                    servers[fast] = (
                        _fast_server(table, options) if fast else _grpcio_server(table, options, tls)
                    )
                bound.append(_bind_one(servers[fast], address, options.socket))
        except BaseException:
            for server in servers.values():
                server.close()
            _remove_sockets(_sockets(bound))
            raise
        return cls(tuple(servers.values()), bound, options.drain_timeout_s)

    async def start(self) -> None:
        """Begin to answer."""
        for server in self._servers:
            await server.start()
        log.info("listening on %s", ", ".join(map(str, self.addresses)))

    async def stop(self) -> None:
        """Refuse new calls, wait for those in flight, then remove the sockets.

        What is still in flight after the drain time is cut.
        """
        await asyncio.gather(*(server.stop(self._drain_timeout_s) for server in self._servers))
        _remove_sockets(self._sockets)


def _is_fast(address: Address, transport: Transport, tls: Renewal[Certificate] | None) -> bool:
    """Whether an address is for `rpc.h2`; AddressError where it should be and cannot."""
    local = address.is_local and (tls is None or address.path is not None)
    if transport == "h2" and not local:
        raise AddressError(
            f"{address}: transport h2 is for plaintext on this machine; expected auto or grpcio"
        )
    return local and transport != "grpcio"


# Each transport is imported where it has an address to serve: grpcio takes a tenth of a second.
def _fast_server(table: MethodTable, options: ListenerOptions) -> Server:
    from inference_server.rpc.h2.server import H2Server  # noqa: PLC0415

    return H2Server(table, options)


def _grpcio_server(table: MethodTable, options: ListenerOptions, tls: Renewal[Certificate] | None) -> Server:
    from inference_server.rpc.grpcio_server import GrpcioServer  # noqa: PLC0415

    return GrpcioServer(table, options, tls)


def _bind_one(server: Server, address: Address, options: SocketOptions) -> Address:
    if address.path is None:
        return address.with_port(server.bind_host(address))
    with private_socket(address.path, options) as name:
        server.bind_path(name)
    return address


def _sockets(addresses: Sequence[Address]) -> list[tuple[Path, int]]:
    return [(address.path, address.path.stat().st_ino) for address in addresses if address.path is not None]


def _remove_sockets(sockets: Sequence[tuple[Path, int]]) -> None:
    for path, inode in sockets:
        remove_socket(path, inode)
