"""Databases for tests: a SQLite file, and a schema of its own in a PostgreSQL that is there."""

# ruff: noqa: S608 - the names in these statements are ours

import contextlib
import os
import secrets

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from strategy_client.store.table import TABLE, definition

POSTGRESQL = os.environ.get("TICKSERVE_TEST_POSTGRESQL", "postgresql://postgres@127.0.0.1:5432/test")
ROW = {
    "id": "trend",
    "strategy_type": "momentum",
    "instruments": "[256265, 3050241]",
    "parameters": '{"momentum_threshold": "0.01", "lookback_periods": 5}',
    "is_active": True,
    "zerodha_trading_enabled": False,
    "use_composition": True,
}


class Database:
    """A place for `--strategies`, and a way to write into it as another program would."""

    def __init__(self, place, engine):
        self.place = place
        self.engine = engine
        self.is_postgresql = engine.dialect.name == "postgresql"

    def run(self, sql, **values):
        with self.engine.begin() as connection:
            connection.execute(sa.text(sql), values)

    def create_table(self):
        definition.create(self.engine)

    def put(self, **values):
        row = ROW | values
        json = "CAST(:{} AS json)" if self.is_postgresql else ":{}"
        given = [json.format(key) if key in ("instruments", "parameters") else f":{key}" for key in row]
        self.run(f"INSERT INTO {TABLE} ({', '.join(row)}) VALUES ({', '.join(given)})", **row)

    def set(self, strategy_id, column, value):
        if self.is_postgresql and column in ("instruments", "parameters"):
            self.run(
                f"UPDATE {TABLE} SET {column} = CAST(:value AS json) WHERE id = :id",
                value=value,
                id=strategy_id,
            )
        else:
            self.run(f"UPDATE {TABLE} SET {column} = :value WHERE id = :id", value=value, id=strategy_id)

    def delete(self, strategy_id):
        self.run(f"DELETE FROM {TABLE} WHERE id = :id", id=strategy_id)


@contextlib.contextmanager
def sqlite(folder):
    file = folder / "strategies.db"
    engine = sa.create_engine(f"sqlite:///{file}", poolclass=NullPool)
    yield Database(f"sqlite:///{file}", engine)
    engine.dispose()


@contextlib.contextmanager
def postgresql():
    """Skips where none answers: start one, or name it in TICKSERVE_TEST_POSTGRESQL."""
    try:
        psycopg.connect(POSTGRESQL, connect_timeout=10).close()
    except psycopg.OperationalError as error:
        pytest.skip(f"no PostgreSQL at {POSTGRESQL.rpartition('@')[2]}: {error}")
    schema = f"tickserve_{secrets.token_hex(6)}"
    place = f"{POSTGRESQL}?options=-csearch_path%3D{schema}"
    engine = sa.create_engine(place.replace("postgresql:", "postgresql+psycopg:", 1), poolclass=NullPool)
    with psycopg.connect(POSTGRESQL, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {schema}")
    try:
        yield Database(place, engine)
    finally:
        engine.dispose()
        with psycopg.connect(POSTGRESQL, autocommit=True) as connection:
            connection.execute(f"DROP SCHEMA {schema} CASCADE")
