"""gRPC's messages out of the bytes of a stream, however they are cut."""

import struct

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategy_client.predictor.h2.framing import FramingError, Reassembly, frame


@given(st.lists(st.binary(max_size=40), max_size=6), st.lists(st.integers(1, 17), min_size=1, max_size=9))
def test_messages_come_whole_however_they_are_cut(messages: list[bytes], sizes: list[int]) -> None:
    """What was framed comes out again, in order, whichever pieces it arrives in, and nothing is left."""
    stream = b"".join(map(frame, messages))
    reassembly = Reassembly(64)
    came: list[bytes] = []
    cut = 0
    while stream:
        size = sizes[cut % len(sizes)]
        cut += 1
        came += reassembly.feed(stream[:size])
        stream = stream[size:]
    assert came == messages
    assert not reassembly.partial


def test_a_begin_without_an_end_is_partial() -> None:
    """A message whose end did not come is not given, and is known of."""
    reassembly = Reassembly(64)
    assert reassembly.feed(frame(b"first") + frame(b"second")[:-1]) == [b"first"]
    assert reassembly.partial


@pytest.mark.parametrize("flags", [1, 2, 255])
def test_a_compressed_message_is_refused(flags: int) -> None:
    """Nobody asked for compression: flags other than none are an error of the peer's."""
    with pytest.raises(FramingError) as raised:
        Reassembly(64).feed(struct.pack(">BI", flags, 2) + b"ab")
    assert raised.value.code is grpc.StatusCode.INTERNAL


def test_a_message_that_is_too_long_is_refused_by_its_prefix() -> None:
    """A message over the bound is refused before it is held; one of just that size is taken."""
    with pytest.raises(FramingError) as raised:
        Reassembly(64).feed(struct.pack(">BI", 0, 65))
    assert raised.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert Reassembly(64).feed(frame(bytes(64))) == [bytes(64)]
