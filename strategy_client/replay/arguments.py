"""What `open_replay` is called with: no type checker has seen what a notebook gives."""

import operator
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from strategy_client.configuration import MAX_DEADLINE_MS, ConfigurationError, Problem
from strategy_client.factory import StrategyFactory
from strategy_client.predictor.security import Security

MAX_WINDOW_TICKS: Final = 1_000
# The least and the greatest.
COUNTS: Final = {"skip": (0, sys.maxsize), "limit": (1, sys.maxsize), "window": (1, MAX_WINDOW_TICKS)}
OPTIONAL: Final = frozenset({"limit", "window"})
WHO_ANSWERS: Final = ("models", "target", "predictor")


def check_arguments(**given: Any) -> None:
    """Raise ConfigurationError with a problem for each argument that is of no use, by its name."""
    problems = list(_find_problems(given))
    if problems:
        raise ConfigurationError(*problems)


def _find_problems(given: Mapping[str, Any]) -> Iterator[Problem]:
    several = [name for name in WHO_ANSWERS if given[name] is not None]
    if len(several) > 1:
        yield Problem(several[1], f"expected one of {', '.join(WHO_ANSWERS)}, came {' and '.join(several)}")
    for name, (least, most) in COUNTS.items():
        if not (given[name] is None and name in OPTIONAL) and not _is_count(given[name], least, most):
            yield Problem(name, f"expected an integer from {least} to {most}, came {_shown(given[name])}")
    deadline_ms = given["deadline_ms"]
    if not _is_time(deadline_ms):
        text = f"expected more than 0, {MAX_DEADLINE_MS:.0f} at most, came {_shown(deadline_ms)}"
        yield Problem("deadline_ms", text)
    kinds = {
        "models": (_is_path, "a folder of models"),
        "target": (_is_target, "an address, or a list of at least one"),
        "predictor": (_is_predictor, "an InferenceClient, or what has its `submit` and its `describe`"),
        "security": (lambda value: isinstance(value, Security), "a Security"),
        "factory": (lambda value: isinstance(value, StrategyFactory), "a StrategyFactory"),
    }
    for name, (fits, expected) in kinds.items():
        if given[name] is not None and not fits(given[name]):
            yield Problem(name, f"expected {expected}, came {_shown(given[name])}")


def _is_count(value: object, least: int, most: int) -> bool:
    # numpy's integers are as good as Python's, and a flag is neither's.
    try:
        return not isinstance(value, bool) and least <= operator.index(value) <= most  # type: ignore[arg-type]
    except TypeError:
        return False


def _is_time(value: Any) -> bool:
    try:
        return not isinstance(value, bool | str) and 0 < float(value) <= MAX_DEADLINE_MS
    except (TypeError, ValueError, OverflowError):
        return False


def _is_path(value: object) -> bool:
    return isinstance(value, str | os.PathLike)


def _is_target(value: object) -> bool:
    if isinstance(value, str):
        return True
    return isinstance(value, Sequence) and len(value) > 0 and all(isinstance(each, str) for each in value)


def _is_predictor(value: object) -> bool:
    methods = (getattr(value, name, None) for name in ("submit", "describe"))
    return not isinstance(value, type) and all(map(callable, methods))


def _shown(value: object) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__}"
    plain = value is None or isinstance(value, bool | int | float | complex | str | bytes | list | tuple)
    return repr(value)[:100] if plain else type(value).__name__
