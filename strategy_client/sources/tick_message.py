"""A message that holds a tick: Alpha Panda's event, a line of its replay file, or the tick's fields alone."""

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final

from strategy_client.configuration import TicksConfig
from strategy_client.events import Cause, MarketTick
from strategy_client.sources.bad_line import FieldError
from strategy_client.sources.record import RecordReader, read_number, read_whole
from strategy_client.sources.timestamp import TimestampReader

TICK_EVENT: Final = "market_tick"
TICK_TOPIC: Final = "market.ticks"


class TickMessageReader:
    """Reads one message at a time.

    The fields of an event have Alpha Panda's names, those of the other two forms the configured ones.
    """

    def __init__(self, config: TicksConfig, tokens: Collection[int] | None = None) -> None:
        self._records = RecordReader(config, tokens)
        self._event_records = RecordReader(TicksConfig(timezone=config.timezone), tokens)
        self._readers = _optional_fields(config.timezone)

    def read(self, text: str) -> MarketTick | None:
        """Return the tick; None for an event of another type or topic.

        Raises FieldError for what is wrong with this message, BadFileError for a time without a zone where
        none is configured.
        """
        message = _load(text)
        if "data" not in message:
            return self._read(self._records, message)
        event = message.get("type", message.get("event_type", TICK_EVENT))
        topic = message.get("topic", TICK_TOPIC)
        if not (_is_text(event, TICK_EVENT) and _is_tick_topic(topic)):
            return None
        data = message["data"]
        if not isinstance(data, dict):
            raise FieldError("data", "a JSON object", data)
        if "type" not in message:
            return self._read(self._records, data)
        return replace(self._read(self._event_records, data), cause=_cause(message))

    def _read(self, records: RecordReader, fields: Mapping[str, Any]) -> MarketTick:
        tick = records.read(
            _need(fields, records.time),
            _need(fields, records.price),
            fields.get(records.token_column or ""),
            fields.get(records.symbol or "symbol"),
            fields.get(records.volume or ""),
        )
        given: dict[str, Any] = {
            field: read(field, fields[field])
            for field, read in self._readers.items()
            if fields.get(field) is not None
        }
        return replace(tick, **given) if given else tick


def _optional_fields(timezone: str | None) -> dict[str, Callable[[str, object], object]]:
    times = {
        name: TimestampReader(name, "iso", timezone) for name in ("last_trade_time", "exchange_timestamp")
    }
    whole = ("volume_traded", "last_traded_quantity", "total_buy_quantity", "total_sell_quantity")
    interest = ("oi", "oi_day_high", "oi_day_low")
    return {
        **dict.fromkeys((*whole, *interest), read_whole),
        **dict.fromkeys(("average_traded_price", "change"), read_number),
        **dict.fromkeys(times, lambda field, value: times[field].read(value)),
        "ohlc": _read_prices,
        "depth": _read_depth,
        "mode": _kind(str, "a text"),
        "tradable": _kind(bool, "true or false"),
    }


def _kind(kind: type, expected: str) -> Callable[[str, object], object]:
    def read(field: str, value: object) -> object:
        if not isinstance(value, kind):
            raise FieldError(field, expected, value)
        return value

    return read


def _read_prices(field: str, value: object) -> dict[str, Decimal]:
    if not isinstance(value, dict):
        raise FieldError(field, "a JSON object", value)
    return {name: read_number(f"{field}.{name}", price) for name, price in value.items()}


def _read_depth(field: str, value: object) -> dict[str, list[dict[str, object]]]:
    if not isinstance(value, dict):
        raise FieldError(field, "a JSON object", value)
    return {
        side: [_read_level(f"{field}.{side}", level) for level in _list(field, levels)]
        for side, levels in value.items()
    }


def _list(field: str, value: object) -> list[object]:
    if not isinstance(value, list):
        raise FieldError(field, "a list of price, quantity and orders", value)
    return value


def _read_level(field: str, level: object) -> dict[str, object]:
    if not isinstance(level, dict) or "price" not in level:
        raise FieldError(field, "price, quantity and orders", level)
    return {**level, "price": read_number(f"{field}.price", level["price"])}


def _load(text: str) -> dict[str, Any]:
    try:
        message = json.loads(text, parse_float=Decimal)
    except (ValueError, RecursionError) as error:
        raise FieldError("line", f"a JSON object ({error})", text) from None
    if not isinstance(message, dict):
        raise FieldError("line", "a JSON object", text)
    return message


def _cause(event: Mapping[str, Any]) -> Cause | None:
    # An event without an id caused nothing that could be named.
    named = event.get("id")
    if not isinstance(named, str) or not named:
        return None
    correlation, trace = event.get("correlation_id"), event.get("trace_id")
    return Cause(
        named,
        correlation if isinstance(correlation, str) and correlation else named,
        trace if isinstance(trace, str) and trace else named,
    )


def _is_text(value: object, expected: str) -> bool:
    return isinstance(value, str) and value.lower() == expected


def _is_tick_topic(topic: object) -> bool:
    # market.ticks, and one for each class of assets, as market.equity.ticks.
    return isinstance(topic, str) and topic.startswith("market.") and topic.endswith(".ticks")


def _need(fields: Mapping[str, Any], name: str) -> object:
    value = fields.get(name)
    if value is None:
        raise FieldError(name, "a value", None)
    return value
