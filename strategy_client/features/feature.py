"""What a feature is, and the catalogue of names."""

import re
from collections.abc import Callable, Mapping
from typing import Final, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from strategy_client.configuration import (
    ConfigurationError,
    Problem,
    describe_error,
    did_you_mean,
    import_named,
)
from strategy_client.features.breakout import BreakoutDown, BreakoutUp
from strategy_client.features.level import HistoryLength, Price, ZScore
from strategy_client.features.returns import MeanAbsReturn, Return, Volatility

# Each n-th tick costs O(n) (see `window`): for this many about two milliseconds.
MAX_WINDOW: Final = 10_000


class FeatureStream(Protocol):
    """A feature of one instrument, a tick at a time."""

    def update(self, price: float) -> None:
        """Take the next price, finite and above 0; O(1) amortised."""
        ...

    def value(self) -> float:
        """Return the value at the last price; NaN while fewer than `Feature.window` prices have come."""
        ...


class Feature(Protocol):
    """A definition with two forms that give the same numbers, to a relative 1e-9 over any length of run."""

    @property
    def window(self) -> int:
        """Ticks that one value looks at, the current one among them."""
        ...

    def stream(self) -> FeatureStream:
        """Start a new series."""
        ...

    def batch(self, prices: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the value at each price, shape (n,); the first `window` - 1 are NaN."""
        ...


# Stem of a name that carries its number of ticks → the definition and the least number it takes.
_WINDOWED: Final[Mapping[str, tuple[Callable[[int], Feature], int]]] = {
    "return": (Return, 2),
    "momentum": (Return, 2),
    "volatility": (Volatility, 3),
    "zscore": (ZScore, 2),
    "breakout_up": (BreakoutUp, 1),
    "breakout_down": (BreakoutDown, 1),
    "mean_abs_return": (MeanAbsReturn, 2),
}
_PLAIN: Final[Mapping[str, Callable[[], Feature]]] = {
    "price": Price,
    "history_length": lambda: HistoryLength(MAX_WINDOW),
}
_NAME: Final = re.compile(r"(?P<stem>[a-z_]+)_(?P<ticks>[0-9]+)")
_DOTTED: Final = re.compile(r"(?P<module>[\w.]+):(?P<attribute>\w+)(?:\((?P<ticks>[0-9]+)\))?")


def feature_by_name(name: str) -> Feature:
    """Return the definition that `name` stands for.

    A name is one of the catalogue with its number of ticks (`zscore_20`), or a user's own class by its path:
    `package.module:Feature`, made without arguments, or `package.module:Feature(20)`, made with 20.
    Raises ConfigurationError, with the nearest name, where there is no such feature.
    """
    if plain := _PLAIN.get(name):
        return plain()
    if dotted := _DOTTED.fullmatch(name):
        return _imported(name, dotted["module"], dotted["attribute"], dotted["ticks"])
    parsed = _NAME.fullmatch(name)
    if parsed is None or parsed["stem"] not in _WINDOWED:
        raise _unknown(name, parsed)
    make, least = _WINDOWED[parsed["stem"]]
    ticks = int(parsed["ticks"])
    if not least <= ticks <= MAX_WINDOW:
        raise ConfigurationError(
            Problem("", f"feature {name!r}: expected a number of ticks from {least} to {MAX_WINDOW}")
        )
    return make(ticks)


def _unknown(name: str, parsed: re.Match[str] | None) -> ConfigurationError:
    ticks = parsed["ticks"] if parsed else "20"
    known = [*_PLAIN, *(f"{stem}_{ticks}" for stem in _WINDOWED)]
    forms = ", ".join([*_PLAIN, *(f"{stem}_{{n}}" for stem in _WINDOWED)])
    return ConfigurationError(
        Problem(
            "", f"unknown feature {name!r}{did_you_mean(name, known)}; known: {forms}, package.module:Class"
        )
    )


def _imported(name: str, module: str, attribute: str, ticks: str | None) -> Feature:
    try:
        make = import_named(module, attribute)
    except ImportError as error:
        raise ConfigurationError(Problem("", f"feature {name!r} cannot be imported: {error}")) from error
    try:
        made = make(int(ticks)) if ticks else make()
    except Exception as error:  # a user's own class that could not be made
        text = f"feature {name!r} cannot be made: {describe_error(error)}"
        raise ConfigurationError(Problem("", text)) from error
    missing = [part for part in ("window", "stream", "batch") if not hasattr(made, part)]
    if missing:
        raise ConfigurationError(
            Problem("", f"feature {name!r} is no feature: it has no {', '.join(missing)}")
        )
    return cast("Feature", made)
