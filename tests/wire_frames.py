"""HTTP/2 frames as bytes, right or wrong ones: what no library would send can be sent with these.

RFC 9113 section 4.1 has the form of a frame, RFC 7541 section 6.2.2 that of the header fields here.
"""

import struct
from collections.abc import Iterable, Sequence

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = (
    range(10)
)
END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
CANCEL = 0x8

Field = tuple[bytes, bytes]


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    """Return one frame."""
    length = len(payload)
    return struct.pack(">HBBBI", length >> 8, length & 0xFF, kind, flags, stream) + payload


def header_block(fields: Iterable[Field]) -> bytes:
    """Return header fields as HPACK literals that change no table."""
    return b"".join(b"\x10" + _text(name) + _text(value) for name, value in fields)


def headers(stream: int, fields: Iterable[Field], *, end_stream: bool = False) -> bytes:
    """Return a whole HEADERS frame."""
    return frame(HEADERS, END_HEADERS | (END_STREAM if end_stream else 0), stream, header_block(fields))


def data(stream: int, payload: bytes, *, end_stream: bool = False) -> bytes:
    """Return a DATA frame."""
    return frame(DATA, END_STREAM if end_stream else 0, stream, payload)


def message(content: bytes, flag: int = 0) -> bytes:
    """Return a message of gRPC's, as it stands in DATA."""
    return struct.pack(">BI", flag, len(content)) + content


def settings(values: Sequence[tuple[int, int]] = ()) -> bytes:
    """Return SETTINGS."""
    return frame(SETTINGS, payload=b"".join(struct.pack(">HI", *value) for value in values))


def ping(content: bytes = b"12345678") -> bytes:
    """Return a PING."""
    return frame(PING, payload=content)


def reset(stream: int, error: int = CANCEL) -> bytes:
    """Return RST_STREAM."""
    return frame(RST_STREAM, 0, stream, struct.pack(">I", error))


def window_update(stream: int, increment: int) -> bytes:
    """Return WINDOW_UPDATE."""
    return frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", increment))


def goaway(last_stream: int = 0, error: int = 0, told: bytes = b"") -> bytes:
    """Return GOAWAY."""
    return frame(GOAWAY, payload=struct.pack(">II", last_stream, error) + told)


def call_fields(path: bytes, *more: Field) -> list[Field]:
    """Return the header fields that begin a call."""
    return [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", path),
        (b":authority", b"localhost"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
        *more,
    ]


def _text(raw: bytes) -> bytes:
    """A string literal: its length in 7 bits, or 127 and the rest in groups of 7, then the bytes."""
    if len(raw) < 127:
        return bytes((len(raw),)) + raw
    rest = len(raw) - 127
    length = bytearray(b"\x7f")
    while rest >= 128:
        length.append(rest % 128 + 128)
        rest //= 128
    length.append(rest)
    return bytes(length) + raw
