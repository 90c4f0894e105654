"""Feeds from files and standard input, by what the user writes."""

import json
import os
import time
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from eventually import until

from strategy_client.configuration import ConfigurationError, TicksConfig
from strategy_client.events import Cause
from strategy_client.sources import open_source
from strategy_client.sources.bad_line import BadFileError, BadLines
from strategy_client.sources.opening import MAX_LINES

DATA = {"instrument_token": 256265, "last_price": "24150.05", "timestamp": "2024-08-10T03:45:00Z"}


def lines(*messages: object) -> str:
    """Return messages as lines."""
    return "".join(json.dumps(message) + "\n" for message in messages)


def test_a_path_is_a_feed_that_ends_where_the_file_does(tmp_path: Path):
    """A recorded file is given tick by tick, each received when it is given."""
    file = tmp_path / "ticks.jsonl"
    file.write_text(lines(DATA, {**DATA, "last_price": "24151"}), encoding="utf-8")
    before_ns = time.monotonic_ns()

    ticks = list(open_source(str(file), TicksConfig(), None, BadLines()))

    assert [tick.last_price for tick in ticks] == [Decimal("24150.05"), Decimal(24151)]
    assert before_ns <= ticks[0].received_ns <= ticks[1].received_ns <= time.monotonic_ns()


def test_a_file_of_any_form_that_a_replay_reads_is_a_feed(tmp_path: Path):
    """A CSV file is a feed as it is a replay's input."""
    file = tmp_path / "ticks.csv"
    file.write_text("t,p,id\n2024-08-10T03:45:00Z,100,1\n2024-08-10T03:45:01Z,101,2\n", encoding="utf-8")
    columns = TicksConfig(time="t", price="p", token="id")  # noqa: S106 a column

    ticks = list(open_source(f"file:{file}", columns, {2}, bad := BadLines()))

    assert [(tick.instrument_token, tick.last_price) for tick in ticks] == [(2, 101)]
    assert bad.count == 0


def test_a_file_that_is_followed_gives_what_is_appended(tmp_path: Path):
    """follow=yes waits at the end of the file for the next line, and takes none before it is whole."""
    file = tmp_path / "ticks.jsonl"
    file.write_text(lines(DATA), encoding="utf-8")
    source = open_source(f"file:{file}?follow=yes", TicksConfig(), None, BadLines())
    ticks = iter(source)
    next(ticks)
    half = lines({**DATA, "last_price": "24151"})

    with file.open("a", encoding="utf-8") as growing:
        growing.write(half[:30])
        growing.flush()
        growing.write(half[30:] + lines({**DATA, "last_price": "24152"}))
    prices = [next(ticks).last_price, next(ticks).last_price]
    source.close()

    assert prices == [24151, 24152]
    assert list(ticks) == []


def test_standard_input_is_a_feed(monkeypatch: pytest.MonkeyPatch):
    """`-` reads lines from standard input until its end; a last line without its end counts."""
    read, write = os.pipe()
    saved = os.dup(0)
    os.dup2(read, 0)
    try:
        os.write(write, lines(DATA, {**DATA, "last_price": "1"}).rstrip("\n").encode())
        os.close(write)
        ticks = list(open_source("-", TicksConfig(), None, BadLines()))
    finally:
        os.dup2(saved, 0)
        os.close(saved)
        os.close(read)

    assert [tick.last_price for tick in ticks] == [Decimal("24150.05"), 1]


@pytest.mark.parametrize(
    ("url", "most"),
    [
        ("file:{file}?follow=yes", MAX_LINES),
        ("file:{file}?follow=yes&max_queued=7", 7),
        ("-", MAX_LINES),
    ],
)
def test_what_gives_more_than_is_taken_is_not_read_far_ahead(tmp_path: Path, url: str, most: int):
    """A line that is read too early is received too early, and would be stale when the loop comes to it."""
    file = tmp_path / "ticks.jsonl"
    file.write_text(lines(*[DATA] * 1_000), encoding="utf-8")
    saved = os.dup(0)
    with file.open("rb") as opened:
        os.dup2(opened.fileno(), 0)
    try:
        source = open_source(url.format(file=file), TicksConfig(), None, BadLines())
        until(lambda: source.queued == most)
        received = source.counts.received
        ticks = iter(source)
        for _ in range(1_000):
            next(ticks)
        source.close()
    finally:
        os.dup2(saved, 0)
        os.close(saved)

    assert received == most
    assert source.counts.ticks == 1_000


def test_the_three_forms_of_a_tick_are_read_alike(tmp_path: Path):
    """Alpha Panda's event, a line of its replay file and bare fields are one tick; events name a cause."""
    event = {"id": "e1", "correlation_id": "c1", "trace_id": "t1", "type": "market_tick", "data": DATA}
    replayed = {"topic": "market.ticks", "key": "256265", "event_type": "market_tick", "data": DATA}
    other = {"id": "e2", "type": "trading_signal", "data": {}}
    file = tmp_path / "ticks.jsonl"
    file.write_text(lines(event, replayed, DATA, other), encoding="utf-8")

    ticks = list(open_source(str(file), TicksConfig(), None, bad := BadLines()))

    assert {(tick.instrument_token, tick.last_price, tick.timestamp) for tick in ticks} == {
        (256265, Decimal("24150.05"), datetime(2024, 8, 10, 3, 45, tzinfo=UTC))
    }
    assert [tick.cause for tick in ticks] == [Cause("e1", "c1", "t1"), None, None]
    assert bad.count == 0


def test_a_recorded_weekend_is_traded_as_any_day(tmp_path: Path):
    """Alpha Panda's defect 10: the clock comes from the ticks, so one of a Saturday is a tick."""
    file = tmp_path / "ticks.jsonl"
    file.write_text(lines(DATA), encoding="utf-8")

    (tick,) = open_source(f"file:{file}", TicksConfig(), None, BadLines())

    assert tick.timestamp.weekday() == 5


def test_a_time_without_a_zone_is_read_in_the_configured_one(tmp_path: Path):
    """Alpha Panda's defect 11: 09:15 in Kolkata is 03:45 in UTC when the zone says so, and never guessed."""
    naive = {**DATA, "timestamp": "2024-08-08T09:15:00", "exchange_timestamp": "2024-08-08T09:14:59"}
    file = tmp_path / "ticks.jsonl"
    file.write_text(lines({"id": "e", "type": "market_tick", "data": naive}), encoding="utf-8")

    (tick,) = open_source(str(file), TicksConfig(timezone="Asia/Kolkata"), None, BadLines())

    assert tick.timestamp == datetime(2024, 8, 8, 3, 45, tzinfo=UTC)
    assert tick.exchange_timestamp == datetime(2024, 8, 8, 3, 44, 59, tzinfo=UTC)
    with pytest.raises(BadFileError, match=r"ticks.jsonl:1: timestamp: .* has no time zone; expected one"):
        list(open_source(str(file), TicksConfig(), None, BadLines()))


def test_an_instrument_is_known_by_its_token_whatever_its_symbol_says(tmp_path: Path):
    """Alpha Panda's defect 13: ticks of one token are one instrument, with a wrong symbol or without one."""
    file = tmp_path / "ticks.jsonl"
    file.write_text(lines({**DATA, "symbol": "WRONG"}, DATA, {**DATA, "symbol": "NIFTY"}), encoding="utf-8")

    ticks = list(open_source(str(file), TicksConfig(), {256265}, BadLines()))

    assert [tick.instrument_token for tick in ticks] == [256265] * 3


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("file:t.jsonl?folow=yes", "--source: t.jsonl: folow: no such option (did you mean 'follow'?)"),
        ("file:t.jsonl?follow=maybe", "--source: t.jsonl: follow: expected no or yes, came 'maybe'"),
        ("file:t.jsonl?from=newest", "--source: t.jsonl: from: expected with follow=yes only"),
        ("file:/?follow=yes", "--source: /: expected a file, came a folder"),
        ("file:t.jsonl?max_queued=0", "max_queued: expected an integer from 1 to 9999999999, came '0'"),
    ],
)
def test_a_feed_that_cannot_be_is_named(url: str, text: str):
    """What is wrong with a source is told with what was expected, before anything is read."""
    with pytest.raises(ConfigurationError) as raised:
        open_source(url, TicksConfig(), None, BadLines())

    assert text in str(raised.value)


def test_a_file_that_is_not_there_is_told():
    """A path to nothing is an error at once, unless it is to be followed."""
    with pytest.raises(BadFileError, match=r"nothing.jsonl: expected a file of ticks, there is none"):
        open_source("nothing.jsonl", TicksConfig(), None, BadLines())
