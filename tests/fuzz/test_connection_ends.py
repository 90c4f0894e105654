"""A connection at its end, on a real socket."""

import asyncio
import socket

from fuzz.server_harness import OPTIONS

from inference_server.core.clock import SystemClock
from inference_server.rpc.h2.connection import Connection
from inference_server.rpc.h2.rows import Shared
from inference_server.rpc.incoming import RequestIds

WAITING_BYTES = 8 << 20


def test_cutting_off_a_connection_that_left_meanwhile_does_nothing():
    """A server that stops may cut off a connection whose peer has read the last of it just before."""

    async def leave():
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        shared = Shared({}, SystemClock(), RequestIds(), OPTIONS, set())
        transport, connection = await loop.connect_accepted_socket(lambda: Connection(shared), theirs)
        transport.set_write_buffer_limits(high=2 * WAITING_BYTES)
        transport.write(bytes(WAITING_BYTES))
        connection.drain()
        await asyncio.sleep(0)
        assert transport.is_closing()
        ours.setblocking(False)  # noqa: FBT003 - the system's
        with ours:
            while await loop.sock_recv(ours, 1 << 20):
                pass
            await connection.gone
        connection.abort()

    asyncio.run(leave())
