"""One mapping of a document, read key by key; every problem is kept, none stops the reading."""

import datetime as dt
import math
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final, Generic, Protocol, TypeVar

from strategy_client.configuration import Problem, did_you_mean

T = TypeVar("T")
D = TypeVar("D")
Place = tuple[str | int, ...]
# Of what stands in a file, or in one value of a table.
MAX_BYTES: Final = 1_048_576
MAX_SHOWN: Final = 200
_HALF_A_PAIR: Final = re.compile("[\ud800-\udfff]")


class Origin(Protocol):
    """What a value was read from: a YAML file, a row of a table."""

    def problem(self, place: Place, text: str) -> Problem:
        """Return a problem at a place in it, named so that a person finds it."""
        ...


class ItemError(ValueError):
    """One item of a list is not as expected."""

    def __init__(self, index: int, text: str) -> None:
        super().__init__(text)
        self.index = index
        self.text = text


class Kind(Generic[T]):
    """What a value must be: `expected` for a person, `read` raising TypeError or ValueError for any other."""

    def __init__(self, expected: str, read: Callable[[Any], T]) -> None:
        self.expected = expected
        self.read = read


class Section:
    """A mapping at `place`. The keys that were asked for are the ones that are known."""

    def __init__(self, origin: Origin, place: Place, value: Any, problems: list[Problem]) -> None:
        self._origin = origin
        self._place = place
        self._problems = problems
        self._asked: list[str] = []
        self._values: Mapping[str, Any] = {}
        if isinstance(value, dict):
            self._values = value
        else:
            self.fault((), f"expected a mapping, came {shown(value)}")

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def problem(self, place: Place, text: str) -> Problem:
        """Return a problem at a place below this mapping."""
        return self._origin.problem((*self._place, *place), text)

    def fault(self, place: Place, text: str) -> None:
        """Keep a problem at a place below this mapping."""
        self._problems.append(self.problem(place, text))

    def need(self, key: str, kind: Kind[T], otherwise: D) -> T | D:
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
        except ItemError as error:
            self.fault((key, error.index), error.text)
        except (TypeError, ValueError, OverflowError, ArithmeticError):
            self.fault((key,), f"expected {kind.expected}, came {shown(value)}")
        return default

    def flag(self, key: str, *, default: bool) -> bool | None:
        """Return what a flag says; None where that cannot be read."""
        value = self._values.get(key, default)
        return value if isinstance(value, bool) else None

    def section(self, key: str) -> "Section | None":
        """Return the mapping under a key, None where it is absent or empty."""
        self._asked.append(key)
        value = self._values.get(key)
        if value is None:
            return None
        return Section(self._origin, (*self._place, key), value, self._problems)

    def below(self, key: str, value: Mapping[str, Any]) -> "Section":
        """Return a reader of a mapping that was taken from under a key; it need not be read to its end."""
        return Section(self._origin, (*self._place, key), value, self._problems)

    def finish(self) -> None:
        """Keep a problem for each key that nothing asked for."""
        for key in self._values:
            if key not in self._asked:
                self.fault(
                    (key,), f"unknown key{did_you_mean(key, self._asked)}; known: {', '.join(self._asked)}"
                )


def dotted(place: Place) -> str:
    """Return a place as a person writes it, on one line: a.b[0]."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{_key(part)}" for part in place)
    return text.removeprefix(".")


def _key(key: str) -> str:
    # A key is anybody's text: it must not end the line, nor speak to the terminal.
    text = key if key.isprintable() else repr(key)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def is_writable(text: str) -> bool:
    """Whether a file or a message can hold a text: half a surrogate pair is no character."""
    return _HALF_A_PAIR.search(text) is None


def shown(value: object) -> str:
    """Return what came, for a person: short, and with what YAML makes of a text without quotes."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return f"{str(value).lower()} (yes, no, on and off are flags in YAML; a text stands in quotes)"
    if isinstance(value, dt.date):
        return f"the date {value.isoformat()} (a text stands in quotes)"
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


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


def read_whole_number(value: object) -> int:
    """Take a number above 0 without a fraction, be it written 500, 500.0 or "500"."""
    number = read_decimal(value)
    if number != number.to_integral_value():
        raise ValueError
    return int(number)


def read_decimal(value: object) -> Decimal:
    """Take a finite number above 0, or its text, without what a float would make of it."""
    if not isinstance(value, int | float | str):
        raise TypeError
    number = Decimal(str(value))  # a flag's text is no number
    # A number that no float holds has no place in a quantity or a limit.
    if not (number.is_finite() and math.isfinite(float(number)) and float(number) > 0):
        raise ValueError
    return number


def read_seconds(value: object) -> float:
    """Take a finite number from 0, or its text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError
    number = float(value)
    if not 0 <= number < math.inf:
        raise ValueError
    return number


def read_list(read: Callable[[Any], T], expected: str) -> Callable[[Any], tuple[T, ...]]:
    """Return a reader of a list without repetition, each item as `read` takes it and `expected` says."""

    def read_items(value: object) -> tuple[T, ...]:
        if not isinstance(value, list):
            raise TypeError
        items: dict[T, int] = {}
        for index, item in enumerate(value):
            try:
                taken = read(item)
            except (TypeError, ValueError, OverflowError) as error:
                raise ItemError(index, f"expected {expected}, came {shown(item)}") from error
            if items.setdefault(taken, index) != index:
                raise ItemError(index, f"expected each once, came {item!r} again")
        return tuple(items)

    return read_items


def read_some(read: Callable[[Any], tuple[T, ...]]) -> Callable[[Any], tuple[T, ...]]:
    """Return a reader of a list that is not empty."""

    def read_items(value: object) -> tuple[T, ...]:
        items = read(value)
        if not items:
            raise ValueError
        return items

    return read_items


TEXT = Kind("a text", read_text)
TEXTS = Kind("a list of different texts", read_list(read_text, "a text"))
FLAG = Kind("true or false", read_flag)
