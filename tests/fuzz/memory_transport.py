"""A stream transport of asyncio's without a socket: what is written is kept, what comes is handed in."""

import asyncio
from collections import deque

# As asyncio's own: above the one it is paused, at the other it goes on.
HIGH_BYTES = 64 << 10
LOW_BYTES = HIGH_BYTES // 4


class MemoryTransport(asyncio.Transport):
    """Drives one protocol; `written` is what its peer has read."""

    def __init__(self, loop: asyncio.AbstractEventLoop, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._loop = loop
        self._protocol = protocol
        self._incoming: deque[bytes] = deque()
        self._unread = bytearray()
        self._reads = True
        self._paused_reading = False
        self._paused_writing = False
        self._closing = False
        self._told = False
        self.lost = False
        self.written = bytearray()
        protocol.connection_made(self)

    def deliver(self, data: bytes) -> None:
        """Let the peer have sent this; it waits where the protocol does not read."""
        self._incoming.append(data)
        self._receive()

    def stop_reading(self) -> None:
        """Let the peer read nothing more."""
        self._reads = False

    def read(self) -> None:
        """Let the peer read again, and what waits for that."""
        self._reads = True
        self._drain()

    def vanish(self, error: Exception | None = None) -> None:
        """Let the peer be gone."""
        self._end(error)

    def write(self, data: bytes) -> None:  # type: ignore[override]  # bytes is all that is written here
        assert not self._told, "written after the end, which a real transport does not survive"
        if self.lost or not data:
            return
        self._unread += data
        if self._reads:
            self._drain()
        elif len(self._unread) > HIGH_BYTES and not self._paused_writing:
            self._paused_writing = True
            self._protocol.pause_writing()

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._incoming.clear()
            self._drain()

    def abort(self) -> None:
        assert not self._told, "aborted after the end, which a real transport does not survive"
        self._unread.clear()
        self._end(None)

    def pause_reading(self) -> None:
        self._paused_reading = True

    def resume_reading(self) -> None:
        if self._paused_reading and not self._closing:
            self._paused_reading = False
            self._loop.call_soon(self._receive)

    def _receive(self) -> None:
        while self._incoming and not self._paused_reading and not self._closing:
            self._protocol.data_received(self._incoming.popleft())

    def _drain(self) -> None:
        if self._reads:
            self.written += self._unread
            self._unread.clear()
        if self._paused_writing and len(self._unread) <= LOW_BYTES:
            self._paused_writing = False
            self._protocol.resume_writing()
        if self._closing and not self._unread:
            self._end(None)

    def _end(self, error: Exception | None) -> None:
        self._closing = True
        self._incoming.clear()
        if not self.lost:
            self.lost = True
            self._loop.call_soon(self._tell, error)

    def _tell(self, error: Exception | None) -> None:
        self._told = True
        self._protocol.connection_lost(error)
