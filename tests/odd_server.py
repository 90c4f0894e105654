"""A server that speaks HTTP/2 as a test tells it to: by its script, one thread a connection."""

import contextlib
import shutil
import socket
import struct
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

import ngh2
from tickserve.v1 import predictor_pb2 as pb

PATIENCE_S = 20.0
HEADERS = [(b":status", b"200"), (b"content-type", b"application/grpc")]
OK = [(b"grpc-status", b"0")]


class OddConnection:
    """One connection, for the script that serves it. What is asked waits until the script wants it."""

    def __init__(self, connected: socket.socket, number: int) -> None:
        connected.settimeout(PATIENCE_S)
        self.number = number
        self.socket = connected
        self.http = ngh2.Connection(ngh2.Role.SERVER)
        self.data: dict[int, bytes] = {}
        self.ended: set[int] = set()
        self.resets: list[tuple[int, int]] = []
        self.pongs = 0
        self._asked: list[tuple[int, bytes, dict[bytes, bytes]]] = []

    def greet(self, settings: Mapping[int, int] | None = None) -> None:
        """Send the settings."""
        self.http.initiate_connection(settings)
        self.flush()

    def request(self) -> tuple[int, bytes, dict[bytes, bytes]]:
        """Wait for a call; return its stream, method and header fields."""
        while not self._asked:
            self.read()
        return self._asked.pop(0)

    def message(self, stream_id: int) -> bytes:
        """Wait for the next whole message of a call; EOFError where the client asks nothing more."""
        while True:
            data = self.data.get(stream_id, b"")
            if len(data) >= 5 and len(data) >= 5 + (size := struct.unpack(">I", data[1:5])[0]):
                self.data[stream_id] = data[5 + size :]
                return data[5 : 5 + size]
            if stream_id in self.ended:
                raise EOFError
            self.read()

    def read(self) -> None:
        """Take what comes; ConnectionError when the client is gone."""
        piece = self.socket.recv(65_536)
        if not piece:
            raise ConnectionError
        self.http.receive_data(piece)
        for event in self.http.events():
            if isinstance(event, ngh2.RequestReceived):
                fields = dict(event.headers)
                self._asked.append((event.stream_id, fields[b":path"].rpartition(b"/")[2], fields))
            elif isinstance(event, ngh2.DataReceived):
                self.data[event.stream_id] = self.data.get(event.stream_id, b"") + event.data
                if event.end_stream:
                    self.ended.add(event.stream_id)
            elif isinstance(event, ngh2.StreamReset):
                self.resets.append((event.stream_id, event.error_code))
            elif isinstance(event, ngh2.PingAcknowledged):
                self.pongs += 1
        self.flush()

    def flush(self) -> None:
        """Send what is to be sent."""
        while piece := self.http.data_to_send():
            self.socket.sendall(piece)

    def answer(self, stream_id: int, message: bytes, *, trailers: bool = True) -> None:
        """Answer a call whole; without trailers it goes on."""
        self.http.send_response(stream_id, HEADERS)
        self.http.send_data(stream_id, struct.pack(">BI", 0, len(message)) + message)
        if trailers:
            self.http.send_trailers(stream_id, OK)
        self.flush()

    def describe(self) -> int:
        """Answer calls of DescribeModels, ready, until another comes; return its stream."""
        while True:
            stream_id, method, _ = self.request()
            if method != b"DescribeModels":
                return stream_id
            self.answer(stream_id, pb.DescribeModelsResponse(ready=True).SerializeToString())

    def linger(self) -> None:
        """Read on until the client is gone."""
        with contextlib.suppress(OSError, ngh2.NGH2Error):
            while True:
                self.read()


Script = Callable[[OddConnection], None]


class OddServer:
    """Listens on a Unix socket and runs a script for each connection; an end of it closes that one."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.accepted = 0
        self.folder = Path(tempfile.mkdtemp(prefix="ts-"))
        self.target = f"unix:{self.folder}/s"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(f"{self.folder}/s")
        self._listener.listen(64)
        self._connections: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connected in self._connections:
            with contextlib.suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _accept(self) -> None:
        while True:
            try:
                connected, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            self._connections.append(connected)
            thread = threading.Thread(target=self._serve, args=(connected, self.accepted), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connected: socket.socket, number: int) -> None:
        with connected, contextlib.suppress(OSError, EOFError, ngh2.NGH2Error):
            self.script(OddConnection(connected, number))
