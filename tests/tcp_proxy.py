"""A TCP proxy that can be absent, cut what is connected, and hold up what flows."""

import contextlib
import socket
import threading
from collections.abc import Callable

BUFFER_BYTES = 65_536


class TcpProxy:
    """Stands between a client and a server on 127.0.0.1. Its port stays the same while it is shut.

    `rewrite` is applied to what the server says.
    """

    def __init__(self, target_port: int, *, shut: bool = False) -> None:
        self.rewrite: Callable[[bytes], bytes] = lambda data: data
        self._target_port = target_port
        self._flowing = threading.Event()
        self._flowing.set()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._listener = self._bind(0)
        self.port = self._listener.getsockname()[1]
        if not shut:
            self.open()

    def open(self) -> None:
        """Take connections."""
        self._listener.listen()
        self._start(self._accept, self._listener)

    def shut(self) -> None:
        """Refuse connections, and cut those that there are."""
        self._end(self._listener)
        self.cut()
        self._listener = self._bind(self.port)

    def cut(self) -> None:
        """End all connections at once; new ones are taken."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for end in pair:
                self._end(end)

    def hold_up(self) -> None:
        """Let nothing through."""
        self._flowing.clear()

    def let_go(self) -> None:
        """Let everything through again."""
        self._flowing.set()

    def close(self) -> None:
        """End everything."""
        self.let_go()
        self._end(self._listener)
        self.cut()
        for thread in self._threads:
            thread.join()

    def _bind(self, port: int) -> socket.socket:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        return listener

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._target_port))
            except OSError:
                client.close()
                continue
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._pairs.append((client, server))
            self._start(self._pump, client, server, lambda data: data)
            self._start(self._pump, server, client, self.rewrite)

    def _pump(self, source: socket.socket, sink: socket.socket, change: Callable[[bytes], bytes]) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(BUFFER_BYTES):
                self._flowing.wait()
                sink.sendall(change(data))
        self._end(source)
        self._end(sink)

    def _end(self, end: socket.socket) -> None:
        # A thread that waits on it is told by the shutdown; to close it alone would not wake it.
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()
