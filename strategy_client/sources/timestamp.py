"""Exchange times as text, numbers or datetimes, read into UTC. A time without a zone is never guessed."""

import zoneinfo
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final

from strategy_client.sources.bad_line import BadFileError, FieldError

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
HOUR: Final = timedelta(hours=1)
# More than the year 9999. A larger number is refused before it is an int, which could fill the memory.
MAX_US: Final = 10**18
US_PER_UNIT: Final[Mapping[str, Decimal]] = {
    "s": Decimal(1_000_000),
    "ms": Decimal(1_000),
    "us": Decimal(1),
    "ns": Decimal("0.001"),
}


class TimestampReader:
    """Reads one field. `time_format` is `iso`, one of s, ms, us, ns since the epoch, or a strptime format.

    `timezone` is the IANA zone of times written without one; raises BadFileError when it is not known.
    """

    def __init__(self, field: str, time_format: str = "iso", timezone: str | None = None) -> None:
        self._field = field
        self._format = time_format
        self._text = ""
        self._time = EPOCH
        self._hour = datetime.min  # noqa: DTZ901 of a wall clock
        self._offset: timedelta | None = None
        self._parse: Callable[[str], datetime]
        try:
            self._zone = zoneinfo.ZoneInfo(timezone) if timezone is not None else None
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            raise BadFileError(
                f"timezone: expected a zone like 'UTC' or 'Asia/Kolkata', came {timezone!r}"
            ) from None
        if time_format == "iso":
            self._expected = "an ISO 8601 time"
            self._parse = datetime.fromisoformat
        elif time_format in US_PER_UNIT:
            self._expected = f"{time_format} since the epoch"
            self._parse = self._parse_number
        else:
            self._expected = f"a time of the form {time_format!r}"
            self._parse = self._parse_format

    def read(self, value: object) -> datetime:
        """Return the time in UTC.

        Raises FieldError for a value of another form, and BadFileError for a time without a zone where no
        zone is configured: that is wrong with every line, not with this one.
        """
        if type(value) is not str:
            return self._read(value)
        # A busy instrument trades many times in one unit of its exchange's clock.
        if value != self._text:
            self._time = self._read(value)
            self._text = value
        return self._time

    def _read(self, value: object) -> datetime:
        try:
            time = value if isinstance(value, datetime) else self._parse(str(value))
        except (ValueError, ArithmeticError):
            raise FieldError(self._field, self._expected, value) from None
        if time.tzinfo is UTC:
            return time
        try:
            return self._in_zone(time) if time.tzinfo is None else time.astimezone(UTC)
        except OverflowError:
            raise FieldError(self._field, "a time in the years 1 to 9999", value) from None

    def _in_zone(self, time: datetime) -> datetime:
        if self._zone is None:
            raise BadFileError(
                f"{self._field}: {time} has no time zone; expected one in the time, "
                "or the zone of the file as --timezone or ticks.timezone"
            )
        hour = time.replace(minute=0, second=0, microsecond=0)
        if hour != self._hour:
            self._hour, self._offset = hour, _steady_offset(hour, self._zone)
        if self._offset is not None:
            return time.replace(tzinfo=UTC) - self._offset
        placed = time.replace(tzinfo=self._zone)
        # Where clocks are put back an hour comes twice, where they are put forward one is left out.
        if placed.utcoffset() != placed.replace(fold=1).utcoffset():
            raise FieldError(self._field, f"a time that comes once in {self._zone}", str(time))
        return placed.astimezone(UTC)

    def _parse_number(self, text: str) -> datetime:
        us = Decimal(text) * US_PER_UNIT[self._format]
        if abs(us) > MAX_US:
            raise OverflowError
        return EPOCH + timedelta(microseconds=int(us))

    def _parse_format(self, text: str) -> datetime:
        return datetime.strptime(text, self._format)  # noqa: DTZ007 the zone is looked at by the caller


def _steady_offset(hour: datetime, zone: zoneinfo.ZoneInfo) -> timedelta | None:
    """Return the offset from UTC of an hour of the wall clock; None where it changes within.

    No zone has changed its offset twice within an hour, nor within four days. Asking the zone takes longer
    than reading the rest of a line.
    """
    try:
        ends = [hour, hour + HOUR]
    except OverflowError:
        return None
    offsets = {each.replace(tzinfo=zone, fold=fold).utcoffset() for each in ends for fold in (0, 1)}
    return offsets.pop() if len(offsets) == 1 else None
