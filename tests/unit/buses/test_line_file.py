"""Messages as lines of files: what is too long, torn, or not there yet."""

import os
import time
from pathlib import Path

import pytest
from bus_places import RedisPlace, make_place
from fixtures_signals import processed, signal

from strategy_client.buses.line_file import MAX_BATCH, MAX_LINE_BYTES, READ_BYTES, LineInbox, LineOutbox
from strategy_client.buses.port import BusError, OutgoingMessage
from strategy_client.sinks import open_fan_out


def never_over() -> float:
    """Return time enough."""
    return 1.0


def test_a_line_without_an_end_is_held_to_its_bound(tmp_path: Path):
    """A line that is too long is given once, cut off, and the next one stands behind it by its number."""
    file = tmp_path / "long.jsonl"
    file.write_bytes(b"x" * (3 * MAX_LINE_BYTES) + b"\nnext\n")
    inbox = LineInbox(file)
    came = []
    while (messages := inbox.receive(0)) is not None:
        came += messages
    inbox.close()

    assert [message.position for message in came] == [1, 2]
    assert MAX_LINE_BYTES < len(came[0].value) <= MAX_LINE_BYTES + READ_BYTES
    assert came[1].value == b"next"


def test_lines_that_are_read_together_are_received_as_they_are_given(tmp_path: Path):
    """Of many lines some are given at a time, each received when it is given, and not when it was read."""
    file = tmp_path / "many.jsonl"
    file.write_bytes(b"".join(b"%d\n" % number for number in range(2 * MAX_BATCH + 10)) + b"last")
    inbox = LineInbox(file)
    batches, before_ns = [], [time.monotonic_ns()]
    while (batch := inbox.receive(0)) is not None:
        batches.append(batch)
        before_ns.append(time.monotonic_ns())
    inbox.close()

    assert [len(batch) for batch in batches] == [MAX_BATCH, MAX_BATCH, 10, 1]
    assert [message.value for batch in batches for message in batch] == [
        *(b"%d" % number for number in range(2 * MAX_BATCH + 10)), b"last",
    ]  # fmt: skip
    for batch, earliest_ns, latest_ns in zip(batches, before_ns, before_ns[1:], strict=False):
        assert {earliest_ns <= message.received_ns <= latest_ns for message in batch} == {True}


def test_a_file_that_is_not_there_yet_is_new_from_its_first_line(tmp_path: Path):
    """Of a file that appears after the start all lines are newer than the start."""
    file = tmp_path / "later.jsonl"
    inbox = LineInbox(file, follow=True, newest=True)
    with pytest.raises(BusError, match="No such file"):
        inbox.receive(0)
    file.write_bytes(b"first\n")

    assert [message.value for message in inbox.receive(0)] == [b"first"]
    inbox.close()


def test_a_line_that_a_full_disk_tore_is_ended_and_written_anew(tmp_path: Path):
    """Half a line on a full disk spoils no other: it is ended, and the whole line follows."""
    file = tmp_path / "signals.jsonl"
    room = [4]

    def write(fd: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(28, "No space left on device")
        written = os.write(fd, data[: room[0]])
        room[0] -= written
        return written

    outbox = LineOutbox(file, write)
    batch = [OutgoingMessage("1", "k", b"abcdef"), OutgoingMessage("2", "k", b"ghi")]
    first = outbox.send(batch, never_over)
    room[0] = 100
    second = outbox.send(batch, never_over)
    outbox.close()

    assert (first.arrived, first.error) == ([], f"{file}: No space left on device")
    assert (second.arrived, second.error) == ([0, 1], "")
    assert file.read_bytes() == b"abcd\nabcdef\nghi\n"


def test_a_redis_stream_of_signals_is_bounded(tmp_path: Path):
    """A stream that nobody cuts off holds `max_length` signals, the newest."""
    place = make_place("redis", tmp_path / "bus")
    assert isinstance(place, RedisPlace)
    with open_fan_out([f"{place.sink_url}&max_length=10"]) as fan_out:
        for number in range(500):
            fan_out.took(processed(signal(number=number)))
    kept = place.taken()
    place.remove()

    assert 10 <= len(kept) < 300
    assert b'"number":499' in kept[-1]
