"""Flow control in both directions: who does not read, or may not send, waits by himself."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import ngh2
import pytest
from h2_served import Served, question, scores
from sidecars import eventually
from tickserve.v1 import predictor_pb2 as wire
from wire_caller import (
    DATA,
    MAX_WINDOW,
    PREDICT,
    STREAM,
    WINDOW_UPDATE,
    WireCaller,
    frame,
    framed,
)

from inference_server.rpc.h2 import limits
from inference_server.rpc.h2.connection import MAX_UNREAD_BYTES
from inference_server.rpc.h2.limits import CONNECTION_WINDOW, STREAM_WINDOW
from inference_server.rpc.listener import ListenerOptions

Serve = Callable[..., AbstractContextManager[Served]]
WINDOW = ngh2.Setting.INITIAL_WINDOW_SIZE
ROWS = 40_000


def widen(caller: WireCaller, *streams: int) -> None:
    """Let the server send all it has on these streams."""
    for stream in (0, *streams):
        caller.http.set_local_window_size(1 << 30, stream_id=stream)
    caller.flush()


@pytest.mark.parametrize("window", [1, 7, 1000])
def test_a_caller_with_a_small_window_gets_a_large_answer_in_pieces(served: Served, window: int) -> None:
    """What comes at a time is at most his window, and together it is the answer."""
    rows = 200 * window
    with served.caller({WINDOW: window}, auto_window_update=False) as caller:
        stream = caller.call(question(rows=rows))
        data = caller.data.setdefault(stream, bytearray())
        came = 0
        while stream not in caller.closed:
            caller.until(lambda came=came: len(data) > came or stream in caller.closed, "more of it")
            more = len(data) - came
            assert more <= window
            came += more
            if stream not in caller.closed and more:
                caller.http.acknowledge_received_data(more, stream)
                caller.flush()
        answer = caller.answer(stream)
        assert (answer.code, scores(answer.messages[0])) == (0, [6.0] * rows)


def test_a_caller_who_opens_no_window_blocks_himself_alone(served: Served) -> None:
    """His large answer waits, his other calls and other callers do not; when he reads he gets it whole."""
    with served.caller({WINDOW: 1000}, auto_window_update=False) as caller:
        stream = caller.call(question(rows=ROWS))
        caller.until(lambda: len(caller.data.get(stream, b"")) == 1000, "as much as may come")
        served.check_answers()
        small = caller.answer(caller.call(question()))
        assert small.code == 0
        assert len(caller.data[stream]) == 1000
        widen(caller, stream)
        assert scores(caller.answer(stream).messages[0]) == [6.0] * ROWS


def test_the_window_of_the_connection_holds_for_all_streams_together(served: Served) -> None:
    """Answers stop when all of them together are what the connection takes, and go on when it takes more."""
    with served.caller({WINDOW: MAX_WINDOW}, auto_window_update=False) as caller:
        streams = [caller.call(question(rows=10_000)) for _ in range(4)]
        caller.until(lambda: sum(map(len, caller.data.values())) == 65_535, "as much as may come")
        caller.http.ping()
        caller.flush()
        caller.until(lambda: caller.pongs, "a sign of life")
        assert sum(map(len, caller.data.values())) == 65_535
        widen(caller)
        for stream in streams:
            assert scores(caller.answer(stream).messages[0]) == [6.0] * 10_000


def test_a_window_made_smaller_under_way_is_heeded(served: Served) -> None:
    """A window that becomes negative by new settings has to be filled up before anything comes again."""
    with served.caller({WINDOW: 1000}, auto_window_update=False) as caller:
        stream = caller.call(question(rows=ROWS))
        caller.until(lambda: len(caller.data.get(stream, b"")) == 1000, "as much as may come")
        caller.http.update_settings({WINDOW: 0})  # so that the window is 1000 below nothing
        caller.raw(frame(WINDOW_UPDATE, 0, stream, (1000).to_bytes(4, "big")))
        caller.flush()
        caller.until(lambda: caller.acks == 2, "the settings are heeded")
        caller.http.ping()
        caller.flush()
        caller.until(lambda: caller.pongs, "a sign of life")
        assert len(caller.data[stream]) == 1000
        widen(caller, stream)
        assert scores(caller.answer(stream).messages[0]) == [6.0] * ROWS


def test_a_caller_may_send_as_much_as_the_window(served: Served) -> None:
    """The windows are those that are said; a message beyond them goes through as they are opened again."""
    with served.caller() as caller:
        caller.greeted()
        assert caller.http.remote_settings[WINDOW] == STREAM_WINDOW
        assert caller.http.remote_window_size == CONNECTION_WINDOW
        rows = 4 * STREAM_WINDOW // 12
        answer = caller.answer(caller.call(question(rows=rows)))
        assert len(scores(answer.messages[0])) == rows


@pytest.mark.parametrize("path", [PREDICT, STREAM])
def test_what_was_read_is_given_back_on_the_connection(
    served: Served, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After many calls with large questions the connection's window is not used up, nor after failed ones."""
    window = 1 << 20
    monkeypatch.setattr(limits, "CONNECTION_WINDOW", window)
    with served.caller() as caller:
        caller.greeted()
        large = question(rows=window // 24)
        for _ in range(6):
            assert caller.answer(caller.call(large, path)).code == 0
        for _ in range(6):
            assert caller.answer(caller.call(large, "/no/Such")).code == 12


def test_who_sends_more_than_a_stream_takes_ends_his_call_or_connection(served: Served) -> None:
    """It is a FLOW_CONTROL_ERROR."""
    with served.caller() as caller, served.caller() as other:
        caller.greeted()
        stream = caller.open(STREAM)
        blocked = caller.open(STREAM)
        caller.raw(frame(DATA, 0, stream, framed(question("loops", value=2**62, timeout_us=60_000_000))))
        piece = frame(DATA, 0, stream, framed(question("loops", value=2**62, timeout_us=60_000_000)) * 1000)
        for _ in range(2 * STREAM_WINDOW // len(piece) + 1):
            caller.raw(piece)
        caller.until(lambda: caller.goaways or stream in caller.resets, "an error")
        assert {code for _, code, _ in caller.goaways} | {*caller.resets.values()} == {
            ngh2.ErrorCode.FLOW_CONTROL_ERROR
        }
        assert blocked not in caller.resets
        assert other.answer(other.call(question())).code == 0


@pytest.mark.parametrize("of_stream", [True, False], ids=["stream", "connection"])
def test_a_window_beyond_what_a_window_can_be_ends_the_connection(served: Served, of_stream: bool) -> None:
    """It is a FLOW_CONTROL_ERROR, and the calls of others go on."""
    with served.caller() as caller, served.caller() as other:
        caller.greeted()
        beside = other.open(STREAM)
        stream = caller.open(STREAM)
        caller.raw(frame(WINDOW_UPDATE, 0, stream if of_stream else 0, MAX_WINDOW.to_bytes(4, "big")))
        caller.until_gone()
        assert [code for _, code, _ in caller.goaways] == [ngh2.ErrorCode.FLOW_CONTROL_ERROR]
        other.send(beside, framed(question()), end=True)
        assert other.answer(beside).code == 0


def test_who_asks_thousands_and_reads_nothing_is_not_read_from(served: Served) -> None:
    """He can send about a window full, others are answered meanwhile; when he reads he gets every answer."""
    many = 40_000
    asked = [framed(question(id=f"{number:06}")) for number in range(many)]
    with served.caller({WINDOW: 0}, auto_window_update=False) as caller:
        caller.greeted()
        stream = caller.open(STREAM)
        caller.http.send_data(stream, b"".join(asked), end_stream=True)
        caller.flush()
        caller.until(lambda: caller.http.stream_remote_window_size(stream) == 0, "nothing more is taken")
        [known] = served.connections
        eventually(lambda: known._h2.queued_body_size() > 1 << 16, "answers wait")
        for _ in range(200):  # in which thousands would be answered, if they were
            served.check_answers()
        assert known._h2.queued_body_size() < 1 << 18
        widen(caller, stream)
        answers = [wire.PredictResponse.FromString(each) for each in caller.answer(stream).messages]
        assert sorted(answer.id for answer in answers) == [f"{number:06}" for number in range(many)]
        assert all(answer.parts[0].status.code == 0 for answer in answers)


def test_answers_that_nobody_reads_bound_what_is_begun(serve: Serve) -> None:
    """With too many answers waiting on his connection a caller is refused more, until he reads."""
    longest = 6 << 20
    bound = MAX_UNREAD_BYTES + longest
    with (
        serve(listener=ListenerOptions(max_message_bytes=longest)) as served,
        served.caller({WINDOW: 0}, auto_window_update=False) as caller,
    ):
        caller.greeted()
        large = []
        for _ in range(bound // 1_800_000 + 1):
            large.append(stream := caller.call(question(rows=450_000)))
            caller.until(lambda stream=stream: stream in caller.headers, "its answer waits")
        [known] = served.connections
        eventually(lambda: known._h2.queued_body_size() > bound, "the answers wait")
        answer = caller.answer(caller.call(question()))
        assert (answer.code, "wait to be read" in answer.text) == (8, True)
        widen(caller, *large)
        assert {caller.answer(stream).code for stream in large} == {0}
        again = caller.call(question())
        widen(caller, again)
        assert caller.answer(again).code == 0
