"""The `ticks:` section of a file: how recorded ticks are read."""

import zoneinfo
from typing import Any

from strategy_client.configuration import TicksConfig, did_you_mean
from strategy_client.store.section import TEXT, Kind, Section, read_positive_integer, read_text


def read_columns(section: Section) -> TicksConfig:
    """Take the whole section; problems are kept in it."""
    defaults = TicksConfig()
    config = TicksConfig(
        time=section.take("time", Kind("a column name", read_text), defaults.time),
        price=section.take("price", Kind("a column name", read_text), defaults.price),
        volume=section.take("volume", Kind("a column name", read_text), None),
        token=section.take("token", Kind("a column name, or an instrument token", _read_token), None),
        symbol=section.take("symbol", Kind("a column name", read_text), None),
        timezone=_timezone(section),
        time_format=section.take(
            "time_format",
            Kind("a strptime format, or iso, s, ms, us, ns", read_text),
            defaults.time_format,
        ),
        instruments=section.take(
            "instruments", Kind("a mapping of symbols to instrument tokens", _read_instruments), {}
        ),
    )
    section.finish()
    return config


def _timezone(section: Section) -> str | None:
    name = section.take("timezone", TEXT, None)
    if name is None:
        return None
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        near = did_you_mean(name, zoneinfo.available_timezones())
        section.fault(("timezone",), f"expected a zone like 'Asia/Kolkata' or 'UTC', came {name!r}{near}")
        return None
    return name


def _read_token(value: object) -> str | int:
    return read_positive_integer(value) if isinstance(value, int) else read_text(value)


def _read_instruments(value: Any) -> dict[str, int]:
    if not isinstance(value, dict):
        raise TypeError
    return {symbol: read_positive_integer(token) for symbol, token in value.items()}
