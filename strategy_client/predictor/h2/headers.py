"""The header fields of a gRPC call over HTTP/2, and how a call that went wrong says so in them.

As gRPC's PROTOCOL-HTTP2.md and http-grpc-status-mapping.md have it.
"""

import base64
import urllib.parse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import grpc

Header = tuple[bytes, bytes]

CONTENT_TYPE: Final = b"application/grpc"
USER_AGENT: Final = b"tickserve-client ngh2"
# As nearly every answer has them, in the form in which the library gives them.
USUAL_RESPONSE: Final = ((b":status", b"200"), (b"content-type", CONTENT_TYPE))
USUAL_TRAILERS: Final = ((b"grpc-status", b"0"),)
MAX_TIMEOUT_DIGITS: Final = 8
# The units of grpc-timeout, the finest first, in nanoseconds.
TIMEOUT_UNITS: Final = (
    (b"n", 1),
    (b"u", 1_000),
    (b"m", 1_000_000),
    (b"S", 1_000_000_000),
    (b"M", 60_000_000_000),
    (b"H", 3_600_000_000_000),
)
OF_HTTP_STATUS: Final = {
    400: grpc.StatusCode.INTERNAL,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.UNIMPLEMENTED,
    429: grpc.StatusCode.UNAVAILABLE,
    502: grpc.StatusCode.UNAVAILABLE,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.UNAVAILABLE,
}
REFUSED_STREAM: Final = 0x7
CANCEL: Final = 0x8
# NO_ERROR and the errors of the protocol are INTERNAL.
OF_RESET: Final = {
    REFUSED_STREAM: grpc.StatusCode.UNAVAILABLE,
    CANCEL: grpc.StatusCode.CANCELLED,
    0xB: grpc.StatusCode.RESOURCE_EXHAUSTED,  # ENHANCE_YOUR_CALM
    0xC: grpc.StatusCode.PERMISSION_DENIED,  # INADEQUATE_SECURITY
}
_BY_NUMBER: Final = {b"%d" % code.value[0]: code for code in grpc.StatusCode}


@dataclass(frozen=True, slots=True)
class Ending:
    """How a call ended."""

    code: grpc.StatusCode
    details: str = ""


_OK: Final = Ending(grpc.StatusCode.OK)


def request_headers(
    path: bytes, authority: bytes, timeout_ns: int | None, metadata: Iterable[tuple[str, str | bytes]]
) -> list[Header]:
    """Return the fields that begin a call; the values of metadata whose name ends in -bin are bytes."""
    headers = [*_same_each_time(path, authority)]
    if timeout_ns is not None:
        headers.append((b"grpc-timeout", timeout_text(timeout_ns)))
    for name, value in metadata:
        raw = value if isinstance(value, bytes) else value.encode("ascii")
        if name.endswith("-bin"):
            raw = base64.b64encode(raw).rstrip(b"=")
        headers.append((name.lower().encode("ascii"), raw))
    return headers


@lru_cache(maxsize=64)
def _same_each_time(path: bytes, authority: bytes) -> tuple[Header, ...]:
    return (
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", path),
        (b":authority", authority),
        (b"te", b"trailers"),
        (b"content-type", CONTENT_TYPE),
        (b"user-agent", USER_AGENT),
    )


def timeout_text(timeout_ns: int) -> bytes:
    """Return a grpc-timeout, rounded up: at most eight digits and a unit."""
    for unit, ns in TIMEOUT_UNITS:
        count = -(-max(timeout_ns, 1) // ns)
        if len(text := b"%d" % count) <= MAX_TIMEOUT_DIGITS:
            return text + unit
    return b"9" * MAX_TIMEOUT_DIGITS + TIMEOUT_UNITS[-1][0]


def refused_by(headers: Sequence[Header]) -> Ending | None:
    """Return how a response that is no gRPC's ends its call; None where it is one that may go on."""
    if headers == USUAL_RESPONSE:
        return None
    fields = dict(headers)
    if b"grpc-status" in fields:
        return None
    status = fields.get(b":status", b"")
    if status != b"200":
        return Ending(_of_http(status), f"HTTP status {status.decode('ascii', 'replace')}")
    content_type = fields.get(b"content-type", b"")
    base, plus = content_type[: len(CONTENT_TYPE)], content_type[len(CONTENT_TYPE) : len(CONTENT_TYPE) + 1]
    if base != CONTENT_TYPE or plus not in {b"", b"+", b";"}:
        told = content_type.decode("ascii", "replace")
        return Ending(grpc.StatusCode.UNKNOWN, f"content-type {told!r}, expected application/grpc")
    encoding = fields.get(b"grpc-encoding", b"identity")
    if encoding != b"identity":
        return Ending(grpc.StatusCode.INTERNAL, f"grpc-encoding {encoding!r}, which nobody asked for")
    return None


def ending_of(trailers: Sequence[Header]) -> Ending:
    """Return the status that trailers hold, or a response that is nothing but trailers."""
    if trailers == USUAL_TRAILERS:
        return _OK
    fields = dict(trailers)
    number = fields.get(b"grpc-status")
    if number is None:
        return Ending(grpc.StatusCode.UNKNOWN, "the call ended without a grpc-status")
    details = urllib.parse.unquote(fields.get(b"grpc-message", b"").decode("ascii", "replace"))
    return Ending(_BY_NUMBER.get(number, grpc.StatusCode.UNKNOWN), details)


def ending_of_reset(error_code: int) -> Ending:
    """Return how RST_STREAM ends a call."""
    code = OF_RESET.get(error_code, grpc.StatusCode.INTERNAL)
    return Ending(code, f"the stream was reset with HTTP/2 error {error_code}")


def _of_http(status: bytes) -> grpc.StatusCode:
    number = int(status) if status.isdigit() else 0
    return OF_HTTP_STATUS.get(number, grpc.StatusCode.UNKNOWN)
