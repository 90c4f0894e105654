"""The grpcio server on its addresses, from bound to drained."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

import grpc

from inference_server.adapters.certificate import Certificate
from inference_server.adapters.renewal import Renewal
from inference_server.core.clock import Clock
from inference_server.rpc.address import (
    Address,
    AddressError,
    SocketOptions,
    check_plaintext,
    private_socket,
    remove_socket,
)
from inference_server.rpc.grpcio_transport import bind
from inference_server.rpc.method import Method
from inference_server.rpc.tls import tls_credentials

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ListenerOptions:
    """Bounds of the transport, who may use its Unix sockets, and whether plaintext may leave this machine.

    `max_metadata_bytes` bounds the metadata of a call, its path among them. On one connection
    `max_streams_per_connection` calls can be open; more wait on the caller's side, unseen here, so it has to
    be above the bound on calls in flight, which refuses. Of all connections together `max_unread_calls` can
    wait until the event loop comes to them; the transport ends the excess, and as CANCELLED, for it knows
    no other word. A connection on which nothing came for `keepalive_s` is asked for a sign of life, and
    closed where none comes within `keepalive_timeout_s`. A caller that asks us more often than every
    `min_ping_interval_s` is sent away after three times.
    """

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


class Listener:
    """A gRPC server that is bound to its addresses; `start` lets it answer."""

    def __init__(self, server: grpc.aio.Server, addresses: Sequence[Address], drain_timeout_s: float) -> None:
        self.addresses: Final = tuple(addresses)
        self._server = server
        self._drain_timeout_s = drain_timeout_s
        self._sockets = _sockets(addresses)

    @classmethod
    def bind(
        cls,
        addresses: Sequence[Address],
        methods: Sequence[Method],
        clock: Clock,
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
        server = grpc.aio.server(options=_arguments(options))
        bind(server, methods, clock)
        bound: list[Address] = []
        try:
            for address in addresses:
                port = _bind_one(server, address, options.socket, tls)
                bound.append(address.with_port(port))
        except AddressError:
            _remove_sockets(_sockets(bound))
            raise
        return cls(server, bound, options.drain_timeout_s)

    async def start(self) -> None:
        """Begin to answer."""
        await self._server.start()
        log.info("listening on %s", ", ".join(map(str, self.addresses)))

    async def stop(self) -> None:
        """Refuse new calls, wait for those in flight, then remove the sockets.

        What is still in flight after the drain time is cut.
        """
        await self._server.stop(self._drain_timeout_s)
        _remove_sockets(self._sockets)


def _sockets(addresses: Sequence[Address]) -> list[tuple[Path, int]]:
    return [(address.path, address.path.stat().st_ino) for address in addresses if address.path is not None]


def _remove_sockets(sockets: Sequence[tuple[Path, int]]) -> None:
    for path, inode in sockets:
        remove_socket(path, inode)


def _arguments(options: ListenerOptions) -> tuple[tuple[str, int], ...]:
    return (
        ("grpc.so_reuseport", 0),  # two servers on one port would share its calls without a word
        ("grpc.max_receive_message_length", options.max_message_bytes),
        ("grpc.max_send_message_length", options.max_message_bytes),
        # Between the two bounds grpcio refuses by chance; here they are one.
        ("grpc.max_metadata_size", options.max_metadata_bytes),
        ("grpc.absolute_max_metadata_size", options.max_metadata_bytes),
        # Here too: by itself grpcio ends calls by chance from 1000 that wait on.
        ("grpc.server.max_pending_requests", options.max_unread_calls),
        ("grpc.server.max_pending_requests_hard_limit", options.max_unread_calls),
        ("grpc.max_concurrent_streams", options.max_streams_per_connection),
        ("grpc.keepalive_time_ms", int(options.keepalive_s * 1000)),
        # Two waits for the answer to one ping; the first that is over closes the connection.
        ("grpc.keepalive_timeout_ms", int(options.keepalive_timeout_s * 1000)),
        ("grpc.http2.ping_timeout_ms", int(options.keepalive_timeout_s * 1000)),
        ("grpc.http2.min_ping_interval_without_data_ms", int(options.min_ping_interval_s * 1000)),
        # Also while no call is open: a caller that waits for the next tick may ask as often as any.
        ("grpc.keepalive_permit_without_calls", 1),
    )


def _bind_one(
    server: grpc.aio.Server, address: Address, options: SocketOptions, tls: Renewal[Certificate] | None
) -> int:
    try:
        if address.path is None:
            if tls is None:
                return server.add_insecure_port(str(address))
            return server.add_secure_port(str(address), tls_credentials(tls))
        with private_socket(address.path, options) as name:
            return server.add_insecure_port(f"unix:{name}")
    except RuntimeError:  # grpcio's word for any failure to bind; its log has the system's
        raise AddressError(f"{address}: cannot listen there; is the port in use?") from None
