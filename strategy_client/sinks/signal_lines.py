"""The line of each signal, as `jsonl.dumps` would write its record, in less time.

Most of a record's time goes into numbers, and most of its numbers have stood in a line before: the features
and probabilities of rows that come again, thresholds, versions. What is of no plain kind is left to json.
"""

import json
import math
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, TypeVar

from strategy_client.events import Signal
from strategy_client.sinks.jsonl import MAX_DEPTH, dumps, signal_record

MAX_KNOWN: Final = 16_384
MAX_KNOWN_CHARACTERS: Final = 256

ValueT = TypeVar("ValueT", str, float)


class _UnusualError(Exception):
    """A value of a kind that is left to json."""


class _KnownValues(dict[ValueT, str]):
    """What values are in JSON, without end: `known[value]` writes one that is new."""

    __slots__ = ("_write",)

    def __init__(self, write: Callable[[ValueT], str]) -> None:
        super().__init__()
        self._write: Callable[[ValueT], str] = write

    def __missing__(self, value: ValueT) -> str:
        text: str = self._write(value)
        # 0.0 and -0.0 are equal, and not the same text.
        if value and len(text) <= MAX_KNOWN_CHARACTERS:
            if len(self) >= MAX_KNOWN:
                self.clear()
            self[value] = text
        return text


class SignalLines:
    """Makes the line of each signal, without its end."""

    __slots__ = ("_keys", "_numbers", "_texts", "_time", "_timestamp")

    def __init__(self) -> None:
        self._keys = _KnownValues[str](lambda key: f"{json.dumps(key)}:")
        self._texts = _KnownValues[str](json.dumps)
        self._numbers = _KnownValues[float](_write_number)
        self._timestamp: datetime | None = None
        self._time = ""

    def line(self, index: int, signal: Signal) -> str:
        """Return the line of a signal, behind the index of its tick."""
        try:
            return self._line(index, signal)
        except (_UnusualError, ValueError):
            return dumps(signal_record(index, signal))

    def _line(self, index: int, signal: Signal) -> str:
        strategy_id, token, side, confidence, quantity, price, timestamp, metadata = signal
        plain = type(token) is int and type(quantity) is int and type(price) is Decimal
        if not plain or type(timestamp) is not datetime or type(confidence) is not float:
            raise _UnusualError
        if timestamp is not self._timestamp:
            self._time, self._timestamp = timestamp.isoformat(), timestamp
        return (
            f'{{"tick":{index},"strategy_id":{self._texts[strategy_id]},"instrument_token":{token},'
            f'"signal_type":"{side}","quantity":{quantity},"price":"{price}","timestamp":"{self._time}",'
            f'"confidence":{self._numbers[confidence]},"metadata":{self._object(metadata)}}}'
        )

    def _object(self, record: Mapping[str, Any], depth: int = MAX_DEPTH) -> str:
        parts = []
        for key, value in record.items():
            if type(key) is not str:
                raise _UnusualError
            kind = type(value)
            if kind is float:
                text = self._numbers[value]
            elif kind is str:
                text = self._texts[value]
            elif kind is int:
                text = repr(value)
            elif kind is dict and depth:
                text = self._object(value, depth - 1)
            else:
                raise _UnusualError
            parts.append(self._keys[key] + text)
        return f"{{{','.join(parts)}}}"


def _write_number(value: float) -> str:
    if not math.isfinite(value):
        raise _UnusualError
    return repr(value)
