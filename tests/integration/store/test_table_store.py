"""Strategies from a database table, in SQLite and in a real PostgreSQL."""

# ruff: noqa: S608 - the names in these statements are ours

import contextlib
import re
import threading
from decimal import Decimal

import pytest
from databases import ROW, postgresql, sqlite

from strategy_client.configuration import ConfigurationError, EmissionConfig, StrategyConfig
from strategy_client.factory import StrategyFactory
from strategy_client.store import open_store
from strategy_client.store.database_store import DatabaseStore, DatabaseStoreOptions
from strategy_client.store.database_url import open_database
from strategy_client.store.section import MAX_BYTES
from strategy_client.store.table import TABLE

WAIT_S = 60.0


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request, tmp_path):
    """An empty database of each kind."""
    with sqlite(tmp_path) if request.param == "sqlite" else postgresql() as made:
        yield made


@pytest.fixture
def table(database):
    """A database with the table in it, and one strategy."""
    database.create_table()
    database.put()
    return database


@contextlib.contextmanager
def opened(database, **options):
    store = DatabaseStore(
        database.place, StrategyFactory(), DatabaseStoreOptions(**({"poll_s": 0.01} | options))
    )
    try:
        yield store
    finally:
        store.close()


def read(database):
    store = open_store(database.place)
    try:
        return store.read()
    finally:
        store.close()


def problems(database):
    with pytest.raises(ConfigurationError) as caught:
        read(database)
    return [str(problem).rpartition(f"{TABLE} ")[2] for problem in caught.value.problems]


def test_a_row_is_a_strategy(table):
    """A row of Alpha Panda's table is one strategy, every value typed, its broker paper."""
    assert read(table).strategies == (
        StrategyConfig(
            strategy_id="trend",
            strategy_type="momentum",
            parameters={"momentum_threshold": "0.01", "lookback_periods": 5},
            active_brokers=("paper",),
            instrument_tokens=(256265, 3050241),
        ),
    )


def test_zerodha_comes_beside_paper(table):
    """Paper always, zerodha too where it is enabled."""
    table.set("trend", "zerodha_trading_enabled", value=True)
    assert read(table).strategies[0].active_brokers == ("paper", "zerodha")


def test_rows_come_in_the_order_of_their_ids(table):
    """The order of the strategies does not hang on that of the inserts."""
    table.put(id="a")
    table.put(id="z")
    assert [each.strategy_id for each in read(table).strategies] == ["a", "trend", "z"]


def test_what_a_table_has_no_column_for_stands_under_parameters(table):
    """Rules of emission and risk limits stand in the JSON, and the processor never sees them."""
    table.set(
        "trend",
        "parameters",
        '{"lookback_periods": 5, "emission": {"edge_trigger": true, "cooldown_s": 60},'
        ' "risk_limits": {"max_position_size": 500.0, "risk_multiplier": "0.5"}}',
    )
    (strategy,) = read(table).strategies
    assert strategy.parameters == {"lookback_periods": 5}
    assert strategy.emission == EmissionConfig(edge_trigger=True, cooldown_s=60.0)
    assert (strategy.max_position_size, strategy.risk_multiplier) == (500, Decimal("0.5"))


@pytest.mark.parametrize("kind", ["jsonb", "text"])
def test_json_of_another_type(kind):
    """JSON may be kept as jsonb or as text."""
    with postgresql() as database:
        database.create_table()
        database.put()
        for column in ("instruments", "parameters"):
            database.run(f"ALTER TABLE {TABLE} ALTER {column} TYPE {kind} USING {column}::{kind}")
        assert read(database).strategies[0].instrument_tokens == (256265, 3050241)
        assert read(database).strategies[0].parameters["lookback_periods"] == 5


def test_an_array_of_integers():
    """Instruments may be an array of the database's own."""
    with postgresql() as database:
        database.run(
            f"CREATE TABLE {TABLE} (id text PRIMARY KEY, strategy_type text, instruments integer[],"
            " parameters jsonb, is_active boolean)"
        )
        database.run(f"INSERT INTO {TABLE} VALUES ('a', 'momentum', '{{7,8}}', '{{}}', true)")
        (strategy,) = read(database).strategies
        assert (strategy.instrument_tokens, strategy.active_brokers) == ((7, 8), ("paper",))
        database.run(f"UPDATE {TABLE} SET instruments = '{{7,NULL}}'")
        assert problems(database) == [
            "row 'a': instruments[1]: expected an instrument token, an integer above 0, came nothing (null)"
        ]


WRONG = [
    ("id", "", "row '': id: expected a text, came ''"),
    ("id", " a", "row ' a': id: expected a text, came ' a'"),
    (
        "strategy_type",
        "momentun",
        "row 'trend': strategy_type: unknown strategy type 'momentun' (did you mean 'momentum'?)",
    ),
    ("instruments", "[]", "row 'trend': instruments: expected a list of different instrument tokens"),
    ("instruments", "{}", "row 'trend': instruments: expected a list of different instrument tokens"),
    ("instruments", "null", "row 'trend': instruments: expected a list of different instrument tokens"),
    ("instruments", '"[1]"', "row 'trend': instruments: expected a list of different instrument tokens"),
    ("instruments", "[1, 1]", "row 'trend': instruments[1]: expected each once, came 1 again"),
    ("instruments", "[1.5]", "row 'trend': instruments[0]: expected an instrument token, an integer above 0"),
    (
        "instruments",
        "[true]",
        "row 'trend': instruments[0]: expected an instrument token, an integer above 0",
    ),
    ("parameters", "null", "row 'trend': parameters: expected a mapping, {} for none, came nothing (null)"),
    ("parameters", "[1]", "row 'trend': parameters: expected a mapping, {} for none, came [1]"),
    (
        "parameters",
        '{"lookbak_periods": 5}',
        "row 'trend': parameters.lookbak_periods: unknown parameter (did you mean 'lookback_periods'?)",
    ),
    (
        "parameters",
        '{"lookback_periods": 1}',
        "row 'trend': parameters.lookback_periods: expected an integer from 2 to 10000, came 1",
    ),
    (
        "parameters",
        '{"lookback_periods": 5, "lookback_periods": 6}',
        "row 'trend': parameters: expected JSON: the key 'lookback_periods' stands twice",
    ),
    (
        "parameters",
        '{"emission": {"edge_triger": true}}',
        "row 'trend': parameters.emission.edge_triger: unknown key (did you mean 'edge_trigger'?)",
    ),
    (
        "parameters",
        '{"emission": {"cooldown_s": -1}}',
        "row 'trend': parameters.emission.cooldown_s: expected a number of seconds, 0 or more, came -1",
    ),
    (
        "parameters",
        '{"risk_limits": {"max_position_size": 0.5}}',
        "row 'trend': parameters.risk_limits.max_position_size: expected a whole number above 0, came 0.5",
    ),
    (
        "parameters",
        '{"a": ' + "[" * 40 + "]" * 40 + "}",
        "row 'trend': parameters: expected JSON: nested more than 32 deep",
    ),
    (
        "parameters",
        '{"a": "' + "x" * MAX_BYTES + '"}',
        f"row 'trend': parameters: expected JSON: more than {MAX_BYTES} characters",
    ),
]


@pytest.mark.parametrize(("column", "value", "said"), WRONG, ids=[f"{c}-{s[-40:]}" for c, _, s in WRONG])
def test_each_wrong_field_names_row_column_and_path(table, column, value, said):
    """H9: a wrong value is told with database, table, row, column, path in the JSON, and the nearest name."""
    table.set("trend", column, value)
    told = problems(table)
    assert any(line.startswith(said) for line in told), told
    with pytest.raises(ConfigurationError, match=rf"(strategies\.db|postgresql://.*): {TABLE} row "):
        read(table)


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("instruments", "[1", "instruments: expected JSON: Expecting ',' delimiter in line 1, column 3"),
        ("instruments", "NaN", "instruments: expected JSON: NaN is no number in JSON"),
        ("parameters", "{'a': 1}", "parameters: expected JSON: Expecting property name enclosed in double"),
        ("parameters", "[" * 100_000, "parameters: expected JSON: nested more than 32 deep"),
        ("is_active", "maybe", "is_active: expected true or false, came 'maybe'"),
        ("is_active", 2, "is_active: expected true or false, came 2"),
        ("zerodha_trading_enabled", "yes", "zerodha_trading_enabled: expected true or false, came 'yes'"),
        ("use_composition", 7, "use_composition: expected true or false, came 7"),
        ("strategy_type", 7, "strategy_type: unknown strategy type '7'"),
    ],
)
def test_what_sqlite_lets_in(tmp_path, column, value, said):
    """H9: SQLite keeps anything in any column; it is told like all else."""
    with sqlite(tmp_path) as database:
        database.create_table()
        database.put()
        database.set("trend", column, value)
        told = problems(database)
        assert any(line.startswith(f"row 'trend': {said}") for line in told), told


@pytest.mark.parametrize("column", ["strategy_type", "instruments", "parameters", "is_active", "id"])
def test_a_null(tmp_path, column):
    """H9: NULL is told by its column; a row without an id by its number."""
    with sqlite(tmp_path) as database:
        database.run(
            f"CREATE TABLE {TABLE} (id text, strategy_type text, instruments text, parameters text,"
            " is_active boolean, zerodha_trading_enabled boolean, use_composition boolean)"
        )
        database.put()
        database.run(f"UPDATE {TABLE} SET {column} = NULL")
        row = "1" if column == "id" else "'trend'"
        told = problems(database)
        assert any(
            re.match(rf"row {row}: {column}: expected .*, came nothing \(null\)", line) for line in told
        )


@pytest.mark.parametrize("written", ["true", "TRUE", 1])
def test_flags_as_sqlite_keeps_them(tmp_path, written):
    """A flag of SQLite is a number or a word."""
    with sqlite(tmp_path) as database:
        database.create_table()
        database.put(is_active=written)
        assert read(database).strategies[0].enabled


def test_a_disabled_row_stops_no_start(table):
    """What is asleep and wrong is left out and told; Alpha Panda's runner passes over it as well."""
    table.put(id="old", strategy_type="SimpleMomentumStrategy", is_active=False)
    now = read(table)
    assert [each.strategy_id for each in now.strategies] == ["trend"]
    assert [problem.place.rpartition(" row ")[2] for problem in now.problems] == ["'old': strategy_type"]


def test_what_means_nothing_is_noted(table):
    """A column that nothing reads, and the flag of the older architecture, are taken with a note."""
    table.run(f"ALTER TABLE {TABLE} ADD COLUMN live_trading_enabled boolean")
    table.set("trend", "use_composition", value=False)
    notes = [problem.place.rpartition(TABLE)[2] for problem in read(table).notes]
    assert notes == [".live_trading_enabled", " row 'trend': use_composition"]


def test_a_table_that_is_not_there(database):
    """H9: a missing table is told with the nearest name, and what makes it."""
    database.run("CREATE TABLE strategy_configuration (id text)")
    with pytest.raises(
        ConfigurationError, match=r"expected the table .* \(did you mean 'strategy_configuration'"
    ):
        read(database)


def test_a_column_that_is_not_there(table):
    """H9: a missing column is told with the nearest name."""
    table.run(f"ALTER TABLE {TABLE} RENAME COLUMN is_active TO active")
    with pytest.raises(
        ConfigurationError, match=r"expected a column 'is_active' \(did you mean 'active'\?\)"
    ):
        read(table)


def test_an_empty_table(table):
    """A table without a row starts nothing, and says so."""
    table.delete("trend")
    with pytest.raises(ConfigurationError, match="expected 1 to 10000 rows"):
        read(table)


def test_a_wrong_password_is_never_told():
    """No text holds the password, be it in the URL's own place or among its options."""
    with postgresql() as database:
        host = database.place.partition("@")[2].partition("/")[0]
        for place in (
            f"postgresql://nobody-of-this-name:s3cr%40t@{host}/test",
            f"postgresql://nobody-of-this-name@{host}/test?password=s3cr%40t",
            "postgresql://nobody:s3cr%40t@127.0.0.1:1/test",
            "postgresql://nobody:s3cr%40t@127.0.0.1:x/test",
            "mysql://nobody:s3cr%40t@127.0.0.1/test",
        ):
            with pytest.raises(ConfigurationError) as caught:
                open_store(place).read()
            assert "s3cr" not in str(caught.value)


def test_each_driver_of_a_url_is_read_by_ours(table):
    """A URL that names the driver of another program is taken as it is."""
    driver = "postgresql+asyncpg:" if table.is_postgresql else "sqlite+aiosqlite:"
    table.place = re.sub(r"^[a-z]+:", driver, table.place)
    assert [each.strategy_id for each in read(table).strategies] == ["trend"]


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("postgre://h/d", "'postgre' is no database that we read (did you mean 'postgres'?)"),
        ("mysql://h/d", "'mysql' is no database that we read; expected sqlite:///FILE"),
        ("sqlite://", "expected a file, as sqlite:///strategies.db"),
        ("sqlite:///:memory:", "expected a file, as sqlite:///strategies.db"),
        ("sqlite:///a.db?mode=ro", "expected a file, as sqlite:///strategies.db"),
        ("postgresql://h:x/d", "expected a URL as postgresql://USER@HOST:5432/DATABASE"),
    ],
)
def test_a_url_that_names_no_database(place, said):
    """H9: a URL of another kind says which are read, and the nearest."""
    with pytest.raises(ConfigurationError) as caught:
        open_store(place)
    assert str(caught.value).startswith(f"--strategies: {said}")


def test_a_sqlite_file_that_is_not_there_is_not_made(tmp_path):
    """To read from a file of a wrong name makes no empty database of it."""
    with pytest.raises(ConfigurationError, match=r"gone\.db: cannot be read: unable to open database file"):
        open_store(f"sqlite:///{tmp_path / 'gone.db'}").read()
    assert not (tmp_path / "gone.db").exists()


def test_a_change_is_seen(table):
    """A row that changes, comes or goes is taken at the next look."""
    table.put(id="b")
    with opened(table) as store:
        now = store.read()
        assert not store.wait_for_change(0.03)
        table.set("trend", "parameters", '{"lookback_periods": 6}')
        assert store.wait_for_change(WAIT_S)
        now = store.read_again(now)
        assert now.strategies[1].parameters == {"lookback_periods": 6}
        assert not store.wait_for_change(0.03)
        table.delete("trend")
        table.put(id="c")
        assert store.wait_for_change(WAIT_S)
        assert [each.strategy_id for each in store.read_again(now).strategies] == ["b", "c"]


def test_a_strategy_stops_whatever_else_is_wrong(table):
    """`is_active=false` stops a strategy though its row is wrong; what became wrong alone stays as it was."""
    table.put(id="b")
    with opened(table) as store:
        before = store.read()
        for strategy in ("b", "trend"):
            table.set(strategy, "instruments", "[]")
        table.set("trend", "is_active", value=False)
        now = store.read_again(before)
        assert [(each.strategy_id, each.enabled) for each in now.strategies] == [
            ("b", True),
            ("trend", False),
        ]
        assert {each.instrument_tokens for each in now.strategies} == {(256265, 3050241)}
        assert len(now.problems) == 2
        table.set("trend", "is_active", value=True)
        assert not store.read_again(now).strategies[1].enabled


def test_an_empty_table_changes_nothing(table):
    """A table that was emptied stops nothing by accident, and says so."""
    with opened(table) as store:
        before = store.read()
        table.delete("trend")
        assert store.wait_for_change(WAIT_S)
        now = store.read_again(before)
        assert now.strategies == before.strategies
        assert "expected 1 to 10000 rows" in str(now.problems[0])


def test_a_database_that_is_lost_and_comes_back(table):
    """A table that is lost changes nothing; it is told once, and read anew when it is back."""
    with opened(table) as store:
        before = store.read()
        table.run(f"ALTER TABLE {TABLE} RENAME TO elsewhere")
        assert store.wait_for_change(WAIT_S)
        now = store.read_again(before)
        assert now.strategies == before.strategies
        assert len(now.problems) == 1
        assert not store.wait_for_change(0.03)
        table.run("UPDATE elsewhere SET is_active = false")
        table.run("ALTER TABLE elsewhere DROP COLUMN use_composition")
        table.run(f"ALTER TABLE elsewhere RENAME TO {TABLE}")
        assert store.wait_for_change(WAIT_S)
        now = store.read_again(now)
        assert (now.problems, now.strategies[0].enabled) == ((), False)


def test_a_connection_that_is_cut(tmp_path):
    """A connection that the server ends is made anew at the next look."""
    with postgresql() as database:
        database.create_table()
        database.put()
        with opened(database) as store:
            now = store.read()
            database.run(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
                " AND application_name = 'strategy-client' AND query LIKE '%strategy_configurations%'"
            )
            database.set("trend", "is_active", value=False)
            assert store.wait_for_change(WAIT_S)
            now = store.read_again(now)
            while now.problems:  # the loss may be seen before the return
                assert store.wait_for_change(WAIT_S)
                now = store.read_again(now)
            assert not now.strategies[0].enabled


def test_a_locked_table_is_not_waited_for_long(monkeypatch):
    """A statement that the server holds up ends at its bound, and changes nothing."""
    monkeypatch.setattr("strategy_client.store.table.STATEMENT_TIMEOUT_MS", 100)
    with postgresql() as database:
        database.create_table()
        database.put()
        with opened(database) as store:
            before = store.read()
            with database.engine.connect() as other:
                other.exec_driver_sql(f"LOCK TABLE {TABLE} IN ACCESS EXCLUSIVE MODE")
                now = store.read_again(before)
            assert now.strategies == before.strategies
            assert "statement timeout" in str(now.problems[0])


def test_a_file_that_is_replaced_by_another(tmp_path):
    """A SQLite file that another is renamed over is read at the next look."""
    (tmp_path / "new").mkdir()
    with sqlite(tmp_path) as old, sqlite(tmp_path / "new") as new:
        for each in (old, new):
            each.create_table()
        old.put()
        new.put(id="other")
        with opened(old) as store:
            now = store.read()
            (tmp_path / "new" / "strategies.db").rename(tmp_path / "strategies.db")
            assert store.wait_for_change(WAIT_S)
            assert [each.strategy_id for each in store.read_again(now).strategies] == ["other"]


def test_the_rate_is_bounded(table):
    """Between two looks lie at least `poll_s`, and more each time while the database does not answer."""
    with opened(table, poll_s=3600.0) as store:
        now = store.read()
        table.set("trend", "is_active", value=False)
        assert not store.wait_for_change(0.05)
        assert not store.read_again(now).strategies[0].enabled


def test_close_ends_a_wait(table):
    """A wait in another thread ends when the store is closed, and close may be called twice."""
    with opened(table, poll_s=3600.0) as store:
        store.read()
        ended = []
        waiting = threading.Thread(target=lambda: ended.append(store.wait_for_change(3600.0)))
        waiting.start()
        store.close()
        waiting.join(WAIT_S)
        assert ended == [False]


def test_a_row_as_the_tests_write_it_holds_each_column():
    """The cases above begin with a row that has all of Alpha Panda's columns that say something."""
    from strategy_client.store.table import NEEDED, OPTIONAL

    assert set(ROW) == {*NEEDED, *OPTIONAL}


def test_what_a_driver_says_is_told_without_the_password():
    """A password that stands in a driver's own words is hidden, as it was written and as it was meant."""
    database = open_database("postgresql://user:s3cr%40t@host/test?password=other")
    assert database.told(ValueError("with s3cr@t or\ns3cr%40t or other")) == "with *** or *** or ***"
    assert database.name == "postgresql://user:***@host/test"
    database.engine.dispose()
