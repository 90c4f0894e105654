"""The header fields of a call, and the status in those of its end."""

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategy_client.predictor.h2.headers import (
    TIMEOUT_UNITS,
    ending_of,
    ending_of_reset,
    refused_by,
    request_headers,
    timeout_text,
)

CODE = grpc.StatusCode


@pytest.mark.parametrize(
    ("timeout_ns", "text"),
    [
        (0, b"1n"),
        (99_999_999, b"99999999n"),
        (100_000_001, b"100001u"),
        (99_999_999_001, b"100000m"),
        (10**18, b"16666667M"),
    ],
)
def test_timeout_is_rounded_up(timeout_ns: int, text: bytes) -> None:
    """A timeout has the finest unit that eight digits allow, and is never shorter than was asked."""
    assert timeout_text(timeout_ns) == text


@given(st.integers(0, 10**22))
def test_timeout_has_its_form(timeout_ns: int) -> None:
    """Any timeout has at most eight digits and a unit, and comes to what was asked or a little more."""
    text = timeout_text(timeout_ns)
    ns = dict(TIMEOUT_UNITS)[text[-1:]]
    assert 1 <= len(text[:-1]) <= 8
    assert text[:-1].isdigit()
    count = int(text[:-1])
    assert 0 <= count * ns - max(timeout_ns, 1) < ns or count == 99_999_999


def test_request_begins_as_grpc_wants_it() -> None:
    """The pseudo-fields come first; a value of bytes is in base64 without padding, a name in lower case."""
    headers = request_headers(b"/s/M", b"localhost", 5_000_000_000, [("X-A", "b"), ("y-bin", b"\x00\xff")])
    assert [name for name, _ in headers[:4]] == [b":method", b":scheme", b":path", b":authority"]
    fields = dict(headers)
    assert fields[b":method"] == b"POST"
    assert fields[b":path"] == b"/s/M"
    assert fields[b"te"] == b"trailers"
    assert fields[b"content-type"] == b"application/grpc"
    assert fields[b"grpc-timeout"] == b"5000000u"
    assert (fields[b"x-a"], fields[b"y-bin"]) == (b"b", b"AP8")
    assert b"grpc-timeout" not in dict(request_headers(b"/s/M", b"localhost", None, []))


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (b"400", CODE.INTERNAL),
        (b"401", CODE.UNAUTHENTICATED),
        (b"403", CODE.PERMISSION_DENIED),
        (b"404", CODE.UNIMPLEMENTED),
        (b"429", CODE.UNAVAILABLE),
        (b"502", CODE.UNAVAILABLE),
        (b"503", CODE.UNAVAILABLE),
        (b"504", CODE.UNAVAILABLE),
        (b"500", CODE.UNKNOWN),
        (b"302", CODE.UNKNOWN),
        (b"", CODE.UNKNOWN),
    ],
)
def test_http_status_has_its_code(status: bytes, code: grpc.StatusCode) -> None:
    """What answers in HTTP alone ends a call by the table of gRPC, unless it has a status of gRPC, too."""
    refused = refused_by([(b":status", status), (b"content-type", b"text/html")])
    assert refused is not None
    assert refused.code is code
    assert status.decode() in refused.details
    assert refused_by([(b":status", status), (b"grpc-status", b"5")]) is None


@pytest.mark.parametrize(
    "content_type", [b"application/grpc", b"application/grpc+proto", b"application/grpc;v=1"]
)
def test_content_types_of_grpc_are_taken(content_type: bytes) -> None:
    """A response of gRPC may go on, whatever it calls its messages."""
    assert refused_by([(b":status", b"200"), (b"content-type", content_type)]) is None


@pytest.mark.parametrize(
    "fields",
    [
        [(b"content-type", b"text/html")],
        [(b"content-type", b"application/grpc-web")],
        [],
        [(b"content-type", b"application/grpc"), (b"grpc-encoding", b"gzip")],
    ],
)
def test_responses_that_are_none_are_refused(fields: list[tuple[bytes, bytes]]) -> None:
    """Another content type, or a compression, ends the call although HTTP says 200."""
    assert refused_by([(b":status", b"200"), *fields]) is not None


def test_trailers_tell_status_and_text() -> None:
    """The text is percent-encoded UTF-8; a status that nobody knows is UNKNOWN, as is none."""
    ending = ending_of([(b"grpc-status", b"5"), (b"grpc-message", b"kein Modell %E2%82%AC 100%25%")])
    assert (ending.code, ending.details) == (CODE.NOT_FOUND, "kein Modell € 100%%")
    assert ending_of([(b"grpc-status", b"99")]).code is CODE.UNKNOWN
    assert ending_of([(b"grpc-status", b"-0")]).code is CODE.UNKNOWN
    assert ending_of([]).code is CODE.UNKNOWN


@pytest.mark.parametrize(
    ("error_code", "code"),
    [
        *((number, CODE.INTERNAL) for number in (0, 1, 2, 3, 4, 6, 9, 10)),
        (7, CODE.UNAVAILABLE),
        (8, CODE.CANCELLED),
        (11, CODE.RESOURCE_EXHAUSTED),
        (12, CODE.PERMISSION_DENIED),
    ],
)
def test_reset_has_its_code(error_code: int, code: grpc.StatusCode) -> None:
    """Each error code of HTTP/2 ends a call by the table of gRPC."""
    assert ending_of_reset(error_code).code is code
