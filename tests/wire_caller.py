"""A caller that speaks HTTP/2 by hand: what it sends is the test's, frame by frame, be it ever so wrong."""

import contextlib
import socket
import struct
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Self

import ngh2

PATIENCE_S = 60.0
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
PREDICT = "/tickserve.v1.Predictor/Predict"
STREAM = "/tickserve.v1.Predictor/PredictStream"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = (
    range(10)
)
ACK = END_STREAM = 0x1
END_HEADERS = 0x4
PADDED = 0x8
MAX_WINDOW = (1 << 31) - 1
Header = tuple[bytes, bytes]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A frame, whether or not it may be."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def framed(message: bytes, flag: int = 0) -> bytes:
    """A message as gRPC sends it."""
    return struct.pack(">BI", flag, len(message)) + message


def headers_of(path: str, more: Iterable[Header] = (), without: Iterable[bytes] = ()) -> list[Header]:
    """The headers of a call; `more` in place of those of the same name."""
    more, without = list(more), set(without)
    replaced = {name for name, _ in more} | without
    usual = [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", path.encode()),
        (b":authority", b"localhost"),
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
    ]
    first = [header for header in usual if header[0].startswith(b":") and header[0] not in replaced]
    then = [header for header in usual if not header[0].startswith(b":") and header[0] not in replaced]
    pseudo = [header for header in more if header[0].startswith(b":")]
    return first + pseudo + then + [header for header in more if not header[0].startswith(b":")]


def header_block(headers: Iterable[Header]) -> bytes:
    """Headers as literals that leave no trace in any table, each at most 126 bytes long."""
    return b"".join(
        b"\0" + bytes((len(name),)) + name + bytes((len(value),)) + value for name, value in headers
    )


def _length(data: bytes, start: int) -> int:
    return int.from_bytes(data[start + 1 : start + 5], "big")


class Answer(NamedTuple):
    """What came of a call. `code` None: it ended without a status; `reset` None: it was not reset."""

    code: int | None
    text: str
    messages: list[bytes]
    http_status: int
    reset: int | None


class WireCaller:
    """One connection. Nothing of it happens by itself; what comes is read when the test waits for it."""

    def __init__(
        self, target: str, settings: Mapping[int, int] | None = None, *, greet: bool = True, **options: Any
    ) -> None:
        kind, _, path = target.partition(":")
        if kind == "unix":
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.connect(path)
        else:
            host, _, port = target.rpartition(":")
            self.socket = socket.create_connection((host, int(port)))
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.settimeout(PATIENCE_S)
        limits = {"peer_max_concurrent_streams": 100_000, "max_outbound_ack": 1 << 20} | options
        self.http = ngh2.Connection(ngh2.Role.CLIENT, ngh2.Configuration(**limits))
        self.headers: dict[int, dict[bytes, bytes]] = {}
        self.trailers: dict[int, dict[bytes, bytes]] = {}
        self.data: dict[int, bytearray] = {}
        self.closed: dict[int, int] = {}
        self.resets: dict[int, int] = {}
        self.goaways: list[tuple[int, int, bytes]] = []
        self.pings = self.pongs = self.acks = 0
        self.gone = False
        self._frames = bytearray()
        if greet:
            self.http.initiate_connection(settings)
            self.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def greeted(self) -> Self:
        """Wait until each side has the other's settings, and the answer to its own."""
        self.until(lambda: self.acks, "the settings are acknowledged")
        return self

    def open(
        self, path: str = PREDICT, more: Iterable[Header] = (), *, end: bool = False, **which: Any
    ) -> int:
        """Begin a call and return its stream."""
        stream = self.http.send_request(headers_of(path, more, **which), end_stream=end)
        self.flush()
        return stream

    def call(self, message: bytes, path: str = PREDICT, more: Iterable[Header] = ()) -> int:
        """Begin a call, ask its one question, and return its stream."""
        stream = self.http.send_request(headers_of(path, more))
        self.http.send_data(stream, framed(message), end_stream=True)
        self.flush()
        return stream

    def send(self, stream: int, data: bytes, *, end: bool = False) -> None:
        """Send on a stream as far as the server's windows let."""
        self.http.send_data(stream, data, end_stream=end)
        self.flush()

    def raw(self, *frames: bytes) -> bool:
        """Send bytes past the library; whether the server still took them."""
        with contextlib.suppress(OSError):
            self.socket.sendall(b"".join(frames))
            return True
        return False

    def flush(self) -> None:
        """Send what is to be sent."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while piece := self._to_send():
                self.socket.sendall(piece)

    def _to_send(self) -> bytes:
        with contextlib.suppress(ngh2.ConnectionStateError):
            return self.http.data_to_send()
        return b""

    def read(self) -> None:
        """Take what comes next; `gone` once nothing more will."""
        try:
            piece = self.socket.recv(1 << 16)
        except ConnectionError:
            piece = b""
        if not piece:
            self.gone = True
            return
        self._note_goaways(piece)
        with contextlib.suppress(
            ngh2.ConnectionStateError
        ):  # the library has had its last word, not the server
            self.http.receive_data(piece)
        for event in self.http.events():
            self._take(event)
        self.flush()

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        """Read until the condition is true and return what it is; AssertionError where it cannot be."""
        end_s = time.monotonic() + PATIENCE_S
        while not (value := condition()):
            assert not self.gone, f"the server hung up before this: {what}"
            assert time.monotonic() < end_s, f"did not come about: {what}"
            self.read()
        return value

    def until_gone(self) -> None:
        """Read until the server hangs up."""
        while not self.gone:
            self.read()

    def answer(self, stream: int) -> Answer:
        """Wait until a call has ended, and return what came of it."""
        self.until(lambda: stream in self.closed, f"stream {stream} ends")
        head = self.headers.get(stream, {})
        tail = head | self.trailers.get(stream, {})
        code = tail.get(b"grpc-status")
        return Answer(
            None if code is None else int(code),
            tail.get(b"grpc-message", b"").decode(),
            self.messages(stream),
            int(head.get(b":status", b"0")),
            self.resets.get(stream),
        )

    def messages(self, stream: int) -> list[bytes]:
        """The messages that have come whole on a stream."""
        data = bytes(self.data.get(stream, b""))
        messages = []
        start = 0
        while len(data) >= start + 5 and len(data) >= (end := start + 5 + _length(data, start)):
            messages.append(data[start + 5 : end])
            start = end
        return messages

    def _note_goaways(self, piece: bytes) -> None:
        frames = self._frames
        frames += piece
        while len(frames) >= 9 and len(frames) >= (end := 9 + int.from_bytes(frames[:3], "big")):
            if frames[3] == GOAWAY:
                last, code = struct.unpack_from(">II", frames, 9)
                self.goaways.append((last, code, bytes(frames[17:end])))
            del frames[:end]

    def _take(self, event: ngh2.Event) -> None:
        match event:
            case ngh2.ResponseReceived(stream, headers, _):
                self.headers[stream] = dict(headers)
            case ngh2.TrailersReceived(stream, headers):
                self.trailers[stream] = dict(headers)
            case ngh2.DataReceived(stream, data, _):
                self.data.setdefault(stream, bytearray()).extend(data)
            case ngh2.StreamReset(stream, code):
                self.resets[stream] = code
            case ngh2.StreamClosed(stream, code, _):
                self.closed[stream] = code
            case ngh2.PingReceived():
                self.pings += 1
            case ngh2.PingAcknowledged():
                self.pongs += 1
            case ngh2.SettingsAcknowledged():
                self.acks += 1
