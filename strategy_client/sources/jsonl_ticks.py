"""Ticks from JSON lines: Alpha Panda's replay format, or the fields of a tick by themselves."""

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, TextIO

from strategy_client.configuration import TicksConfig
from strategy_client.events import MarketTick
from strategy_client.sources.bad_line import BadFileError, BadLines, FieldError
from strategy_client.sources.line import check_length, numbered_lines
from strategy_client.sources.record import RecordReader, read_number, read_whole
from strategy_client.sources.timestamp import TimestampReader

TICK_EVENT: Final = "market_tick"
TICK_TOPIC: Final = "market.ticks"


def read_jsonl(
    path: Path, text: TextIO, config: TicksConfig, tokens: Collection[int] | None, bad: BadLines
) -> Iterator[MarketTick]:
    """Read tick by tick; events of another type or topic are passed over."""
    reader = RecordReader(config, tokens)
    extras = _Extras(config.timezone)
    for number, line in numbered_lines(text):
        if not line.strip():
            continue
        try:
            fields = _fields(line)
            if fields is None:
                continue
            tick = reader.read(
                _need(fields, reader.time),
                _need(fields, reader.price),
                fields.get(reader.token_column or ""),
                fields.get(reader.symbol or "symbol"),
                fields.get(reader.volume or ""),
            )
            tick = extras.add(tick, fields)
        except FieldError as error:
            bad.add(path, number, error)
        except BadFileError as error:
            raise BadFileError(f"{path}:{number}: {error}") from None
        else:
            yield tick


class _Extras:
    """The optional fields of a tick, each read as its type."""

    def __init__(self, timezone: str | None) -> None:
        def read_time(field: str, value: object) -> object:
            return TimestampReader(field, "iso", timezone).read(value)

        whole = ("volume_traded", "last_traded_quantity", "total_buy_quantity", "total_sell_quantity")
        interest = ("oi", "oi_day_high", "oi_day_low")
        self._readers: dict[str, Callable[[str, object], object]] = {
            **dict.fromkeys((*whole, *interest), read_whole),
            **dict.fromkeys(("average_traded_price", "change"), read_number),
            **dict.fromkeys(("last_trade_time", "exchange_timestamp"), read_time),
            **dict.fromkeys(("ohlc", "depth"), _kind(dict, "a JSON object")),
            "mode": _kind(str, "a text"),
            "tradable": _kind(bool, "true or false"),
        }

    def add(self, tick: MarketTick, fields: Mapping[str, Any]) -> MarketTick:
        given: dict[str, Any] = {
            field: read(field, fields[field])
            for field, read in self._readers.items()
            if fields.get(field) is not None
        }
        return replace(tick, **given) if given else tick


def _kind(kind: type, expected: str) -> Callable[[str, object], object]:
    def read(field: str, value: object) -> object:
        if not isinstance(value, kind):
            raise FieldError(field, expected, value)
        return value

    return read


def _fields(line: str) -> Mapping[str, Any] | None:
    check_length(line)
    try:
        event = json.loads(line, parse_float=Decimal)
    except (ValueError, RecursionError) as error:
        raise FieldError("line", f"a JSON object ({error})", line) from None
    if not isinstance(event, dict):
        raise FieldError("line", "a JSON object", line)
    if "data" not in event:
        return event
    if event.get("event_type", TICK_EVENT) != TICK_EVENT or event.get("topic", TICK_TOPIC) != TICK_TOPIC:
        return None
    data = event["data"]
    if not isinstance(data, dict):
        raise FieldError("data", "a JSON object", data)
    return data


def _need(fields: Mapping[str, Any], name: str) -> object:
    value = fields.get(name)
    if value is None:
        raise FieldError(name, "a value", None)
    return value
