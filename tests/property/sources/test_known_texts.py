"""What is read once and remembered is what is read anew."""

import zoneinfo
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from strategy_client.configuration import TicksConfig
from strategy_client.sources.bad_line import FieldError
from strategy_client.sources.record import MAX_KNOWN_CHARACTERS, MAX_KNOWN_TEXTS, KnownTexts, RecordReader
from strategy_client.sources.timestamp import TimestampReader

# Clocks that change by an hour, by half of one, at midnight, that left out a whole day, and a standing one.
ZONES = ("America/Chicago", "Australia/Lord_Howe", "America/Sao_Paulo", "Pacific/Apia", "Asia/Kolkata")
AUTUMN = datetime(2013, 11, 3, 0, 30)  # noqa: DTZ001 of a wall clock
# Apia had no 30 December 2011.
APIA = datetime(2011, 12, 29, 23, 30)  # noqa: DTZ001 of a wall clock


def anew(time: datetime, zone: str) -> datetime | None:
    """Return a wall clock's time in UTC by the zone alone; None where it comes not once."""
    placed = time.replace(tzinfo=zoneinfo.ZoneInfo(zone))
    if placed.utcoffset() != placed.replace(fold=1).utcoffset():
        return None
    try:
        return placed.astimezone(UTC)
    except OverflowError:
        return None


def minutes(begin: datetime, count: int) -> list[datetime]:
    """Return a time of each seventh minute."""
    return [begin + timedelta(minutes=7 * index, microseconds=index) for index in range(count)]


@given(
    st.sampled_from(ZONES),
    st.lists(st.one_of(st.datetimes(), st.datetimes(datetime(2010, 1, 1), datetime(2014, 1, 1))), max_size=5),  # noqa: DTZ001
)
@example("America/Chicago", minutes(AUTUMN, 30))
@example("America/Chicago", minutes(datetime(2013, 3, 10, 0, 30), 30))  # noqa: DTZ001
@example("Australia/Lord_Howe", minutes(datetime(2013, 4, 7, 0, 30), 30))  # noqa: DTZ001
@example("America/Sao_Paulo", minutes(datetime(2013, 10, 19, 22, 30), 30))  # noqa: DTZ001
@example("Pacific/Apia", minutes(APIA, 30))
@example("America/Chicago", [datetime.max, datetime.min, datetime.max])  # noqa: DTZ901
def test_a_wall_clock_is_read_by_its_zone(zone: str, times: list[datetime]) -> None:
    """Each time is what the zone says, or refused where it comes twice or not at all, also near a change."""
    reader = TimestampReader("t", "iso", zone)
    for time in [again for each in times for again in (each, each + timedelta(0), each)]:
        expected = anew(time, zone)
        try:
            came = reader.read(time.isoformat())
        except FieldError:
            came = None
        assert came == expected
        assert came is None or (came.tzinfo, came.fold) == (UTC, 0)


def test_texts_that_come_again_keep_their_digits() -> None:
    """Equal numbers written otherwise stay as they are written, and what is bad is bad each time."""
    reader = RecordReader(TicksConfig(time="t", price="p", token=1, volume="v"))
    now = "2024-08-08T09:15:00Z"
    for _ in range(2):
        for price in ("1.0", "1.00", "1", "1e0"):
            assert str(reader.read(now, price, volume="3").last_price) == str(Decimal(price))
        for price in ("0", "-1", "1_0", "nan", "x", ""):
            with pytest.raises(FieldError):
                reader.read(now, price)
        with pytest.raises(FieldError):
            reader.read(now, "1", volume="-1")
        assert reader.read(now, "1", volume="").last_traded_quantity is None
        assert reader.read(now, "1", volume="7").last_traded_quantity == 7


def test_what_never_comes_again_does_not_fill_the_memory() -> None:
    """Only so many texts are kept, and none that is long."""
    read: list[str] = []

    def length(text: str) -> int:
        read.append(text)
        return len(text)

    known = KnownTexts(length)
    assert [known["ab"], known["ab"]] == [2, 2]
    assert read == ["ab"]
    long = "x" * (MAX_KNOWN_CHARACTERS + 1)
    assert [known[long], known[long]] == [len(long)] * 2
    assert read == ["ab", long, long]
    for number in range(MAX_KNOWN_TEXTS + 5):
        assert known[str(number)] == len(str(number))
    assert len(known) <= MAX_KNOWN_TEXTS
