"""Messages in the bytes of a stream, the headers around them, and the bounds that are counts."""

import base64
import gzip
import struct
import urllib.parse
import zlib

import ngh2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from inference_server.rpc.h2.framing import MessageReader, Packed, frame
from inference_server.rpc.h2.goaway import last_goaway
from inference_server.rpc.h2.headers import MAX_TEXT, NotGrpcError, read_headers, trailers, trailers_only
from inference_server.rpc.h2.keepalive import PingBound
from inference_server.rpc.h2.resets import ResetBound
from inference_server.rpc.status import Code, StatusError

BOUND = 64
HEADERS = (
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/a.B/C"),
    (b":authority", b"localhost"),
    (b"content-type", b"application/grpc"),
)
PACKERS = {b"identity": bytes, b"gzip": gzip.compress, b"deflate": zlib.compress}


def expanded(message: bytes | Packed, max_bytes: int) -> bytes:
    """The message as it was before its caller compressed it."""
    return message.expanded(max_bytes) if isinstance(message, Packed) else message


@given(
    st.lists(st.tuples(st.binary(max_size=BOUND), st.booleans()), max_size=6),
    st.lists(st.integers(0, 17), min_size=1, max_size=9).filter(any),
    st.sampled_from(sorted(PACKERS)),
)
def test_messages_come_whole_however_they_are_cut(
    messages: list[tuple[bytes, bool]], sizes: list[int], encoding: bytes
) -> None:
    """What was framed comes out again, in order, compressed or not, and nothing is left over."""
    stream = b""
    for message, packed in messages:
        packed = packed and encoding != b"identity"  # noqa: PLW2901
        raw = PACKERS[encoding](message) if packed else message
        stream += struct.pack(">BI", packed, len(raw)) + raw
    reader = MessageReader(4 * BOUND, encoding)
    came: list[bytes | Packed] = []
    cut = 0
    while stream:
        size = sizes[cut % len(sizes)]
        cut += 1
        came += reader.feed(stream[:size])
        stream = stream[size:]
    assert [expanded(message, 4 * BOUND) for message in came] == [message for message, _ in messages]
    assert reader.held_bytes == 0
    reader.check_whole()


@given(st.binary(max_size=BOUND), st.integers(0, BOUND + 5))
def test_what_is_held_is_what_came_of_the_message(message: bytes, size: int) -> None:
    """Its count is that of the bytes, it is no whole message, and it can be forgotten."""
    framed = frame(message, BOUND)
    size = min(size, len(framed) - 1)
    reader = MessageReader(BOUND)
    assert reader.feed(framed[:size]) == []
    assert reader.held_bytes == size
    if size:
        with pytest.raises(StatusError) as raised:
            reader.check_whole()
        assert raised.value.code is Code.INVALID_ARGUMENT
    reader.clear()
    assert reader.feed(framed) == [message]


@pytest.mark.parametrize("pieces", [1, 2])
def test_the_bound_is_the_longest_message(pieces: int) -> None:
    """One of just the bound is taken and sent, one byte more is neither, nor held."""
    at = struct.pack(">BI", 0, BOUND) + bytes(BOUND)
    over = struct.pack(">BI", 0, BOUND + 1) + bytes(BOUND + 1)
    reader = MessageReader(BOUND)
    assert [*reader.feed(at[:-pieces]), *reader.feed(at[-pieces:])] == [bytes(BOUND)]
    for data in (over, over[:5]):
        reader = MessageReader(BOUND)
        assert reader.feed(data) == []
        assert reader.broken is not None
        assert (reader.broken.code, reader.held_bytes) == (Code.RESOURCE_EXHAUSTED, 0)
    assert frame(bytes(BOUND), BOUND) == at
    with pytest.raises(StatusError) as raised:
        frame(bytes(BOUND + 1), BOUND)
    assert raised.value.code is Code.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("encoding", [b"gzip", b"deflate"])
def test_what_is_longer_than_the_bound_when_expanded_is_refused(encoding: bytes) -> None:
    """At the bound it is taken."""
    for size, code in ((BOUND, None), (BOUND + 1, Code.RESOURCE_EXHAUSTED), (10**6, Code.RESOURCE_EXHAUSTED)):
        raw = PACKERS[encoding](bytes(size))
        reader = MessageReader(max(BOUND, len(raw)) if size == 10**6 else BOUND, encoding)
        framed = struct.pack(">BI", 1, len(raw)) + raw
        [message] = reader.feed(framed)
        if code is None:
            assert expanded(message, BOUND) == bytes(size)
        else:
            with pytest.raises(StatusError) as raised:
                expanded(message, BOUND)
            assert raised.value.code is code


def test_what_came_whole_before_a_message_that_is_wrong_is_kept() -> None:
    """Too long or of an unknown form: those before it come out, and it is told of."""
    good = frame(b"one", BOUND) + frame(b"two", BOUND)
    for bad, code in (
        (struct.pack(">BI", 0, BOUND + 1), Code.RESOURCE_EXHAUSTED),
        (b"\2" + bytes(4), Code.INTERNAL),
    ):
        reader = MessageReader(BOUND)
        assert reader.feed(good + bad + good) == [b"one", b"two"]
        with pytest.raises(StatusError) as raised:
            reader.check_whole()
        assert raised.value.code is code
        reader.clear()
        reader.check_whole()


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        (b"1H", 3_600 * 10**9),
        (b"2M", 120 * 10**9),
        (b"3S", 3 * 10**9),
        (b"4m", 4 * 10**6),
        (b"5u", 5_000),
        (b"6n", 6),
        (b"00000007n", 7),
        (b"99999999H", 99_999_999 * 3_600 * 10**9),
    ],
)
def test_a_timeout_is_read_in_its_unit(text: bytes, nanoseconds: int) -> None:
    """Hours to nanoseconds, of up to eight digits."""
    assert read_headers((*HEADERS, (b"grpc-timeout", text))).timeout_ns == nanoseconds


@given(st.binary(max_size=10))
@example(b"1\n")
@example(b"1S\n")
@example("1٣S".encode())
def test_any_other_timeout_is_refused(text: bytes) -> None:
    """Nothing but up to eight digits and a unit is a limit."""
    is_one = 2 <= len(text) <= 9 and text[:-1].isdigit() and text[-1:] in b"HMSmun"
    headers = (*HEADERS, (b"grpc-timeout", text))
    if is_one:
        assert read_headers(headers).timeout_ns is not None
        return
    with pytest.raises(StatusError) as raised:
        read_headers(headers)
    assert raised.value.code is Code.INVALID_ARGUMENT


@given(st.lists(st.tuples(st.sampled_from(["a", "b-c"]), st.text(st.characters(codec="ascii"))), max_size=4))
def test_metadata_are_the_callers_and_nothing_else(metadata: list[tuple[str, str]]) -> None:
    """Each value of each key, in order; what is said of the call itself is none of it."""
    sent = tuple((key.encode(), value.encode()) for key, value in metadata)
    said = read_headers((*HEADERS, (b"te", b"trailers"), (b"grpc-accept-encoding", b"gzip"), *sent))
    assert list(said.metadata) == metadata
    assert (said.path, said.timeout_ns, said.encoding) == ("/a.B/C", None, b"identity")


@given(st.lists(st.binary(), min_size=1, max_size=3), st.booleans())
def test_binary_metadata_are_bytes(values: list[bytes], padded: bool) -> None:
    """Several in one, with or without their padding."""
    parts = [base64.b64encode(value) for value in values]
    joined = b",".join(part if padded else part.rstrip(b"=") for part in parts)
    said = read_headers((*HEADERS, (b"note-bin", joined)))
    assert list(said.metadata) == [("note-bin", value) for value in values]


@given(st.text())
@example("100 % of\nthem")
@example(" at either end ")
@example("\t")
@example("x" * (MAX_TEXT - 1) + " y")
@example("\N{CHART WITH UPWARDS TREND}" * 1000)
@example("\udc80")
def test_the_text_of_a_status_survives_the_wire(text: str) -> None:
    """It is one field that HTTP/2 lets through, and reads as it was said, as far as the bound."""
    for headers in (trailers(Code.INTERNAL, text), trailers_only(Code.INTERNAL, text)):
        said = dict(headers)
        assert said[b"grpc-status"] == b"13"
        value = said.get(b"grpc-message", b"")
        assert all(0x20 <= byte < 0x7F for byte in value)
        assert value == value.strip()
        expected = text[:MAX_TEXT].encode("utf-8", "replace").decode()
        assert urllib.parse.unquote(value.decode("ascii")) == expected


@pytest.mark.parametrize(
    ("kind", "status"),
    [(b"application/grpc", None), (b"application/grpc+json", None), (b"application/grpc-web", b"415")],
)
def test_kinds_of_content(kind: bytes, status: bytes | None) -> None:
    """Those of gRPC itself, whatever its messages are written in, and no relative of it."""
    headers = (*HEADERS[:-1], (b"content-type", kind))
    if status is None:
        assert read_headers(headers).path == "/a.B/C"
    else:
        with pytest.raises(NotGrpcError) as raised:
            read_headers(headers)
        assert raised.value.http_status == status


def test_pings_that_come_too_soon_are_counted_until_something_is_sent() -> None:
    """The third too soon is one too many; in time, or after an answer, none is."""
    bound = PingBound(10.0)
    assert [bound.is_too_much(now) for now in (0.0, 1.0, 2.0, 3.0)] == [False, False, False, True]
    bound = PingBound(10.0)
    assert not any(bound.is_too_much(10.0 * number) for number in range(20))
    bound = PingBound(10.0)
    for now in range(20):
        assert not bound.is_too_much(float(now))
        bound.answered()


def test_resets_are_counted_against_a_bucket_that_fills_again() -> None:
    """As many as it holds at once, then as many as have flowed in; it never holds more."""
    bound = ResetBound(3, 10.0)
    assert [bound.is_too_much(5.0) for _ in range(4)] == [False, False, False, True]
    bound = ResetBound(3, 10.0)
    assert not any(bound.is_too_much(0.1 * number) for number in range(100))
    assert [bound.is_too_much(1000.0) for _ in range(4)] == [False, False, False, True]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ngh2.DenialOfServiceError("a flood"), ngh2.ErrorCode.ENHANCE_YOUR_CALM),
        (ngh2.ConnectionProtocolError("a flood"), ngh2.ErrorCode.PROTOCOL_ERROR),
    ],
)
def test_the_last_word_on_a_connection_is_a_frame(error: ngh2.NGH2Error, code: int) -> None:
    """Another end of HTTP/2 reads it as the GOAWAY that it is."""
    client = ngh2.Connection(ngh2.Role.CLIENT)
    client.initiate_connection()
    client.receive_data(bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)) + last_goaway(error))
    [said] = [event for event in client.events() if isinstance(event, ngh2.GoAwayReceived)]
    assert (said.error_code, said.debug_data) == (code, b"a flood")
