"""What a user configures, as plain frozen values, and the one error that says what is wrong with it."""

import difflib
import importlib
import math
import threading
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

# Ten days: what a machine waits for has to be a time that it can count.
MAX_DEADLINE_MS: Final = 864_000_000.0
# Not a user's: ours, and Python's own way to a module.
_NO_PLACES: Final = ("<", str(Path(__file__).parent), str(Path(importlib.__file__).parent))


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: where, as a dotted path of keys (empty: the whole), and what was expected."""

    place: str
    text: str

    def __str__(self) -> str:
        return f"{self.place}: {self.text}" if self.place else self.text


class ConfigurationError(ValueError):
    """Configuration that cannot be used. Its text has one line for each problem."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


class HeldError(OSError):
    """What another process holds or writes: it passes, and nothing of the configuration is wrong."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return " (did you mean 'x'?)" for the nearest known name, or nothing where none is near."""
    folded = {candidate.casefold(): candidate for candidate in known}
    near = difflib.get_close_matches(name.casefold(), folded, n=1)
    return f" (did you mean {folded[near[0]]!r}?)" if near else ""


def import_named(module: str, name: str) -> Any:
    """Return what a user's module calls `name`; ImportError, in one line, whatever stands in the way."""
    try:
        return getattr(importlib.import_module(module), name)
    except (Exception, SystemExit) as error:  # a user's module may do anything while it is imported
        raise ImportError(describe_error(error)) from error


def is_interrupt(error: BaseException) -> bool:
    """Whether this is Ctrl-C, which Python raises in the main thread alone: elsewhere somebody's own."""
    return isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread()


def name_error(error: BaseException) -> str:
    """Return the kind of an error and its text, whatever a user's class makes of being asked for it."""
    try:
        return f"{type(error).__name__}: {error}"
    except BaseException as another:
        if is_interrupt(another):
            raise
        return f"{type(error).__name__}, whose text raises {type(another).__name__}"


def describe_error(error: BaseException) -> str:
    """Return what a user's code raised, on one line, and the last place in that code on the way to it."""
    text = " ".join(name_error(error).split())
    places = [
        f" ({frame.filename}:{frame.lineno})"
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(_NO_PLACES)
    ]
    return text + "".join(places[-1:])


@dataclass(frozen=True, slots=True)
class EmissionConfig:
    """Which of a strategy's signals go out; as it stands, all of them.

    With `edge_trigger` a signal goes out once, and again only when its condition has lapsed in between.
    `cooldown_s` is in seconds of the ticks' own time, from a signal that went out, on each instrument.
    Raises ValueError for a cooldown that is negative or not finite.
    """

    edge_trigger: bool = False
    cooldown_s: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.cooldown_s < math.inf:
            raise ValueError(f"cooldown_s: expected a number from 0, came {self.cooldown_s}")


@dataclass(frozen=True, slots=True)
class StrategyConfig:
    """One strategy, as Alpha Panda's runner takes it.

    `max_position_size` is in units of the instrument; None sets no limit beyond the processor's own.
    `risk_multiplier` scales the quantity of each signal.
    """

    strategy_id: str
    strategy_type: str
    parameters: Mapping[str, Any]
    active_brokers: tuple[str, ...]
    instrument_tokens: tuple[int, ...]
    max_position_size: int | None = None
    risk_multiplier: Decimal = Decimal(1)
    enabled: bool = True
    description: str = ""
    tags: tuple[str, ...] = ()
    emission: EmissionConfig = EmissionConfig()


@dataclass(frozen=True, slots=True)
class TicksConfig:
    """How to read a table of ticks.

    `time`, `price`, `volume` and `symbol` are column names. `token` is a column name, or an integer where
    the whole file is one instrument; None where the token follows from the symbol by `instruments`.
    `timezone` is the IANA zone of times written without one; None refuses such times. `time_format` is a
    `strptime` format, or one of `iso`, `s`, `ms`, `us`, `ns` (numbers since the epoch).
    """

    time: str = "timestamp"
    price: str = "last_price"
    volume: str | None = None
    token: str | int | None = None
    symbol: str | None = None
    timezone: str | None = None
    time_format: str = "iso"
    instruments: Mapping[str, int] = field(default_factory=dict)
