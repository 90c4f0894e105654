"""The table `strategy_configurations`: its rows as entries, as Alpha Panda keeps them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from strategy_client.configuration import ConfigurationError, Problem, StrategyConfig, did_you_mean
from strategy_client.store.look import Entry, Look
from strategy_client.store.section import MAX_BYTES, TEXT, Kind, Place, Section, dotted, is_writable
from strategy_client.store.strategy import MAPPING, NAME, TOKENS, StrategyReader

TABLE: Final = "strategy_configurations"
MAX_ROWS: Final = 10_000
STATEMENT_TIMEOUT_MS: Final = 5_000
MAX_DEPTH: Final = 32
NEEDED: Final = ("id", "strategy_type", "instruments", "parameters", "is_active")
OPTIONAL: Final = ("zerodha_trading_enabled", "use_composition")
# Columns that say when, not what.
TIMES: Final = ("created_at", "updated_at")
JSON_COLUMNS: Final = ("instruments", "parameters")

definition: Final = sa.Table(
    TABLE,
    sa.MetaData(),
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("strategy_type", sa.String, nullable=False),
    sa.Column("instruments", sa.JSON, nullable=False),
    sa.Column("parameters", sa.JSON, nullable=False),
    sa.Column("is_active", sa.Boolean, nullable=False, server_default=sa.true()),
    sa.Column("zerodha_trading_enabled", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("use_composition", sa.Boolean, nullable=False, server_default=sa.true()),
    sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.func.now()),
    sa.Column("updated_at", sa.DateTime(timezone=True), onupdate=sa.func.now()),
)

RawRow = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Columns:
    """Which of the columns that we know the table has, and the statement that reads them."""

    names: tuple[str, ...]
    unknown: tuple[str, ...]
    select: sa.Select[Any]


@dataclass(frozen=True, slots=True)
class Row:
    """Where a problem of a row is: the database, the table, the row by its id or number."""

    database: str
    key: str

    def problem(self, place: Place, text: str) -> Problem:
        """Return a problem that names database, table, row, column and the path in its JSON."""
        where = f"{self.database}: {TABLE} row {self.key}"
        return Problem(f"{where}: {dotted(place)}" if place else where, text)


def find_columns(connection: sa.Connection, database: str) -> Columns:
    """Look at the table. Raises ConfigurationError where it or a column that is needed is missing."""
    inspector = sa.inspect(connection)
    if not inspector.has_table(TABLE):
        near = did_you_mean(TABLE, inspector.get_table_names())
        text = f"expected the table {TABLE!r}{near}; `strategy-client create-table` makes it"
        raise ConfigurationError(Problem(database, text))
    found = {column["name"]: column["type"] for column in inspector.get_columns(TABLE)}
    missing = [name for name in NEEDED if name not in found]
    if missing:
        raise ConfigurationError(
            *(
                Problem(f"{database}: {TABLE}", f"expected a column {name!r}{did_you_mean(name, found)}")
                for name in missing
            )
        )
    names = tuple(name for name in (*NEEDED, *OPTIONAL) if name in found)
    unknown = tuple(name for name in found if name not in (*names, *TIMES))
    rows = sa.table(TABLE, *(sa.column(name) for name in names))
    select = sa.select(*(_selected(rows.c[name], found[name]) for name in names))
    return Columns(names, unknown, select.order_by(rows.c.id).limit(MAX_ROWS + 1))


def bound_statements(connection: sa.Connection) -> None:
    """Have the server end what takes too long until the end of the transaction: a lock is not waited for."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text(f"SET LOCAL statement_timeout = {STATEMENT_TIMEOUT_MS}"))


def read_rows(connection: sa.Connection, columns: Columns) -> tuple[RawRow, ...]:
    """Read the whole table in one statement."""
    return tuple(tuple(_hashable(value) for value in row) for row in connection.execute(columns.select))


def look_at_rows(
    rows: Sequence[RawRow], columns: Columns, database: str, reader: StrategyReader
) -> tuple[Look, tuple[Problem, ...]]:
    """Return the look at all rows, and what is noted of the table itself.

    Raises ConfigurationError for a table without a row, or with too many.
    """
    if not 0 < len(rows) <= MAX_ROWS:
        raise ConfigurationError(Problem(f"{database}: {TABLE}", f"expected 1 to {MAX_ROWS} rows"))
    entries = tuple(
        _entry(number, dict(zip(columns.names, row, strict=True)), database, reader)
        for number, row in enumerate(rows, 1)
    )
    text = "means nothing to this runner, nothing reads it"
    notes = tuple(Problem(f"{database}: {TABLE}.{name}", text) for name in columns.unknown)
    return Look(entries), notes


def _entry(number: int, values: Mapping[str, Any], database: str, reader: StrategyReader) -> Entry:
    name = values["id"]
    row = Row(database, repr(name) if isinstance(name, str) else str(number))
    problems: list[Problem] = []
    notes: list[Problem] = []
    decoded = dict(values)
    for column in JSON_COLUMNS:
        try:
            decoded[column] = _decode(values[column])
        except ValueError as error:
            problems.append(row.problem((column,), f"expected JSON: {error}"))
            del decoded[column]
    section = Section(row, (), decoded, problems)
    strategy_id = section.take("id", NAME, "")
    enabled = section.take("is_active", FLAG, None)
    config = StrategyConfig(
        strategy_id=strategy_id,
        strategy_type=section.take("strategy_type", TEXT, ""),
        instrument_tokens=section.take("instruments", TOKENS, ()),
        active_brokers=_brokers(section),
        enabled=enabled is True,
        **reader.read_parameters(section, FILLED).fields(),
    )
    if section.take("use_composition", FLAG, default=True) is False:
        notes.append(
            row.problem(("use_composition",), "means nothing to this runner, which goes by the type")
        )
    reader.try_out(section, config)
    return Entry(
        source=TABLE,
        place=(str(name),),
        strategy_id=strategy_id,
        enabled=enabled,
        config=None if problems else config,
        problems=tuple(problems),
        notes=tuple(notes),
        at=row.problem(("id",), "").place,
    )


def _brokers(section: Section) -> tuple[str, ...]:
    zerodha = section.take("zerodha_trading_enabled", FLAG, default=False)
    return ("paper", "zerodha") if zerodha else ("paper",)


def _read_flag(value: object) -> bool:
    # SQLite has no flags: they are numbers there, or what somebody wrote in quotes.
    if isinstance(value, str) and value.casefold() in ("true", "false"):
        return value.casefold() == "true"
    if not isinstance(value, int) or value not in (0, 1):
        raise TypeError
    return bool(value)


def _read_filled(value: object) -> Mapping[str, Any]:
    if value is None:
        raise TypeError
    return MAPPING.read(value)


FLAG: Final = Kind("true or false", _read_flag)
FILLED: Final = Kind("a mapping, {} for none", _read_filled)


def _selected(column: sa.ColumnClause[Any], kind: Any) -> sa.ColumnElement[Any]:
    if column.name not in JSON_COLUMNS or isinstance(kind, sa.ARRAY):
        return column
    # As text, so that a key that stands twice is seen, and no more of it than we would read.
    return sa.func.substr(sa.cast(column, sa.Text), 1, MAX_BYTES + 1).label(column.name)


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _decode(value: Any) -> Any:
    """Parse JSON; an array of the database's own is a list already. ValueError says what is wrong."""
    if isinstance(value, tuple):
        return list(value)
    if not isinstance(value, str):
        return value
    if len(value) > MAX_BYTES:
        raise ValueError(f"more than {MAX_BYTES} characters")
    if not is_writable(value):
        raise ValueError("it is no text in UTF-8")
    try:
        decoded = json.loads(value, object_pairs_hook=_once, parse_constant=_refuse)
        if _depth(decoded) > MAX_DEPTH:
            raise ValueError(f"nested more than {MAX_DEPTH} deep")
        if "\\u" in value and not is_writable(json.dumps(decoded, ensure_ascii=False)):
            raise ValueError("it holds half a surrogate pair, which is no character")
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} in line {error.lineno}, column {error.colno}") from error
    except RecursionError as error:
        raise ValueError(f"nested more than {MAX_DEPTH} deep") from error
    return decoded


def _depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max((_depth(item) for item in inner), default=0) if isinstance(value, dict | list) else 0


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in pairs:
        if key in values:
            raise ValueError(f"the key {key!r} stands twice")
        values[key] = value
    return values


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no number in JSON")
