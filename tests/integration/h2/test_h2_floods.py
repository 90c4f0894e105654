"""Callers who send more than they may of what costs them little: the connection ends, and no other."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import ngh2
import pytest
from h2_served import Served, question
from wire_caller import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PADDED,
    PING,
    PREDICT,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    STREAM,
    WINDOW_UPDATE,
    WireCaller,
    frame,
    framed,
    header_block,
    headers_of,
)

from inference_server.rpc.h2 import connection
from inference_server.rpc.h2.limits import MAX_CONTINUATIONS, RESETS
from inference_server.rpc.listener import ListenerOptions

Serve = Callable[..., AbstractContextManager[Served]]
CALM = ngh2.ErrorCode.ENHANCE_YOUR_CALM
BLOCK = header_block(headers_of(STREAM))


def ended_with(caller: WireCaller) -> int:
    """Wait until the server hangs up, and return the error that it gave."""
    caller.until_gone()
    [*_, (_, code, _)] = caller.goaways
    return code


def test_who_resets_again_and_again_is_ended(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many resets at once are too many; no call of them is left, and others go on (CVE-2023-44487)."""
    monkeypatch.setattr(connection, "RESETS", (RESETS[0], 0))  # however long a busy machine takes for them
    with served.caller() as other, served.caller() as caller:
        beside = other.open(STREAM)
        caller.greeted()
        pair = 2 * RESETS[0] + 2_000
        for first in range(1, 2 * pair, 2_000):
            sent = caller.raw(
                *(
                    frame(HEADERS, END_HEADERS, stream, BLOCK)
                    + frame(RST_STREAM, 0, stream, (8).to_bytes(4, "big"))
                    for stream in range(first, first + 2_000, 2)
                )
            )
            if not sent:
                break
        assert ended_with(caller) == CALM
        other.send(beside, framed(question()), end=True)
        assert other.answer(beside).code == 0


def test_as_many_resets_as_may_be_are_borne(served: Served) -> None:
    """A caller whose deadlines pass resets too: hundreds of them end nothing but their calls."""
    with served.caller() as caller:
        caller.greeted()
        caller.raw(
            *(
                frame(HEADERS, END_HEADERS, stream, BLOCK)
                + frame(RST_STREAM, 0, stream, (8).to_bytes(4, "big"))
                for stream in range(1001, 3001, 2)
            )
        )
        served.check_answers()
        caller.http.ping()
        caller.flush()
        caller.until(lambda: caller.pongs, "a sign of life")
        assert not caller.goaways


@pytest.mark.parametrize(("pieces", "ends"), [(MAX_CONTINUATIONS, False), (MAX_CONTINUATIONS + 1, True)])
def test_a_header_block_in_too_many_pieces_is_ended(served: Served, pieces: int, ends: bool) -> None:
    """So many CONTINUATION frames are borne, one more ends the connection (CVE-2024-27316)."""
    with served.caller() as caller:
        caller.greeted()
        empty = [frame(CONTINUATION, 0, 1)] * (pieces - 1)
        stream = caller.http.send_request(headers_of("/no/Such"), end_stream=True)
        whole = caller.http.data_to_send()
        assert whole[3:5] == bytes((HEADERS, END_HEADERS | END_STREAM))
        first = frame(HEADERS, END_STREAM, stream, whole[9:])
        caller.raw(first, *empty, frame(CONTINUATION, END_HEADERS, stream))
        if ends:
            assert ended_with(caller) == CALM
        else:
            assert caller.answer(stream).code == 12


def test_a_header_block_that_never_ends_is_ended(served: Served) -> None:
    """A block in large pieces is not collected without end."""
    with served.caller() as caller:
        caller.greeted()
        piece = header_block([(b"x" * 100, b"y" * 100)]) * 70
        caller.raw(frame(HEADERS, 0, 1, BLOCK))
        assert not all(caller.raw(frame(CONTINUATION, 0, 1, piece)) for _ in range(10_000))
        caller.until_gone()


@pytest.mark.parametrize(
    "frames",
    [
        frame(PING, 0, 0, bytes(8)),
        frame(SETTINGS, 0, 0),
        frame(SETTINGS, ACK, 0),
        frame(DATA, 0, 1),
        frame(DATA, PADDED, 1, bytes(1)),
        frame(WINDOW_UPDATE, 0, 1, bytes(4)),
        frame(PRIORITY, 0, 1, bytes(5)),
        frame(0xEE, 0, 0, b"x"),
        frame(RST_STREAM, 0, 1001, bytes(4)),
    ],
    ids=["ping", "settings", "ack", "data", "padding", "window", "priority", "unknown", "reset of none"],
)
def test_a_flood_of_frames_that_ask_for_nothing_is_ended(served: Served, frames: bytes) -> None:
    """A hundred thousand of one kind end the connection, and a call on another goes on."""
    with served.caller() as other, served.caller() as caller:
        beside = other.open(STREAM)
        caller.greeted()
        caller.open(STREAM)
        assert not all(caller.raw(frames * 1000) for _ in range(1000))
        caller.until_gone()
        other.send(beside, framed(question()), end=True)
        assert other.answer(beside).code == 0


def test_who_pings_in_vain_is_told_to_be_calm(serve: Serve) -> None:
    """Three pings too soon end the connection; an answer between them makes up for it."""
    with serve(listener=ListenerOptions(min_ping_interval_s=3600.0)) as served:
        with served.caller() as caller:
            caller.greeted()
            for number in range(10):
                caller.http.ping()
                caller.flush()
                assert caller.answer(caller.call(question())).code == 0
                assert caller.until(lambda number=number: caller.pongs > number, "an answer to the ping")
            stream = caller.http.send_request(headers_of(PREDICT))
            caller.http.send_data(stream, framed(question()), end_stream=True)
            caller.raw(frame(PING, 0, 0, bytes(8)) * 4 + caller.http.data_to_send())
            assert ended_with(caller) == CALM
            assert caller.goaways[-1][2] == b"too_many_pings"
            assert served.ended("Predict", "OK") == 10  # what he asked besides is not begun
        served.check_answers()


def test_calls_by_the_thousand_that_nobody_reads_the_refusals_of_take_no_memory(served: Served) -> None:
    """Headers without end, and nothing read: the streams at a time are bounded, and so is what waits."""
    with served.caller() as caller:
        caller.greeted()
        block = header_block(headers_of("/no/Such"))
        for first in range(1001, 400_001, 2000):
            streams = range(first, first + 2000, 2)
            if not caller.raw(*(frame(HEADERS, END_HEADERS | END_STREAM, each, block) for each in streams)):
                break
        for connection in served.connections:
            assert len(connection._streams) <= 4096
            assert connection._h2.queued_body_size() == 0
        served.check_answers()
