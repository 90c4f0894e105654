"""Values as JSON and back, exactly: decimals, what is not a number, and anything else as text."""

import json
import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

DECIMAL: Final = "$decimal"
FLOAT: Final = "$float"
TEXT: Final = "$text"
MAX_DEPTH: Final = 20
MAX_TEXT: Final = 10_000

_ENCODER: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False)


def to_text(value: object) -> str:
    """Return a value as compact JSON in ASCII, whatever it is."""
    try:
        # Most values are plain, and the encoder in C, which takes tuples too, is ten times as fast as a walk.
        return _ENCODER.encode(value)
    except (TypeError, ValueError, RecursionError):
        return _ENCODER.encode(to_plain(value))


def to_plain(value: Any, depth: int = MAX_DEPTH) -> Any:  # noqa: PLR0911 one for each kind
    """Return a value of nothing but JSON's own kinds; what has no exact form there is named by its kind."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {FLOAT: str(float(value))}
    if isinstance(value, Decimal):
        return {DECIMAL: str(value)}
    if depth and isinstance(value, Mapping):
        return {str(key): to_plain(each, depth - 1) for key, each in value.items()}
    if depth and isinstance(value, list | tuple | set | frozenset):
        return [to_plain(each, depth - 1) for each in value]
    # numpy's numbers and arrays know their Python form.
    if depth and callable(getattr(value, "tolist", None)):
        return to_plain(value.tolist(), depth - 1)
    return {TEXT: _text(value)}


def from_plain(value: Any) -> Any:
    """Return what `to_plain` was given; tuples and sets come back as lists, other kinds as their text."""
    if isinstance(value, dict):
        if len(value) == 1:
            ((key, inner),) = value.items()
            if key == DECIMAL:
                return Decimal(inner)
            if key == FLOAT:
                return float(inner)
            if key == TEXT:
                return inner
        return {key: from_plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [from_plain(each) for each in value]
    return value


def _text(value: object) -> str:
    try:
        return str(value)[:MAX_TEXT]
    except Exception as error:  # noqa: BLE001 a user's object may do anything when it is to become text
        return f"{type(value).__name__} that cannot be shown: {type(error).__name__}"
