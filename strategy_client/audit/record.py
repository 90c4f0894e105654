"""The text of a record as an object: JSON as a log is written, and nothing else that JSON may be."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, Never

# What reads a record walks down it, and so deep a one nobody has written.
MAX_NESTING: Final = 100


def read_record(text: bytes) -> Mapping[str, Any] | None:
    """Return the object that a line holds; None for what is no JSON of ours, or none that is not empty."""
    try:
        record = _DECODER.decode(text.decode("ascii"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or not record:
        return None
    if text.count(b"{") + text.count(b"[") > MAX_NESTING and _is_deep(record):
        return None
    return record


def _unique(members: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    # Of two members of one name a person would read one, and a program the other.
    record = dict(members)
    if len(record) != len(members):
        raise ValueError("two members of one name")
    return record


def _no_number(name: str) -> Never:
    raise ValueError(name)


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_number)


def _is_deep(record: Mapping[str, Any]) -> bool:
    level: list[Any] = [record]
    for _ in range(MAX_NESTING):
        inner = (each.values() if isinstance(each, dict) else each for each in level)
        level = [each for values in inner for each in values if isinstance(each, dict | list)]
    return bool(level)
