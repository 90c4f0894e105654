"""The watchdog of a silent feed."""

import json
from pathlib import Path

import pytest
from real_ticks import DATA

from strategy_client.live.silence import MAX_NAMED, Silence, SilenceWatch

S = 1_000_000_000
DISCONNECTS = DATA / "disconnect_events" / "binance_spot_market_data_with_disconnect_events.json"


def texts(watch: SilenceWatch, at_s: float) -> list[str]:
    """What a look finds, as a person reads it."""
    return [str(silence) for silence in watch.look(int(at_s * S))]


def test_silence_of_the_feed_is_told_once_and_its_end_once() -> None:
    """H7: a feed that gives nothing is told when the time is over, not again, and again when it is back."""
    watch = SilenceWatch(30, [1, 2], 0)
    assert texts(watch, 29.9) == []
    assert not watch.feed_silent
    assert texts(watch, 30) == ["the feed: no tick for 30 s"]
    assert watch.feed_silent
    assert set(watch.silent) == {1, 2}
    assert texts(watch, 300) == []
    watch.heard(1, 301 * S)
    assert not watch.feed_silent
    assert watch.silent == {}
    assert texts(watch, 301) == ["the feed: ticks again after 301 s"]
    assert texts(watch, 302) == []


def test_silence_of_one_instrument_is_told_by_itself() -> None:
    """H7: where others go on, the silent one is named, once, and named again when it is back."""
    watch = SilenceWatch(30, [1, 2], 0)
    watch.heard(1, 20 * S)
    watch.heard(1, 40 * S)
    assert texts(watch, 40) == ["instrument 2: no tick for 40 s"]
    assert watch.silent == {2: 0}
    watch.heard(1, 60 * S)
    assert texts(watch, 61) == []
    watch.heard(2, 62 * S)
    assert watch.silent == {}
    assert texts(watch, 62) == ["instrument 2: ticks again after 62 s"]


def test_after_the_feed_was_silent_each_instrument_has_its_time_again() -> None:
    """H7: the first tick of a feed that is back does not make every other instrument silent at once."""
    watch = SilenceWatch(30, [1, 2], 0)
    watch.look(40 * S)
    watch.heard(1, 50 * S)
    assert texts(watch, 50) == ["the feed: ticks again after 50 s"]
    watch.heard(1, 75 * S)
    assert texts(watch, 79.9) == []
    assert texts(watch, 80) == ["instrument 2: no tick for 30 s"]


def test_tick_that_nobody_watches_says_that_the_feed_is_there() -> None:
    """H7: an instrument without a strategy is no instrument of ours, but it is a sign of life."""
    watch = SilenceWatch(30, [1], 0)
    watch.heard(9, 29 * S)
    assert texts(watch, 35) == ["instrument 1: no tick for 35 s"]
    assert not watch.feed_silent


def test_many_silent_instruments_are_one_line() -> None:
    """H7: a market that closes is one line with the first few names, not one for each instrument."""
    watch = SilenceWatch(30, range(1, 1_001), 0)
    watch.heard(1, 20 * S)
    (line,) = texts(watch, 31)
    assert line == "instruments 2, 3, 4, 5, 6 and 994 more: no tick for 31 s"
    assert str(Silence(began=True, lasted_s=1, tokens=tuple(range(MAX_NAMED)))).count("more") == 0


def test_zero_watches_nothing() -> None:
    """The watchdog can be switched off."""
    watch = SilenceWatch(0, [1], 0)
    assert not watch.on
    assert texts(watch, 1e6) == []
    assert not watch.feed_silent


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf")])
def test_time_that_is_none_is_refused(seconds: float) -> None:
    """A watchdog that could never speak is no watchdog."""
    with pytest.raises(ValueError, match="silent_after_s: expected 0"):
        SilenceWatch(seconds, [1], 0)


def test_another_line_up_is_watched_from_now_on() -> None:
    """A new instrument has its full time; one that is gone is silent no more; one that stays goes on."""
    watch = SilenceWatch(30, [1, 2], 0)
    watch.heard(3, 25 * S)
    watch.look(31 * S)
    assert set(watch.silent) == {1, 2}
    watch.watch([2, 3], 40 * S)
    watch.heard(9, 45 * S)
    assert set(watch.silent) == {2}
    assert texts(watch, 69) == []
    watch.heard(9, 69 * S)
    assert texts(watch, 70) == ["instrument 3: no tick for 30 s"]


@pytest.mark.skipif(not DISCONNECTS.is_file(), reason=f"no recorded feed in {DISCONNECTS}")
def test_real_feed_with_reconnects_is_silent_as_often_as_it_reconnects() -> None:
    """H7: of a recorded feed each break that lasts a minute is told once at its begin, once at its end."""
    events = json.loads(Path(DISCONNECTS).read_text(encoding="utf-8"))
    watch = SilenceWatch(30, [0, 2], 0)
    now_s, told = 0.0, []
    for event in events:
        if "Reconnecting" in event:
            for _ in range(60):
                now_s += 1
                told += texts(watch, now_s)
        else:
            watch.heard(event["Item"]["Ok"]["instrument"], int(now_s * S))
            told += texts(watch, now_s)
    assert sum("Reconnecting" in event for event in events) == 3
    feed = [line for line in told if line.startswith("the feed")]
    assert feed == ["the feed: no tick for 30 s", "the feed: ticks again after 60 s"] * 3
