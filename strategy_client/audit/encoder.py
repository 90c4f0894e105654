"""What came of a tick as one line of a log, short: what repeats is named once and then by number."""

import math
import struct
from base64 import b64encode
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from decimal import Decimal
from json.encoder import encode_basestring_ascii as _quoted
from typing import Any, Final

import numpy as np

from strategy_client.audit.plain import TEXT, to_text, write_text
from strategy_client.edge import write_time
from strategy_client.events import MarketTick, NoSignal, Outcome, ProcessedTick, ShadowComparison, Signal
from strategy_client.processors.model import MODEL_NAME

# The order of a tick's further fields in a log.
FURTHER: Final = tuple(
    name
    for name in MarketTick.__dataclass_fields__
    if name not in ("instrument_token", "last_price", "timestamp", "received_ns")
)
# What of an outcome's metadata has a place of its own.
BY_MODEL: Final = ("model", "version", "digest", "contract_hash", "confidence_threshold")
BY_ROW: Final = ("features", "probabilities", "probability")
BY_REQUEST: Final = ("request_id", "latency_us")
MAX_KEPT_TEXTS: Final = 10_000
# Beyond, an integer may have more digits than Python writes.
SHORT: Final = 1 << 64


class Encoder:
    """Writes for one run; `named` are the lines that name something, for each later segment to begin with.

    `encode_tick` and `encode_comparison` return the bodies of lines, in order: those that name what is new,
    and then the one asked for.
    """

    def __init__(self) -> None:
        self.named: list[bytes] = []
        self._models: dict[tuple[Any, ...], int] = {}
        self._texts: dict[tuple[str, str], str] = {}
        self._new: list[bytes] = []

    def encode_tick(self, processed: ProcessedTick, wall_ns: int, monotonic_ns: int) -> list[bytes]:
        """Return the lines of a tick; the readings are those of the clocks when its outcomes were known."""
        tick = processed.tick
        head = f'{{"tick":{processed.index},"at":{wall_ns},"us":{processed.duration_ns // 1000}'
        if tick.received_ns is not None:
            # As a time of day: a reading of the monotonic clock says nothing to anybody later.
            head += f',"received":{wall_ns - (monotonic_ns - tick.received_ns)}'
        head += self._tick(tick)
        request = ""
        outcomes = []
        for outcome in processed.outcomes:
            metadata = outcome.metadata
            if metadata and not request and "request_id" in metadata:
                request = f',"request":{_value(metadata["request_id"])}'
                if "latency_us" in metadata:
                    request += f',"latency_us":{_value(metadata["latency_us"])}'
            outcomes.append(self._named(outcome))
        return self._lines(f'{head}{request},"said":{{{",".join(outcomes)}}}')

    def encode_comparison(self, comparison: ShadowComparison) -> list[bytes]:
        """Return the lines of what a shadow said."""
        head = f'{{"shadow":{comparison.index},"live":{{{self._named(comparison.live)}}}'
        return self._lines(f'{head},"said":{{{self._named(comparison.shadow)}}}')

    def _lines(self, body: str) -> list[bytes]:
        lines, self._new = self._new, []
        lines.append(body.encode("ascii"))
        return lines

    def _tick(self, tick: MarketTick) -> str:
        text = f',"token":{_value(tick.instrument_token)},"price":{_price(tick.last_price)}'
        text += f',"time":{_time(tick.timestamp)}'
        further = [
            f'"{name}":{_value(value)}' for name in FURTHER if (value := getattr(tick, name)) is not None
        ]
        return f'{text},"more":{{{",".join(further)}}}' if further else text

    def _named(self, outcome: Outcome) -> str:
        if isinstance(outcome, NoSignal) and not outcome.metadata and not outcome.detail:
            key = (outcome.strategy_id, outcome.reason.value)
            text = self._texts.get(key)
            if text is None:
                text = f"{_quoted(outcome.strategy_id)}:{_quoted(outcome.reason.value)}"
                if len(self._texts) < MAX_KEPT_TEXTS:
                    self._texts[key] = text
            return text
        return f"{_quoted(outcome.strategy_id)}:{{{self._outcome(outcome)}}}"

    def _outcome(self, outcome: Outcome) -> str:
        if isinstance(outcome, Signal):
            text = (
                f'"is":"{outcome.signal_type}","quantity":{_value(outcome.quantity)},'
                f'"confidence":{_value(outcome.confidence)},"price":{_quoted(str(outcome.price))}'
            )
        else:
            text = f'"is":"{outcome.reason.value}"'
            if outcome.detail:
                text += f',"detail":{_value(outcome.detail)}'
        return text + self._metadata(outcome.metadata) if outcome.metadata else text

    def _metadata(self, metadata: Mapping[str, Any]) -> str:
        taken: set[str] = set(BY_REQUEST)
        text = ""
        features, probabilities = metadata.get("features"), metadata.get("probabilities")
        row = _row(features)
        if row is not None and _names_model(metadata):
            classes = tuple(probabilities) if isinstance(probabilities, dict) else ()
            number = self._model(metadata, tuple(features or ()), classes)
            text = f',"model":{number},"row":"{row}"'
            taken.update(BY_MODEL, ("features",))
            if isinstance(probabilities, dict):
                values = list(probabilities.values())
                text += f',"probabilities":[{",".join(map(_value, values))}]'
                taken.add("probabilities")
                if metadata.get("probability") == max(values, default=None):
                    taken.add("probability")
        rest = {key: value for key, value in metadata.items() if key not in taken}
        return f'{text},"more":{to_text(rest)}' if rest else text

    def _model(self, metadata: Mapping[str, Any], features: tuple[str, ...], classes: tuple[str, ...]) -> int:
        key = (*(metadata.get(name) for name in BY_MODEL), features, classes)
        number = self._models.get(key)
        if number is None:
            number = self._models[key] = len(self._models)
            named = {name: metadata[name] for name in BY_MODEL[1:] if name in metadata}
            names = {"name": metadata.get("model"), "features": features, "classes": classes}
            body = to_text({"model": number, **names, **named})[:-1].encode("ascii")
            self.named.append(body)
            self._new.append(body)
        return number


def _names_model(metadata: Mapping[str, Any]) -> bool:
    """Whether this is what the runner says of an answer: a processor of a user's own may name anything."""
    model, version, digest, contract_hash, threshold = map(metadata.get, BY_MODEL)
    return (
        type(version) is int
        and isinstance(model, str)
        and isinstance(digest, str)
        and isinstance(contract_hash, str)
        and isinstance(threshold, int | float | Decimal | None)
        and MODEL_NAME.fullmatch(model) is not None
        and all(isinstance(name, str) for name in metadata["features"])
    )


def _row(features: object) -> str | None:
    """Return float32 features as their own bytes, in base64; None for what is not, exactly, float32."""
    if not isinstance(features, dict):
        return None
    values = list(features.values())
    form = f"<{len(values)}f"
    try:
        row = struct.pack(form, *values)
    except (struct.error, TypeError, OverflowError):
        return None
    for value, kept in zip(values, struct.unpack(form, row), strict=True):
        if kept != value and not (math.isnan(kept) and math.isnan(value)):
            return None
    return b64encode(row).decode("ascii")


def _time(timestamp: datetime) -> str:
    text = write_time(timestamp)
    return "null" if text is None else f'"{text}"'


def _price(price: object) -> str:
    # What the edge refused is to be refused again when it is read: text and booleans are no numbers there.
    if type(price) is Decimal:
        return f'"{price}"'
    if isinstance(price, int | float | np.number) and not isinstance(price, bool):
        with suppress(ValueError):  # Python writes no integer of more than 4,300 digits
            return _quoted(str(price))
    return to_text({TEXT: write_text(price)})


def _value(value: Any) -> str:
    """Return what `to_text` does, in a quarter of the time where a value is what it mostly is."""
    kind = type(value)
    if kind is str:
        return _quoted(value)
    if kind is int and abs(value) < SHORT:
        return str(value)
    if kind is float and math.isfinite(value):
        return repr(value)
    if isinstance(value, datetime):
        return _time(value)
    return to_text(value)
