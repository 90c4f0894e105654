"""What the headers of a call say, and the headers and trailers of its answer."""

import base64
import binascii
import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from inference_server.rpc.h2.framing import ENCODINGS
from inference_server.rpc.status import Code, StatusError

Headers = Iterable[tuple[bytes, bytes]]

CONTENT_TYPE: Final = b"application/grpc"
ACCEPTED: Final = b", ".join(ENCODINGS)
RESPONSE: Final = ((b":status", b"200"), (b"content-type", CONTENT_TYPE))
OK_TRAILERS: Final = ((b"grpc-status", b"0"),)
# A status text travels in the trailers, a character as up to 12 bytes; callers take 8 KiB of all of them,
# and every field counts 32 bytes more (RFC 9113, section 6.5.2).
MAX_TEXT: Final = 640
TIMEOUT: Final = re.compile(rb"(\d{1,8})([HMSmun])")
UNIT_NS: Final = {
    b"H": 3_600 * 10**9,
    b"M": 60 * 10**9,
    b"S": 10**9,
    b"m": 10**6,
    b"u": 10**3,
    b"n": 1,
}
# Said of the call and not by its caller, so no metadata of his.
RESERVED: Final = frozenset(
    (
        *(b":method", b":scheme", b":path", b":authority", b"te", b"content-type"),
        *(b"grpc-timeout", b"grpc-encoding", b"grpc-accept-encoding", b"grpc-message-type"),
    )
)
# What stands for itself in the text of a status; everything else is percent-encoded.
PLAIN: Final = frozenset(range(0x20, 0x7F)) - frozenset(b"%")


class NotGrpcError(Exception):
    """A request that is no gRPC; `http_status` is what HTTP says to it."""

    def __init__(self, http_status: bytes) -> None:
        super().__init__(http_status)
        self.http_status = http_status


class CallHeaders(NamedTuple):
    """What a caller says of his call before its messages. `timeout_ns` None: he sets no limit.

    `encoding` is one of ENCODINGS, that of the messages which are compressed.
    """

    path: str
    timeout_ns: int | None
    encoding: bytes
    metadata: tuple[tuple[str, str | bytes], ...]


def read_headers(headers: Headers) -> CallHeaders:
    """Read the headers of a request.

    Raises NotGrpcError for what is no gRPC, StatusError for gRPC that cannot be served.
    """
    known: dict[bytes, bytes] = {}
    metadata: list[tuple[str, str | bytes]] = []
    for name, value in headers:
        if name in RESERVED:
            known[name] = value
        else:
            metadata.extend(_read_metadata(name, value))
    if known.get(b":method") != b"POST":
        raise NotGrpcError(b"405")
    kind = known.get(b"content-type", b"")
    if not kind.startswith(CONTENT_TYPE) or kind[len(CONTENT_TYPE) :][:1] not in {b"", b"+", b";"}:
        raise NotGrpcError(b"415")
    encoding = known.get(b"grpc-encoding", b"identity")
    if encoding not in ENCODINGS:
        raise StatusError(
            Code.UNIMPLEMENTED,
            f"grpc-encoding: expected one of {ACCEPTED.decode()}, came {encoding.decode('latin-1')!r}",
        )
    timeout = known.get(b"grpc-timeout")
    timeout_ns = None if timeout is None else _read_timeout(timeout)
    return CallHeaders(known[b":path"].decode("latin-1"), timeout_ns, encoding, tuple(metadata))


class HeaderReader:
    """Reads the headers of a connection's calls, of up to `max_bytes` each. Mostly they repeat the last."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._last: Headers = ()
        self._said = CallHeaders("", None, b"", ())

    def __repr__(self) -> str:
        return f"<HeaderReader of up to {self._max_bytes} bytes>"

    def read(self, headers: tuple[tuple[bytes, bytes], ...]) -> CallHeaders:
        """Read them; raises as `read_headers`, and StatusError for too many."""
        if not headers or headers != self._last:
            if sum([len(name) + len(value) for name, value in headers]) > self._max_bytes:
                text = f"expected at most {self._max_bytes} bytes of metadata, came more"
                raise StatusError(Code.RESOURCE_EXHAUSTED, text)
            self._said = read_headers(headers)
            self._last = headers
        return self._said


def trailers(code: Code, text: str) -> tuple[tuple[bytes, bytes], ...]:
    """Return the trailers of a call that ends with this status."""
    if code is Code.OK:
        return OK_TRAILERS
    status = (b"grpc-status", b"%d" % code)
    return (status, (b"grpc-message", _percent_encode(text[:MAX_TEXT]))) if text else (status,)


def trailers_only(code: Code, text: str) -> tuple[tuple[bytes, bytes], ...]:
    """Return the headers of an answer that is nothing but a status."""
    more = ((b"grpc-accept-encoding", ACCEPTED),) if code is Code.UNIMPLEMENTED else ()
    return (*RESPONSE, *trailers(code, text), *more)


def _read_timeout(text: bytes) -> int:
    match = TIMEOUT.fullmatch(text)
    if match is None:
        raise StatusError(
            Code.INVALID_ARGUMENT,
            f"grpc-timeout: expected up to 8 digits and one of HMSmun, came {text.decode('latin-1')!r}",
        )
    return int(match[1]) * UNIT_NS[match[2]]


def _read_metadata(name: bytes, value: bytes) -> list[tuple[str, str | bytes]]:
    key = name.decode("latin-1")
    if not name.endswith(b"-bin"):
        return [(key, value.decode("latin-1"))]
    try:
        # Several values of one key may come as one; the padding may be left out.
        return [
            (key, base64.b64decode(part.strip() + b"=" * (-len(part.strip()) % 4), validate=True))
            for part in value.split(b",")
        ]
    except binascii.Error:
        raise StatusError(Code.INVALID_ARGUMENT, f"metadata {key!r}: expected base64") from None


def _percent_encode(text: str) -> bytes:
    raw = text.encode("utf-8", "replace")
    # HTTP/2 lets no field begin or end with a blank (RFC 9113, section 8.2.1).
    plain = PLAIN if raw == raw.strip(b" ") else PLAIN - {0x20}
    if plain.issuperset(raw):
        return raw
    return b"".join(bytes((byte,)) if byte in plain else b"%%%02X" % byte for byte in raw)
