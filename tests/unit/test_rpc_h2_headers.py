"""What a connection's calls say in their headers, where each may repeat the one before."""

import pytest

from inference_server.rpc.h2.headers import HeaderReader, NotGrpcError, read_headers
from inference_server.rpc.status import Code, StatusError

PLAIN = ((b":method", b"POST"), (b":path", b"/a.B/C"), (b"content-type", b"application/grpc"))
TOLD = (*PLAIN, (b"grpc-timeout", b"5m"), (b"key", b"value"))
CUT = (*PLAIN, (b"grpc-timeout", b"5"))
OTHER = (*PLAIN, (b"grpc-encoding", b"gzip"))
LONG = (*PLAIN, (b"key", b"v" * 200))


def test_each_call_is_read_as_if_it_were_the_first() -> None:
    """The same again, others in between, and shorter ones; none has anything of another."""
    reader = HeaderReader(200)
    for headers in (PLAIN, PLAIN, TOLD, TOLD, OTHER, PLAIN, TOLD, (*PLAIN, *TOLD[3:])):
        assert reader.read(headers) == read_headers(headers)


@pytest.mark.parametrize("wrong", [CUT, LONG, (), PLAIN[1:]])
def test_what_is_refused_is_refused_again(wrong: tuple[tuple[bytes, bytes], ...]) -> None:
    """It is never taken for the last that was right, nor is that forgotten."""
    reader = HeaderReader(200)
    for _ in range(2):
        assert reader.read(TOLD).timeout_ns == 5_000_000
        for _ in range(2):
            with pytest.raises((StatusError, NotGrpcError)) as refused:
                reader.read(wrong)
            if wrong is LONG:
                assert isinstance(refused.value, StatusError)
                assert refused.value.code is Code.RESOURCE_EXHAUSTED
