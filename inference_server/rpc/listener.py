"""The grpcio server on its addresses, from bound to drained."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import grpc

from inference_server.core.clock import Clock
from inference_server.rpc.address import Address, AddressError, private_socket, remove_socket
from inference_server.rpc.grpcio_transport import bind
from inference_server.rpc.method import Method

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ListenerOptions:
    """Bounds of the transport, and whether plaintext may leave this machine."""

    max_message_bytes: int = 64 << 20
    allow_remote_plaintext: bool = False
    drain_timeout_s: float = 10.0


class Listener:
    """A gRPC server that is bound to its addresses; `start` lets it answer."""

    def __init__(self, server: grpc.aio.Server, addresses: Sequence[Address], drain_timeout_s: float) -> None:
        self.addresses: Final = tuple(addresses)
        self._server = server
        self._drain_timeout_s = drain_timeout_s
        self._sockets = _sockets(addresses)

    @classmethod
    def bind(
        cls, addresses: Sequence[Address], methods: Sequence[Method], clock: Clock, options: ListenerOptions
    ) -> Self:
        """Bind every address, or raise AddressError for the first that cannot be had.

        Called on the event loop's thread. A Unix socket is made with mode 0600. The result's `addresses` hold
        the ports that the system chose.
        """
        for address in addresses:
            if not address.is_local and not options.allow_remote_plaintext:
                raise AddressError(
                    f"{address}: other machines could reach it and there is no TLS; "
                    "listen on a Unix socket or a loopback address, or say --allow-remote-plaintext"
                )
        server = grpc.aio.server(
            options=(
                ("grpc.so_reuseport", 0),  # two servers on one port would share its calls without a word
                ("grpc.max_receive_message_length", options.max_message_bytes),
                ("grpc.max_send_message_length", options.max_message_bytes),
            )
        )
        bind(server, methods, clock)
        bound: list[Address] = []
        try:
            for address in addresses:
                port = _bind_one(server, address)
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


def _bind_one(server: grpc.aio.Server, address: Address) -> int:
    try:
        if address.path is None:
            return server.add_insecure_port(str(address))
        with private_socket(address.path) as name:
            return server.add_insecure_port(f"unix:{name}")
    except RuntimeError:  # grpcio's word for any failure to bind; its log has the system's
        raise AddressError(f"{address}: cannot listen there; is the port in use?") from None
