"""Parameters of a processor: declared as the fields of an options dataclass, read from what a user wrote."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from decimal import Decimal
from typing import Any, Final, TypeVar, cast

from strategy_client.configuration import ConfigurationError, Problem, did_you_mean

MAX_POSITION: Final = 1_000_000_000
_DECLARED: Final = "parameter"
OptionsT = TypeVar("OptionsT")


@dataclass(frozen=True, slots=True)
class _Declared:
    """`read` raises TypeError or ValueError for what is not as `expected` says."""

    aliases: tuple[str, ...]
    expected: str
    read: Callable[[Any], Any]


def integer(default: int, *, aliases: tuple[str, ...] = (), least: int, most: int) -> Any:
    """Declare an integer; text like "20" is read too."""

    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise TypeError
        number = int(value)
        if not least <= number <= most:
            raise ValueError
        return number

    return _field(default, aliases, f"an integer from {least} to {most}", read)


def number(
    default: float, *, aliases: tuple[str, ...] = (), expected: str, fits: Callable[[float], bool]
) -> Any:
    """Declare a finite number that `fits`; text like "0.02" is read too."""
    return _field(default, aliases, expected, lambda value: _read_number(value, fits))


def optional_number(*, expected: str, fits: Callable[[float], bool]) -> Any:
    """Declare a finite number that `fits`, or that may be left out."""

    def read(value: object) -> float | None:
        return None if value is None else _read_number(value, fits)

    return _field(None, (), expected, read)


def choice(default: str, choices: Sequence[str]) -> Any:
    """Declare one of a few words."""

    def read(value: object) -> str:
        if not isinstance(value, str) or value not in choices:
            raise ValueError
        return value

    return _field(default, (), " or ".join(choices), read)


def nested(options: type[Any]) -> Any:
    """Declare a mapping that is read into `options`, declared like these, or that may be left out."""

    def read(value: object) -> Any:
        if value is None:
            return None
        if not isinstance(value, Mapping) or not value:
            raise ValueError
        return read_options(options, value)

    known = ", ".join(item.name for item in fields(options))
    return _field(None, (), f"a mapping of {known}", read)


def text(*, aliases: tuple[str, ...] = ()) -> Any:
    """Declare a text that may be left out."""

    def read(value: object) -> str | None:
        if value is not None and (not isinstance(value, str) or not value):
            raise ValueError
        return value

    return _field(None, aliases, "a text", read)


def names(*, expected: str) -> Any:
    """Declare a list of texts that may be left out."""

    def read(value: object) -> tuple[str, ...] | None:
        if value is None:
            return None
        if isinstance(value, str) or not isinstance(value, Sequence) or not value:
            raise ValueError
        if not all(isinstance(item, str) for item in value):
            raise ValueError
        return tuple(value)

    return _field(None, (), expected, read)


def read_options(
    options: type[OptionsT], config: Mapping[str, Any], elsewhere: Mapping[str, str] | None = None
) -> OptionsT:
    """Make `options`, a dataclass whose fields are declared above, from the parameters in `config`.

    `elsewhere` holds names that mean something in another rule, and what to do about each. Raises
    ConfigurationError with a problem for each name that is not known or stands twice under its aliases, and
    each value that does not fit.
    """
    declared = {
        item.name: cast("_Declared", item.metadata[_DECLARED]) for item in fields(cast("Any", options))
    }
    spelled = {name: name for name in declared}
    spelled |= {alias: name for name, parameter in declared.items() for alias in parameter.aliases}
    values: dict[str, Any] = {}
    problems: list[Problem] = []
    for given, value in config.items():
        name = spelled.get(given)
        if elsewhere and given in elsewhere:
            problems.append(Problem(given, elsewhere[given]))
        elif name is None:
            known = ", ".join(declared)
            problems.append(
                Problem(str(given), f"unknown parameter{did_you_mean(str(given), spelled)}; known: {known}")
            )
        elif name in values:
            problems.append(Problem(given, f"stands twice: {given!r} is another name of {name!r}"))
        else:
            try:
                values[name] = declared[name].read(value)
            except ConfigurationError as error:
                values[name] = None
                problems += (Problem(f"{given}.{each.place}", each.text) for each in error.problems)
            except (TypeError, ValueError, OverflowError):
                values[name] = None
                problems.append(Problem(given, f"expected {declared[name].expected}, came {value!r}"))
    if problems:
        raise ConfigurationError(*problems)
    return options(**values)


def _read_number(value: object, fits: Callable[[float], bool]) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        raise TypeError
    number = float(value)
    if not (math.isfinite(number) and fits(number)):
        raise ValueError
    return number


def _field(default: Any, aliases: tuple[str, ...], expected: str, read: Callable[[Any], Any]) -> Any:
    return field(default=default, metadata={_DECLARED: _Declared(aliases, expected, read)})
