"""A log's records as what they stand for: ticks, and what was recorded of each strategy."""

import math
import struct
from base64 import b64decode
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final, Never

import numpy as np
from numpy.typing import NDArray

from strategy_client.audit.plain import TEXT, from_plain, to_text
from strategy_client.events import MarketTick
from strategy_client.processors.model import MODEL_NAME

SIDES: Final = ("BUY", "SELL")
TIMES: Final = ("last_trade_time", "exchange_timestamp")
# What values of the wrong kind raise where they are used; what `decimal` raises is arithmetic.
UNREADABLE: Final = (KeyError, TypeError, ValueError, AttributeError, ArithmeticError)
SHOWN_CHARACTERS: Final = 80


class RecordError(ValueError):
    """A record that does not hold what its kind must."""


@dataclass(frozen=True, slots=True)
class NamedModel:
    """One version of a model, as answers name it, and how its rows and probabilities are to be read.

    Raises RecordError for a name that no model can have.
    """

    name: str
    version: int
    digest: str
    contract_hash: str
    features: tuple[str, ...]
    classes: tuple[str, ...]
    threshold: float | None = None

    def __post_init__(self) -> None:
        # Its file is copied into a folder of this name, which a log of somebody's must not choose.
        if not MODEL_NAME.fullmatch(self.name):
            raise RecordError(f"name {_shown(self.name)}: expected that of a model")


@dataclass(frozen=True, slots=True)
class Recorded:
    """What was written of one strategy on one tick: BUY, SELL or a reason, and what a model answered to what.

    `row` is float32, shape (n_features,); it is there where a model answered.
    """

    strategy_id: str
    said: str
    detail: str = ""
    quantity: int | None = None
    confidence: float | None = None
    price: str = ""
    model: NamedModel | None = None
    row: NDArray[np.float32] | None = None
    probabilities: tuple[float, ...] | None = None
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_signal(self) -> bool:
        """Whether it is a wish to trade."""
        return self.said in SIDES


@dataclass(frozen=True, slots=True)
class RecordedTick:
    """A tick and what was recorded of it. `at_ns` is the time of day at which its outcomes were known."""

    index: int
    at_ns: int
    tick: MarketTick
    outcomes: tuple[Recorded, ...]
    duration_us: int = 0
    request_id: str = ""
    latency_us: float | None = None


class Decoder:
    """Reads a segment's records; it is told of each record that names a model before those that use it."""

    def __init__(self) -> None:
        self._models: dict[int, NamedModel] = {}

    def forget(self) -> None:
        """Begin a segment: it names its models itself."""
        self._models.clear()

    def learn(self, record: Mapping[str, Any]) -> NamedModel:
        """Take a record that names a model. RecordError."""
        try:
            threshold = record.get("confidence_threshold")
            model = NamedModel(
                _text(record, "name"),
                _integer(record, "version"),
                _text(record, "digest"),
                _text(record, "contract_hash"),
                _texts(record, "features"),
                _texts(record, "classes"),
                None if threshold is None else _number("confidence_threshold", threshold),
            )
            self._models[_integer(record, "model")] = model
        except UNREADABLE as error:
            raise RecordError(f"a model that cannot be read: {_why(error)}") from None
        return model

    def read_tick(self, record: Mapping[str, Any]) -> RecordedTick:
        """Return a tick. RecordError where it does not hold what a tick must."""
        try:
            more = from_plain(record.get("more") or {})
            for name in TIMES:
                if isinstance(more.get(name), str):
                    # What was no time is what it was: no strategy of ours reads it.
                    with suppress(ValueError):
                        more[name] = datetime.fromisoformat(more[name])
            token = record["token"]
            tick = MarketTick(
                # Anything else is of no instrument, as it was then; and it may be no key.
                instrument_token=token if isinstance(token, int) else to_text(token),  # type: ignore[arg-type]
                last_price=_price(record),
                timestamp=_time(record),
                **more,
            )
            latency_us = record.get("latency_us")
            return RecordedTick(
                _integer(record, "tick"),
                _integer(record, "at"),
                tick,
                self.read_outcomes(record["said"]),
                _integer(record, "us", 0),
                _text(record, "request", ""),
                None if latency_us is None else _number("latency_us", latency_us),
            )
        except UNREADABLE as error:
            raise RecordError(f"a tick that cannot be read: {_why(error)}") from None

    def read_shadow(self, record: Mapping[str, Any]) -> tuple[int, Recorded]:
        """Return what a shadow said, and on which tick. RecordError."""
        try:
            index = _integer(record, "shadow")
            (said,) = self.read_outcomes(record["said"])
        except UNREADABLE as error:
            raise RecordError(f"a shadow that cannot be read: {_why(error)}") from None
        return index, said

    def read_outcomes(self, said: Mapping[str, Any]) -> tuple[Recorded, ...]:
        """Return the outcomes of one tick, in the order of the strategies."""
        return tuple(self._read(strategy_id, value) for strategy_id, value in said.items())

    def _read(self, strategy_id: str, value: Any) -> Recorded:
        if isinstance(value, str):
            return Recorded(strategy_id, value)
        model = row = None
        if "model" in value:
            number = _integer(value, "model")
            model = self._models.get(number)
            if model is None:
                raise RecordError(f"{strategy_id}: model {number} has not been named")
            row = _row(_text(value, "row"), len(model.features))
        said = _text(value, "is")
        probabilities = value.get("probabilities")
        return Recorded(
            strategy_id=strategy_id,
            said=said,
            detail=_text(value, "detail", ""),
            quantity=_integer(value, "quantity") if said in SIDES else None,
            confidence=_number("confidence", value["confidence"]) if said in SIDES else None,
            price=_text(value, "price") if said in SIDES else "",
            model=model,
            row=row,
            probabilities=None
            if probabilities is None
            else tuple(_number("probabilities", each) for each in probabilities),
            more=from_plain(value.get("more") or {}),
        )


def _row(text: str, n_features: int) -> NDArray[np.float32]:
    content = b64decode(text, validate=True)
    if len(content) != n_features * struct.calcsize("<f"):
        raise RecordError(f"a row of {len(content)} bytes: expected {n_features} features")
    return np.frombuffer(content, dtype="<f4").astype(np.float32)


def _time(record: Mapping[str, Any]) -> datetime:
    # Null is what was no time, and what the edge refused then it refuses again.
    if record["time"] is None:
        return None  # type: ignore[return-value]
    return datetime.fromisoformat(_text(record, "time"))


def _price(record: Mapping[str, Any]) -> Decimal:
    given = record["price"]
    if isinstance(given, dict) and given.keys() == {TEXT} and type(given[TEXT]) is str:
        return given[TEXT]  # type: ignore[return-value] # as with a time that was none
    text = _text(record, "price")
    try:
        return Decimal(text)
    except InvalidOperation:
        raise RecordError(f"price {_shown(text)}: expected a number") from None


def _text(record: Mapping[str, Any], name: str, default: str | None = None) -> str:
    value = record[name] if default is None else record.get(name, default)
    return value if type(value) is str else _refuse(name, value, "text")


def _texts(record: Mapping[str, Any], name: str) -> tuple[str, ...]:
    values = record[name]
    if not isinstance(values, list) or not all(type(each) is str for each in values):
        _refuse(name, values, "a list of texts")
    return tuple(values)


def _integer(record: Mapping[str, Any], name: str, default: int | None = None) -> int:
    value = record[name] if default is None else record.get(name, default)
    return value if type(value) is int else _refuse(name, value, "an integer")


def _number(name: str, value: Any) -> float:
    # What is not finite is written by its name; a number that reads as infinity is none that was written.
    if type(value) is float and math.isfinite(value):
        return value
    plain = from_plain(value)
    if type(value) is float or type(plain) not in (int, float, Decimal):
        _refuse(name, value, "a number")
    return float(plain)


def _refuse(name: str, value: object, expected: str) -> Never:
    raise RecordError(f"{name} {_shown(value)}: expected {expected}")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "..."


def _why(error: Exception) -> str:
    return str(error) if isinstance(error, RecordError) else repr(error)[:SHOWN_CHARACTERS]
