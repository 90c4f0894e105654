"""The headers of a call that are not as they should be, and those that may be so."""

import base64
from collections.abc import Callable
from contextlib import AbstractContextManager

import ngh2
import pytest
from h2_served import Served, question
from wire_caller import PREDICT

from inference_server.rpc.listener import ListenerOptions

Serve = Callable[..., AbstractContextManager[Served]]
INVALID_ARGUMENT, RESOURCE_EXHAUSTED, UNIMPLEMENTED = 3, 8, 12


def test_an_encoding_that_is_not_known_is_refused_with_those_that_are(served: Served) -> None:
    """The caller learns what to compress by."""
    with served.caller() as caller:
        stream = caller.call(question(), more=[(b"grpc-encoding", b"br")])
        assert caller.answer(stream).code == UNIMPLEMENTED
        assert caller.headers[stream][b"grpc-accept-encoding"] == b"identity, gzip, deflate"


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ([(b":method", b"GET")], 405),
        ([(b":method", b"PUT")], 405),
        ([(b"content-type", b"text/html")], 415),
        ([(b"content-type", b"application/grpcx")], 415),
        ([(b"content-type", b"application/json")], 415),
        ([(b"content-type", b"")], 415),
    ],
)
def test_what_is_no_grpc_is_refused_in_the_words_of_http(
    served: Served, more: list[tuple[bytes, bytes]], status: int
) -> None:
    """A method but POST, or another kind of content; a body that goes on is told to stop."""
    with served.caller() as caller:
        answer = caller.answer(caller.open(PREDICT, more, end=True))
        assert (answer.http_status, answer.code, answer.messages) == (status, None, [])
        answer = caller.answer(caller.open(PREDICT, more))
        assert (answer.http_status, answer.reset) == (status, ngh2.ErrorCode.NO_ERROR)


@pytest.mark.parametrize("kind", [b"application/grpc", b"application/grpc+proto", b"application/grpc;a=b"])
def test_all_forms_of_the_content_type_are_taken(served: Served, kind: bytes) -> None:
    """Those that gRPC names."""
    with served.caller() as caller:
        assert caller.answer(caller.call(question(), more=[(b"content-type", kind)])).code == 0


def test_no_content_type_is_no_grpc(served: Served) -> None:
    """It is refused as any other kind."""
    with served.caller() as caller:
        assert caller.answer(caller.open(without=[b"content-type"], end=True)).http_status == 415


@pytest.mark.parametrize(
    "path", ["/tickserve.v1.Predictor/Nothing", "/x.Y/Z", "/", "/tickserve.v1.Predictor/Predict/"]
)
def test_an_unknown_method_is_unimplemented(served: Served, path: str) -> None:
    """Whatever the path, the rest of the body is not waited for."""
    with served.caller() as caller:
        assert caller.answer(caller.open(path)).code == UNIMPLEMENTED


@pytest.mark.parametrize(
    "timeout", [b"", b"1", b"S", b"1s", b"123456789S", b"-1S", b"1.5S", b"1 S", b"\xb2S", b"1SS", b"0x1S"]
)
def test_a_timeout_that_is_none_is_refused(served: Served, timeout: bytes) -> None:
    """A limit that cannot be read is not taken for no limit."""
    with served.caller() as caller:
        answer = caller.answer(caller.call(question(), more=[(b"grpc-timeout", timeout)]))
        assert (answer.code, "grpc-timeout" in answer.text) == (INVALID_ARGUMENT, True)


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (b"", 0),
        (base64.b64encode(b"\0\xff"), 0),
        (base64.b64encode(b"\0\xff").rstrip(b"="), 0),
        (b"AAE=,AAI", 0),
        (b"!", INVALID_ARGUMENT),
        (b"A", INVALID_ARGUMENT),
        (b"AA=A", INVALID_ARGUMENT),
        (b"AAE=,*", INVALID_ARGUMENT),
        (b"\xff\xfe", INVALID_ARGUMENT),
    ],
)
def test_binary_metadata_is_base64(served: Served, value: bytes, code: int) -> None:
    """With padding or without, several values in one; anything else is refused."""
    with served.caller() as caller:
        answer = caller.answer(caller.call(question(), more=[(b"note-bin", value)]))
        assert (answer.code, "base64" in answer.text) == (code, code != 0)


@pytest.mark.parametrize("fields", [1, 8])
def test_metadata_beyond_the_bound_refuses_the_call_and_far_beyond_ends_the_connection(
    serve: Serve, fields: int
) -> None:
    """The bound is on all of it together; the refusal says so, and the connection goes on."""
    bound = 8 << 10
    with serve(listener=ListenerOptions(max_metadata_bytes=bound)) as served, served.caller() as caller:

        def metadata(size: int) -> list[tuple[bytes, bytes]]:
            return [(b"note-%d" % number, b"x" * (size // fields)) for number in range(fields)]

        assert caller.answer(caller.call(question(), more=metadata(bound - 500))).code == 0
        answer = caller.answer(caller.call(question(), more=metadata(bound)))
        assert (answer.code, str(bound) in answer.text) == (RESOURCE_EXHAUSTED, True)
        assert caller.answer(caller.call(question())).code == 0
        caller.call(question(), more=metadata(5 * bound))
        caller.until_gone()
        assert caller.goaways
