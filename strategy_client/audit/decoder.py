"""A log's records as what they stand for: ticks, and what was recorded of each strategy."""

import struct
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from strategy_client.audit.plain import from_plain
from strategy_client.events import MarketTick

SIDES: Final = ("BUY", "SELL")
TIMES: Final = ("last_trade_time", "exchange_timestamp")


class RecordError(ValueError):
    """A record that does not hold what its kind must."""


@dataclass(frozen=True, slots=True)
class NamedModel:
    """One version of a model, as answers name it, and how its rows and probabilities are to be read."""

    name: str
    version: int
    digest: str
    contract_hash: str
    features: tuple[str, ...]
    classes: tuple[str, ...]
    threshold: float | None = None


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
            threshold = from_plain(record.get("confidence_threshold"))
            model = NamedModel(
                str(record["name"]),
                int(record["version"]),
                str(record["digest"]),
                str(record["contract_hash"]),
                tuple(map(str, record["features"])),
                tuple(map(str, record["classes"])),
                None if threshold is None else float(threshold),
            )
            self._models[int(record["model"])] = model
        except (KeyError, TypeError, ValueError) as error:
            raise RecordError(f"a model that cannot be read: {error!r}") from None
        return model

    def read_tick(self, record: Mapping[str, Any]) -> RecordedTick:
        """Return a tick. RecordError where it does not hold what a tick must."""
        try:
            more = from_plain(record.get("more") or {})
            for name in TIMES:
                if isinstance(more.get(name), str):
                    more[name] = datetime.fromisoformat(more[name])
            tick = MarketTick(
                instrument_token=record["token"],
                last_price=_price(record["price"]),
                timestamp=datetime.fromisoformat(record["time"]),
                **more,
            )
            return RecordedTick(
                record["tick"],
                record["at"],
                tick,
                self.read_outcomes(record["said"]),
                record.get("us", 0),
                record.get("request", ""),
                record.get("latency_us"),
            )
        except RecordError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise RecordError(f"a tick that cannot be read: {error!r}") from None

    def read_outcomes(self, said: Mapping[str, Any]) -> tuple[Recorded, ...]:
        """Return the outcomes of one tick, in the order of the strategies."""
        return tuple(self._read(strategy_id, value) for strategy_id, value in said.items())

    def _read(self, strategy_id: str, value: Any) -> Recorded:
        if isinstance(value, str):
            return Recorded(strategy_id, value)
        model = row = None
        if "model" in value:
            model = self._models.get(value["model"])
            if model is None:
                raise RecordError(f"{strategy_id}: model {value['model']!r} has not been named")
            row = _row(value["row"], len(model.features))
        probabilities = value.get("probabilities")
        confidence = from_plain(value.get("confidence"))
        return Recorded(
            strategy_id=strategy_id,
            said=value["is"],
            detail=value.get("detail", ""),
            quantity=value.get("quantity"),
            confidence=None if confidence is None else float(confidence),
            price=value.get("price", ""),
            model=model,
            row=row,
            probabilities=None if probabilities is None else tuple(map(float, from_plain(probabilities))),
            more=from_plain(value.get("more") or {}),
        )


def _row(text: str, n_features: int) -> NDArray[np.float32]:
    content = b64decode(text, validate=True)
    if len(content) != n_features * struct.calcsize("<f"):
        raise RecordError(f"a row of {len(content)} bytes: expected {n_features} features")
    return np.frombuffer(content, dtype="<f4").astype(np.float32)


def _price(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        raise RecordError(f"price {text!r}: expected a number") from None
