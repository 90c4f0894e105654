"""The server of grpcio: every address that is not this machine's plaintext, and by choice those too."""

from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from inference_server.adapters.certificate import Certificate
from inference_server.adapters.renewal import Renewal
from inference_server.rpc.address import Address, AddressError
from inference_server.rpc.grpcio_transport import bind
from inference_server.rpc.method import MethodTable
from inference_server.rpc.tls import tls_credentials

if TYPE_CHECKING:
    from inference_server.rpc.listener import ListenerOptions


class GrpcioServer:
    """Answers the rows of a method table; with `tls`, TLS on hosts and ports.

    To be made on the event loop's thread.
    """

    def __init__(
        self, table: MethodTable, options: "ListenerOptions", tls: Renewal[Certificate] | None
    ) -> None:
        self._server = grpc.aio.server(options=_arguments(options))
        self._tls = tls
        bind(self._server, table)

    def bind_path(self, path: Path) -> None:
        """Bind a Unix socket, or raise AddressError."""
        self._bind(f"unix:{path}", None)

    def bind_host(self, address: Address) -> int:
        """Bind a host and port and return the port that the system chose, or raise AddressError."""
        return self._bind(str(address), self._tls)

    async def start(self) -> None:
        """Begin to answer."""
        await self._server.start()

    def close(self) -> None:
        """Give back what is bound: that is done when it is forgotten."""

    async def stop(self, timeout_s: float) -> None:
        """Refuse new calls, wait for those in flight, at most this long, and cut off what is left."""
        await self._server.stop(timeout_s)

    def _bind(self, address: str, tls: Renewal[Certificate] | None) -> int:
        try:
            if tls is None:
                return self._server.add_insecure_port(address)
            return self._server.add_secure_port(address, tls_credentials(tls))
        except RuntimeError:  # grpcio's word for any failure to bind; its log has the system's
            raise AddressError(f"{address}: cannot listen there; is the port in use?") from None


def _arguments(options: "ListenerOptions") -> tuple[tuple[str, int], ...]:
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
        ("grpc.server_handshake_timeout_ms", int(options.handshake_timeout_s * 1000)),
        ("grpc.keepalive_time_ms", int(options.keepalive_s * 1000)),
        # Two waits for the answer to one ping; the first that is over closes the connection.
        ("grpc.keepalive_timeout_ms", int(options.keepalive_timeout_s * 1000)),
        ("grpc.http2.ping_timeout_ms", int(options.keepalive_timeout_s * 1000)),
        ("grpc.http2.min_ping_interval_without_data_ms", int(options.min_ping_interval_s * 1000)),
        # Also while no call is open: a caller that waits for the next tick may ask as often as any.
        ("grpc.keepalive_permit_without_calls", 1),
    )
