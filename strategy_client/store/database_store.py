"""A table of a database as a place that may change at any time."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import sqlalchemy as sa

from strategy_client.configuration import ConfigurationError, Problem
from strategy_client.factory import StrategyFactory
from strategy_client.store.database_url import open_database
from strategy_client.store.look import Look, Origins, first_set, next_set, origins_of
from strategy_client.store.store import StrategySet
from strategy_client.store.strategy import StrategyReader
from strategy_client.store.table import (
    Columns,
    RawRow,
    bound_statements,
    find_columns,
    look_at_rows,
    read_rows,
)

LONGEST_PAUSE_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class DatabaseStoreOptions:
    """`poll_s` is how often the table is read; a database that does not answer is asked ever less often."""

    poll_s: float = 0.5


@dataclass(frozen=True, slots=True)
class _Seen:
    """What one look found: the rows, or why they could not be read."""

    rows: tuple[RawRow, ...] | None
    problems: tuple[Problem, ...] = ()


class DatabaseStore:
    """The table `strategy_configurations`; see `StrategyStore`.

    Read whole each time, for no column tells of every change. A table that is lost, locked or empty changes
    nothing: to stop all strategies is said row by row, with is_active.
    """

    def __init__(
        self,
        place: str,
        factory: StrategyFactory,
        options: DatabaseStoreOptions | None = None,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = open_database(place)
        self._options = options or DatabaseStoreOptions()
        self._clock_s = clock_s
        self._reader = StrategyReader(factory)
        self._columns: Columns | None = None
        self._seen: _Seen | None = None
        self._origins: Origins = {}
        self._next_s = 0.0
        self._pause_s = self._options.poll_s
        self._closed = threading.Event()

    def __repr__(self) -> str:
        seen = self._seen
        state = "not read" if seen is None else "lost" if seen.rows is None else f"{len(seen.rows)} rows"
        return f"<DatabaseStore {self._database.name} {state}>"

    def read(self) -> StrategySet:
        """Return all of them; see `StrategyStore`."""
        self._seen = self._read()
        look, notes = self._look(self._seen)
        now = first_set(look)
        self._origins = origins_of(look, now, {})
        return replace(now, notes=(*notes, *now.notes))

    def read_again(self, before: StrategySet) -> StrategySet:
        """Return what is configured by now; see `StrategyStore`."""
        self._seen = self._read()
        self._reader.forget_wrong()
        try:
            look, notes = self._look(self._seen)
        except ConfigurationError as error:
            return replace(before, problems=error.problems)
        now = next_set(before, look, self._origins)
        self._origins = origins_of(look, now, self._origins)
        return replace(now, notes=(*notes, *now.notes))

    def wait_for_change(self, timeout_s: float) -> bool:
        """Read the table now and then until it is another, or lost, or back; see `StrategyStore`."""
        end_s = self._clock_s() + timeout_s
        while not self._closed.is_set():
            pause_s = self._next_s - self._clock_s()
            if pause_s <= 0:
                if self._read() != self._seen:
                    return True
                continue
            left_s = end_s - self._clock_s()
            if left_s <= 0:
                return False
            self._closed.wait(min(pause_s, left_s))
        return False

    def close(self) -> None:
        """Stop watching; see `StrategyStore`."""
        self._closed.set()
        self._database.engine.dispose()

    def _look(self, seen: _Seen) -> tuple[Look, tuple[Problem, ...]]:
        if seen.rows is None or self._columns is None:
            raise ConfigurationError(*seen.problems)
        return look_at_rows(seen.rows, self._columns, self._database.name, self._reader)

    def _read(self) -> _Seen:
        try:
            with self._database.engine.connect() as connection:
                bound_statements(connection)
                self._columns = self._columns or find_columns(connection, self._database.name)
                seen = _Seen(read_rows(connection, self._columns))
        except ConfigurationError as error:
            seen = _Seen(None, error.problems)
        except sa.exc.SQLAlchemyError as error:
            text = f"cannot be read: {self._database.told(error)}"
            seen = _Seen(None, (Problem(self._database.name, text),))
        if seen.rows is None:
            # It may be another table when it is back.
            self._columns = None
            self._pause_s = min(2 * self._pause_s, max(LONGEST_PAUSE_S, self._options.poll_s))
        else:
            self._pause_s = self._options.poll_s
        self._next_s = self._clock_s() + self._pause_s
        return seen
