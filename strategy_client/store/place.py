"""From the text that names a place to the store that reads it."""

import re
from pathlib import Path
from typing import Final

from strategy_client.configuration import ConfigurationError, Problem
from strategy_client.factory import StrategyFactory
from strategy_client.store.store import StrategyStore

_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+]+://")
# A URL whose :// is mistyped reads as a path, and its password would be told.
_LOGIN: Final = re.compile(r":.*@", re.DOTALL)


def without_login(place: str) -> str:
    """Return a place that may be a mistyped URL without the password that may be in it."""
    return _LOGIN.sub(":***@", place)


def is_url(place: str) -> bool:
    """Whether a place is the URL of a database rather than a path."""
    return _URL.match(place) is not None


def open_store(place: str, factory: StrategyFactory | None = None) -> StrategyStore:
    """Return the store of a YAML file, a folder of them, or a database's URL; nothing is read yet.

    `factory` tries each strategy's type and parameters out. Raises ConfigurationError for a URL that names no
    database of a kind that we read, or where the extra that it needs is not installed.
    """
    factory = factory or StrategyFactory()
    if not is_url(place) and _LOGIN.search(place) and not Path(place).exists():
        text = f"{without_login(place)!r}: expected a file, a folder, sqlite:///FILE or postgresql://…"
        raise ConfigurationError(Problem("--strategies", text))
    # Each store needs an extra of its own; whoever has one need not have the other.
    try:
        if is_url(place):
            from strategy_client.store.database_store import DatabaseStore  # noqa: PLC0415

            return DatabaseStore(place, factory)
        from strategy_client.store.yaml_store import YamlStore  # noqa: PLC0415

        return YamlStore(Path(place), factory)
    except ImportError as error:
        extra = "the database extra, tickserve[database]" if is_url(place) else "the client extra"
        raise ConfigurationError(Problem("--strategies", f"needs {extra}: {error}")) from error
