"""From a database's URL to an engine that reads it, with bounds on waiting and no password in a text."""

import re
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from strategy_client.configuration import ConfigurationError, Problem, did_you_mean

CONNECT_TIMEOUT_S: Final = 5
# What the server does not acknowledge for so long ends the connection: a cable that was pulled is no answer.
SILENCE_MS: Final = 10_000
HIDDEN: Final = "***"
# Whatever driver a URL names, we read by the one that this package brings.
_DRIVERS: Final = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg", "sqlite": "sqlite"}


@dataclass(frozen=True, slots=True)
class Database:
    """An engine, and the name of its database for a person. `secrets` never go into a text."""

    engine: sa.Engine
    name: str
    secrets: tuple[str, ...] = field(repr=False, default=())

    def told(self, error: BaseException) -> str:
        """Return what went wrong on one line, without the password."""
        cause = getattr(error, "orig", None) or error
        return without(" ".join(str(cause).split()) or type(cause).__name__, self.secrets)


def open_database(place: str, *, create: bool = False) -> Database:
    """Make an engine for `sqlite:///FILE` or `postgresql://…`; nothing is connected yet.

    `create` lets a SQLite file come into being. Raises ConfigurationError.
    """
    kind = re.split(r"[+:]", place, maxsplit=1)[0].casefold()
    if kind not in _DRIVERS:
        near = did_you_mean(kind, _DRIVERS)
        text = f"{kind!r} is no database that we read{near}; expected sqlite:///FILE or postgresql://…"
        raise ConfigurationError(Problem("--strategies", text))
    try:
        url = sa.make_url(place).set(drivername=_DRIVERS[kind])
    except (sa.exc.ArgumentError, ValueError):
        text = "expected a URL as postgresql://USER@HOST:5432/DATABASE or sqlite:///FILE"
        raise ConfigurationError(Problem("--strategies", text)) from None
    if "@" in (url.host or ""):
        # What stands before it is the rest of a password, and would be told as a host.
        text = "expected one @ before the host; in a password it is written %40"
        raise ConfigurationError(Problem("--strategies", text))
    if kind == "sqlite":
        return _sqlite(url, create=create)
    return _postgresql(url)


def without(text: str, secrets: tuple[str, ...]) -> str:
    """Return the text with each secret hidden."""
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    return text


def _sqlite(url: sa.URL, *, create: bool) -> Database:
    if not url.database or url.database == ":memory:" or url.query:
        text = "expected a file, as sqlite:///strategies.db, or with four slashes for a path from the root"
        raise ConfigurationError(Problem("--strategies", text))
    path = Path(url.database).absolute()

    def connect() -> sqlite3.Connection:
        # Without a mode SQLite would make an empty database of a wrong name.
        mode = "rwc" if create else "rw"
        name = f"file:{quote(str(path))}?mode={mode}"
        connection = sqlite3.connect(name, timeout=CONNECT_TIMEOUT_S, uri=True)
        # One cell that is no text is wrong in its row, and not the whole table that cannot be read.
        connection.text_factory = _text
        return connection

    # Nothing is kept open: a file that is replaced by another is found at the next look.
    engine = sa.create_engine("sqlite://", creator=connect, poolclass=NullPool)
    return Database(engine, url.database)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", errors="surrogateescape")


def _postgresql(url: sa.URL) -> Database:
    asked: dict[str, Any] = {
        "connect_timeout": CONNECT_TIMEOUT_S,
        "tcp_user_timeout": SILENCE_MS,
        "application_name": "strategy-client",
    }
    arguments = {key: value for key, value in asked.items() if key not in url.query}
    try:
        engine = sa.create_engine(
            url, connect_args=arguments, pool_size=1, max_overflow=0, pool_pre_ping=True, hide_parameters=True
        )
    except ImportError as error:
        text = f"PostgreSQL needs the database extra, tickserve[database]: {error}"
        raise ConfigurationError(Problem("--strategies", text)) from error
    told = url.query.get("password", ())
    given = [url.password or "", *((told,) if isinstance(told, str) else told)]
    secrets = {form for secret in given if secret for form in (secret, quote(secret, safe=""))}
    shown = url.set(drivername="postgresql", query={}).render_as_string(hide_password=True)
    # The longest first: a short one may be a part of it.
    return Database(engine, shown, tuple(sorted(secrets, key=len, reverse=True)))
