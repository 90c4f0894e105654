"""A proxy between a client and a sidecar that does to the bytes what a test tells it to."""

import contextlib
import random
import socket
import threading
from collections.abc import Callable
from typing import Literal, Self

Direction = Literal["up", "down"]
CHUNK_BYTES = 65_536
PATIENCE_S = 60.0


class CutError(Exception):
    """A rule's word for: close this connection now."""


class ByteProxy:
    """Listens on a TCP port of loopback and hands bytes to and from a Unix socket.

    Two threads a connection; `up` is from the client to the sidecar. Every fault holds until `heal`. What a
    fault has done to a connection stays done: bytes that were swallowed are gone.
    """

    def __init__(self, target: str) -> None:
        self._upstream = target.removeprefix("unix:")
        self._rule: Callable[[Direction, bytes], bytes] = _pass
        self._healed = threading.Event()
        self._closed = False
        self._lock = threading.Lock()
        self._connections: list[_Connection] = []
        self._threads: list[threading.Thread] = []
        self.accepted = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.target = f"127.0.0.1:{self.port}"
        self._start(self._accept)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.heal()
        self._closed = True
        # A listener that another thread waits at is woken by a connection, not by being closed.
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), PATIENCE_S):
            pass
        self._listener.close()
        self.drop()
        for thread in self._threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive()

    def heal(self) -> None:
        """Pass everything from now on, what was held back first."""
        self._rule = _pass
        self._healed.set()

    def drop(self) -> None:
        """Close every connection there is."""
        with self._lock:
            connections, self._connections = self._connections, []
        for connection in connections:
            connection.close()

    def delay(self, seconds: float) -> None:
        """Hold each chunk back for this time."""

        def rule(_: Direction, chunk: bytes) -> bytes:
            self._healed.wait(seconds)
            return chunk

        self._set(rule)

    def stall(self) -> None:
        """Read no more than what is on the way, and hand nothing on."""

        def rule(_: Direction, chunk: bytes) -> bytes:
            self._healed.wait(PATIENCE_S)
            return chunk

        self._set(rule)

    def swallow(self) -> None:
        """Read everything and hand nothing on: a connection whose other end is gone without a word."""
        dead = set(self._connections)

        def rule(_: Direction, chunk: bytes) -> bytes:
            return b""

        self._set(rule)
        for connection in dead:
            connection.dead = True

    def cut(self, direction: Direction, after_bytes: int) -> None:
        """Hand on so many bytes of the next chunk in a direction, then close the connection."""

        def rule(came: Direction, chunk: bytes) -> bytes:
            if came != direction:
                return chunk
            raise CutError(chunk[:after_bytes])

        self._set(rule)

    def shut(self, direction: Direction) -> None:
        """Close each connection in one direction only."""
        self._set(lambda came, chunk: b"" if came == direction else chunk)
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            connection.shut(direction)

    def flip(self, direction: Direction, seed: int) -> None:
        """Flip one bit of every chunk in a direction."""
        chance = random.Random(seed)  # noqa: S311 - a seed makes the run repeatable

        def rule(came: Direction, chunk: bytes) -> bytes:
            if came != direction:
                return chunk
            flipped = bytearray(chunk)
            flipped[chance.randrange(len(flipped))] ^= 1 << chance.randrange(8)
            return bytes(flipped)

        self._set(rule)

    def inject(self, direction: Direction, garbage: bytes) -> None:
        """Put bytes that nobody sent before every chunk in a direction."""
        self._set(lambda came, chunk: garbage + chunk if came == direction else chunk)

    def refuse(self) -> None:
        """Close every connection, and each new one as soon as it comes."""

        def rule(_: Direction, chunk: bytes) -> bytes:
            raise CutError(b"")

        self._set(rule)
        self.drop()

    def apply(self, direction: Direction, chunk: bytes) -> bytes:
        """Return what is to be handed on of a chunk, as the fault of now has it."""
        return self._rule(direction, chunk)

    def _set(self, rule: Callable[[Direction, bytes], bytes]) -> None:
        self._healed.clear()
        self._rule = rule

    def _start(self, function: Callable[[], None]) -> None:
        thread = threading.Thread(target=function, name="byte-proxy", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closed:
            client, _ = self._listener.accept()
            self.accepted += 1
            upstream = socket.socket(socket.AF_UNIX)
            try:
                upstream.connect(self._upstream)
            except OSError:
                client.close()
                upstream.close()
                continue
            connection = _Connection(self, client, upstream)
            with self._lock:
                self._connections.append(connection)
            self._start(lambda connection=connection: connection.pump("up"))
            self._start(lambda connection=connection: connection.pump("down"))


class _Connection:
    def __init__(self, proxy: ByteProxy, client: socket.socket, upstream: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._upstream = upstream
        self._pumps = 2
        self._lock = threading.Lock()
        self.dead = False

    def pump(self, direction: Direction) -> None:
        """Hand bytes on in one direction until it ends."""
        source, sink = (self._client, self._upstream) if direction == "up" else (self._upstream, self._client)
        with contextlib.suppress(OSError):
            while chunk := source.recv(CHUNK_BYTES):
                if self.dead:
                    continue
                try:
                    sink.sendall(self._proxy.apply(direction, chunk))
                except CutError as cut:
                    sink.sendall(cut.args[0])
                    break
        self.close()
        with self._lock:
            self._pumps -= 1
            last = not self._pumps
        if last:
            self._client.close()
            self._upstream.close()

    def shut(self, direction: Direction) -> None:
        """End one direction."""
        with contextlib.suppress(OSError):
            (self._upstream if direction == "up" else self._client).shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """End both directions; the pumps close the sockets when they see it."""
        for each in (self._client, self._upstream):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


def _pass(_: Direction, chunk: bytes) -> bytes:
    return chunk
