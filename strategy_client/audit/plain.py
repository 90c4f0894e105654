"""Values as JSON and back, exactly: decimals, what is not a number, and anything else as text."""

import json
import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from strategy_client.configuration import is_interrupt

DECIMAL: Final = "$decimal"
FLOAT: Final = "$float"
TEXT: Final = "$text"
MAX_DEPTH: Final = 20
# Well within what `record` reads, and beyond what `to_plain` leaves.
MAX_READ_DEPTH: Final = 50
MAX_TEXT: Final = 10_000

_ENCODER: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False)


def to_text(value: object) -> str:
    """Return a value as compact JSON in ASCII, whatever it is."""
    # Most values are plain, and the encoder in C, which takes tuples too, is ten times as fast as `to_plain`.
    try:
        if _can_be_read(value, MAX_READ_DEPTH):
            return _ENCODER.encode(value)
    except BaseException as error:
        # What is no JSON, and whatever a user's class raises that is asked for what it holds.
        if is_interrupt(error):
            raise
    return _ENCODER.encode(to_plain(value))


def _can_be_read(value: object, depth: int) -> bool:
    # Of keys that are no text two may have one name, and no reader walks down without end.
    if isinstance(value, dict):
        if not all(type(key) is str for key in value):
            return False
        value = list(value.values())
    if not isinstance(value, list | tuple):
        return True
    return depth > 0 and all(
        _can_be_read(each, depth - 1) for each in value if isinstance(each, dict | list | tuple)
    )


def to_plain(value: Any, depth: int = MAX_DEPTH) -> Any:
    """Return a value of nothing but JSON's own kinds; what has no exact form there is named by its kind."""
    try:
        return _converted(value, depth)
    except BaseException as error:
        if is_interrupt(error):
            raise
        return {TEXT: _unshown(value, error)}


def write_text(value: object) -> str:
    """Return a value's own text, not longer than `MAX_TEXT`; of one that has none, what it raises."""
    try:
        return str(value)[:MAX_TEXT]
    except BaseException as error:
        # A user's object may do anything when it is to become text.
        if is_interrupt(error):
            raise
        return _unshown(value, error)


def _converted(value: Any, depth: int) -> Any:  # noqa: PLR0911 one for each kind
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, int):
        # Python writes none of some thousand digits, and json would end with that.
        return int(str(int(value)))
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {FLOAT: str(float(value))}
    if isinstance(value, Decimal):
        return {DECIMAL: str(value)}
    if depth and isinstance(value, Mapping):
        return {_key(key): to_plain(each, depth - 1) for key, each in value.items()}
    if depth and isinstance(value, list | tuple | set | frozenset):
        return [to_plain(each, depth - 1) for each in value]
    # numpy's numbers and arrays know their Python form.
    if depth and callable(getattr(value, "tolist", None)):
        return to_plain(value.tolist(), depth - 1)
    return {TEXT: write_text(value)}


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


def _key(key: object) -> str:
    return key if isinstance(key, str) else write_text(key)


def _unshown(value: object, error: BaseException) -> str:
    return f"{type(value).__name__} that cannot be shown: {type(error).__name__}"
