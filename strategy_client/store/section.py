"""One mapping of a document, read key by key; every problem is kept, none stops the reading."""

import math
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from strategy_client.configuration import Problem, did_you_mean
from strategy_client.store.document import Document, Place

T = TypeVar("T")
D = TypeVar("D")


class Kind(Generic[T]):
    """What a value must be: `expected` for a person, `read` raising TypeError or ValueError for any other."""

    def __init__(self, expected: str, read: Callable[[Any], T]) -> None:
        self.expected = expected
        self.read = read


class Section:
    """A mapping at `place`. The keys that were asked for are the ones that are known."""

    def __init__(self, document: Document, place: Place, value: Any, problems: list[Problem]) -> None:
        self._document = document
        self._place = place
        self._problems = problems
        self._asked: list[str] = []
        self._values: Mapping[str, Any] = {}
        if isinstance(value, dict):
            self._values = value
        else:
            self.fault((), f"expected a mapping, came {value!r}")

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def fault(self, place: Place, text: str) -> None:
        """Keep a problem at a place below this mapping."""
        self._problems.append(self._document.problem((*self._place, *place), text))

    def need(self, key: str, kind: Kind[T], otherwise: T) -> T:
        """Return the value of a key that must be there; `otherwise`, with a problem kept, if it is wrong."""
        if key not in self._values:
            self._asked.append(key)
            near = did_you_mean(key, [given for given in self._values if given not in self._asked])
            self.fault((), f"{key!r} is missing{near}: expected {kind.expected}")
            return otherwise
        return self.take(key, kind, otherwise)

    def take(self, key: str, kind: Kind[T], default: D) -> T | D:
        """Return the value of a key; the default where it is absent or, with a problem kept, wrong."""
        self._asked.append(key)
        if key not in self._values:
            return default
        value = self._values[key]
        try:
            return kind.read(value)
        except (TypeError, ValueError, OverflowError):
            self.fault((key,), f"expected {kind.expected}, came {value!r}")
            return default

    def section(self, key: str) -> "Section | None":
        """Return the mapping under a key, None where it is absent or empty."""
        self._asked.append(key)
        value = self._values.get(key)
        if value is None:
            return None
        return Section(self._document, (*self._place, key), value, self._problems)

    def finish(self) -> None:
        """Keep a problem for each key that nothing asked for."""
        for key in self._values:
            if key not in self._asked:
                self.fault(
                    (key,), f"unknown key{did_you_mean(key, self._asked)}; known: {', '.join(self._asked)}"
                )


def read_text(value: object) -> str:
    """Take a text that is not empty."""
    if not isinstance(value, str):
        raise TypeError
    if not value.strip():
        raise ValueError
    return value


def read_flag(value: object) -> bool:
    """Take true or false."""
    if not isinstance(value, bool):
        raise TypeError
    return value


def read_positive_integer(value: object) -> int:
    """Take an integer above 0, or its digits as text."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise TypeError
    number = int(value)
    if number < 1:
        raise ValueError
    return number


def read_positive_number(value: object) -> float:
    """Take a finite number above 0, or its text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError
    number = float(value)
    if not (math.isfinite(number) and number > 0):
        raise ValueError
    return number


def read_list(read: Callable[[Any], T]) -> Callable[[Any], tuple[T, ...]]:
    """Return a reader of a list without repetition, each item as `read` takes it."""

    def read_items(value: object) -> tuple[T, ...]:
        if not isinstance(value, list):
            raise TypeError
        items = tuple(read(item) for item in value)
        if len(set(items)) != len(items):
            raise ValueError
        return items

    return read_items


TEXT = Kind("a text", read_text)
TEXTS = Kind("a list of different texts", read_list(read_text))
FLAG = Kind("true or false", read_flag)
POSITIVE_INTEGER = Kind("an integer above 0", read_positive_integer)
