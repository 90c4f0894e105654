"""Tables that are not what anybody meant: a wrong cell is one line, no lock is waited for."""

# ruff: noqa: S608 - the names in these statements are ours

import sqlite3

import pytest
import sqlalchemy as sa
import typer
from databases import ROW, postgresql, sqlite
from typer.testing import CliRunner

from strategy_client.commands.create_table import create_table
from strategy_client.configuration import ConfigurationError
from strategy_client.factory import StrategyFactory
from strategy_client.store import open_store
from strategy_client.store.database_store import DatabaseStore
from strategy_client.store.table import MAX_ROWS, TABLE, definition


def problems(place):
    store = open_store(place)
    with pytest.raises(ConfigurationError) as caught:
        store.read()
    store.close()
    return [str(problem).rpartition(f"{TABLE} ")[2] for problem in caught.value.problems]


@pytest.fixture
def table(tmp_path):
    """A SQLite file with the table in it, and two strategies."""
    with sqlite(tmp_path) as database:
        database.create_table()
        database.put()
        database.put(id="wrong")
        yield database


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("id", "x'ff'", "row '\\udcff': id: expected a text, came '\\udcff'"),
        ("strategy_type", "x'ff'", "row 'wrong': strategy_type: unknown strategy type '\\udcff'"),
        ("parameters", "x'7bff7d'", "row 'wrong': parameters: expected JSON: it is no text in UTF-8"),
        ("instruments", "x'5bff5d'", "row 'wrong': instruments: expected JSON: it is no text in UTF-8"),
    ],
    ids=["id", "type", "parameters", "instruments"],
)
def test_bytes_that_are_no_text_are_wrong_in_their_row(table, column, value, said):
    """H9: SQLite keeps any bytes as text; one such cell is told by its row, and the others are read."""
    table.run(f"UPDATE {TABLE} SET {column} = CAST({value} AS TEXT) WHERE id = 'wrong'")
    (line,) = problems(table.place)
    assert line.startswith(said)


def test_a_stop_is_heard_beside_bytes_that_are_no_text(table):
    """A strategy stops where its row says so, whatever another program has written into another row."""
    store = DatabaseStore(table.place, StrategyFactory())
    before = store.read()
    table.run(f"UPDATE {TABLE} SET parameters = CAST(x'ff' AS TEXT) WHERE id = 'wrong'")
    table.set("trend", "is_active", value=False)
    now = store.read_again(before)
    store.close()
    assert {each.strategy_id: each.enabled for each in now.strategies} == {"trend": False, "wrong": True}


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ('{"a": "\\ud800"}', "parameters: expected JSON: it holds half a surrogate pair"),
        ('{"\\uD800": 1}', "parameters: expected JSON: it holds half a surrogate pair"),
        ('{"a\\nb\\u001b[31m": 1}', "parameters.'a\\nb\\x1b[31m': unknown parameter"),
        ('{"lookback_periods": ' + "9" * 5000 + "}", "parameters: expected JSON: Exceeds the limit"),
        (
            '{"momentum_threshold": 1e400}',
            "parameters.momentum_threshold: expected a number above 0, came inf",
        ),
        ("", "parameters: expected JSON: Expecting value in line 1, column 1"),
    ],
    ids=["half a pair", "half a pair as key", "key of two lines", "long number", "large number", "nothing"],
)
def test_json_that_would_break_a_message_or_a_record(table, parameters, said):
    """H9: what no record can hold is refused, and each thing is one line."""
    table.set("wrong", "parameters", parameters)
    (line,) = problems(table.place)
    assert line.startswith(f"row 'wrong': {said}")
    assert "\n" not in line


def test_a_pair_that_is_whole_is_a_character(table):
    """JSON of a program that writes every character as an escape is read; the type says what it knows."""
    table.set("wrong", "parameters", '{"\\ud83d\\ude00": 1}')
    (line,) = problems(table.place)
    assert line.startswith("row 'wrong': parameters.😀: unknown parameter")


@pytest.mark.parametrize(
    ("fill", "said"),
    [
        (lambda file: file.mkdir(), "cannot be read: unable to open database file"),
        (lambda file: file.symlink_to(file.name), "cannot be read: unable to open database file"),
        (lambda file: file.write_text("x" * 5000), "cannot be read: file is not a database"),
        (lambda file: file.write_text(""), "expected the table 'strategy_configurations'"),
    ],
    ids=["folder", "loop", "text", "empty"],
)
def test_a_file_that_is_no_database(tmp_path, fill, said):
    """H9: what stands where a database should is told by its name."""
    fill(tmp_path / "s.db")
    (line,) = problems(f"sqlite:///{tmp_path / 's.db'}")
    assert line.startswith(f"{tmp_path / 's.db'}: {said}")


def test_a_locked_file_is_told(table, monkeypatch):
    """A SQLite file that another program holds changes nothing, and is read when it is free."""
    monkeypatch.setattr("strategy_client.store.database_url.CONNECT_TIMEOUT_S", 0.05)
    store = DatabaseStore(table.place, StrategyFactory())
    before = store.read()
    other = sqlite3.connect(table.place.removeprefix("sqlite:///"), isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    now = store.read_again(before)
    assert (now.strategies, "database is locked" in str(now.problems)) == (before.strategies, True)
    other.execute("ROLLBACK")
    other.close()
    assert store.read_again(now).problems == ()
    store.close()


def test_a_table_that_is_locked_at_the_start_is_told(monkeypatch):
    """A PostgreSQL table under a migration is not waited for either, while its columns are looked at."""
    monkeypatch.setattr("strategy_client.store.table.STATEMENT_TIMEOUT_MS", 100)
    with postgresql() as database:
        database.create_table()
        database.put()
        with database.engine.connect() as other:
            other.exec_driver_sql(f"LOCK TABLE {TABLE} IN ACCESS EXCLUSIVE MODE")
            store = open_store(database.place)
            with pytest.raises(ConfigurationError, match="statement timeout"):
                store.read()
            store.close()


def test_a_view_with_a_name_that_stands_twice(tmp_path):
    """H9: a view is a table like any other, and a name that stands twice in it is told once."""
    with sqlite(tmp_path) as database:
        database.run("CREATE TABLE t (id, strategy_type, instruments, parameters, is_active)")
        database.run(f"CREATE VIEW {TABLE} AS SELECT * FROM t")
        for _ in range(2):
            database.run("INSERT INTO t VALUES ('a', 'momentum', '[1]', '{}', 1)")
        (line,) = problems(database.place)
    assert line.startswith("row 'a': id")


@pytest.mark.parametrize("rows", [MAX_ROWS, MAX_ROWS + 1])
def test_many_rows(tmp_path, rows):
    """Ten thousand rows are read, and one more is refused."""
    with sqlite(tmp_path) as database:
        database.create_table()
        row = ROW | {"instruments": [1], "parameters": {}}
        with database.engine.begin() as connection:
            many = [row | {"id": f"{number:05}"} for number in range(rows)]
            connection.execute(sa.insert(definition), many)
        store = open_store(database.place)
        if rows > MAX_ROWS:
            with pytest.raises(ConfigurationError, match="expected 1 to 10000 rows"):
                store.read()
        else:
            assert len(store.read().strategies) == MAX_ROWS
        store.close()


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("postgresql://user:one@s3cret@127.0.0.1/test", "expected one @ before the host"),
        (
            "postgresql:/user:s3cret@127.0.0.1/test",
            "expected a URL as sqlite:///strategies.db, came 'postgresql:***",
        ),
        (
            "user:s3cret@127.0.0.1/test",
            "expected a URL as sqlite:///strategies.db, came 'user:***@127.0.0.1/test'",
        ),
    ],
    ids=["two ats", "one slash", "no kind"],
)
def test_a_password_in_a_mistyped_url_is_never_told(place, said):
    """Whatever is mistyped in a URL, neither a new table nor a look tells the password or a part."""
    app = typer.Typer()
    app.command()(create_table)
    done = CliRunner().invoke(app, [place])
    assert done.exit_code == 2
    assert said in done.stderr
    with pytest.raises(ConfigurationError) as caught:
        open_store(place).read()
    assert "s3cret" not in done.output + str(caught.value)


def test_a_user_with_an_at_in_the_name():
    """A user's name may hold an @: it is before the password, and is no secret."""
    with pytest.raises(ConfigurationError) as caught:
        open_store("postgresql://user@corp:s3cret@127.0.0.1:1/test").read()
    assert str(caught.value).startswith("postgresql://user%40corp:***@127.0.0.1:1/test: cannot be read: ")
