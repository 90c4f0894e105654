"""`strategy-client create-table`: from nothing, or from files, to a table that runs."""

import pytest
from databases import postgresql, sqlite
from typer.testing import CliRunner

from strategy_client.commands.command_line import app
from strategy_client.store import open_store
from strategy_client.store.table import TABLE

STRATEGIES = """\
strategies:
  - strategy_name: a
    strategy_type: momentum
    instrument_tokens: [1, 2]
    brokers: [paper, zerodha]
    parameters: {lookback_periods: 5, emission: {edge_trigger: true, cooldown_s: 60}}
    risk_limits: {max_position_size: 500, risk_multiplier: 0.5}
  - strategy_name: b
    strategy_type: MeanReversionProcessor
    instrument_tokens: [3]
    enabled: false
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request, tmp_path):
    """An empty database of each kind."""
    with sqlite(tmp_path) if request.param == "sqlite" else postgresql() as made:
        yield made


@pytest.fixture(autouse=True)
def path_as_it_was(monkeypatch):
    """The command puts the folder of the strategies on the path; the next test starts without it."""
    import sys

    monkeypatch.setattr(sys, "path", list(sys.path))


def create(*arguments):
    return CliRunner().invoke(app, ["create-table", *map(str, arguments)])


def read(place):
    store = open_store(place)
    try:
        return store.read().strategies
    finally:
        store.close()


def test_files_come_out_of_the_table_as_they_went_in(database, tmp_path):
    """What a file says is what the table says: limits, rules of emission, brokers and all."""
    file = tmp_path / "s.yaml"
    file.write_text(STRATEGIES)
    done = create(database.place, "--from", file)
    assert (done.exit_code, done.stderr) == (0, "")
    assert "2 strategies written" in done.stdout
    assert read(database.place) == read(str(file))


def test_a_new_table_is_as_alpha_panda_has_it(database):
    """The table alone can be made, and its columns fill themselves as in Alpha Panda's."""
    assert create(database.place).exit_code == 0
    database.run(
        f"INSERT INTO {TABLE} (id, strategy_type, instruments, parameters)"  # noqa: S608 - our own name
        " VALUES ('a', 'momentum', '[1]', '{}')"
    )
    (strategy,) = read(database.place)
    assert (strategy.enabled, strategy.active_brokers) == (True, ("paper",))


def test_what_stands_stays(database, tmp_path):
    """A table that is there is added to, never overwritten; a name that stands already adds nothing."""
    file = tmp_path / "s.yaml"
    file.write_text(STRATEGIES)
    create(database.place, "--from", file)
    again = create(database.place, "--from", file)
    assert again.exit_code == 2
    assert [line.rpartition(": ")[0].rpartition(" row ")[2] for line in again.stderr.splitlines()] == [
        "'a'",
        "'b'",
    ]
    assert create(database.place).exit_code == 2
    file.write_text(STRATEGIES.replace("strategy_name: b", "strategy_name: c"))
    assert create(database.place, "--from", file).exit_code == 2
    assert [each.strategy_id for each in read(database.place)] == ["a", "b"]
    file.write_text(STRATEGIES.replace("_name: a", "_name: c").replace("_name: b", "_name: d"))
    assert create(database.place, "--from", file).exit_code == 0
    assert [each.strategy_id for each in read(database.place)] == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[paper, zerodha]", "[zerodha]", "a: brokers: expected [paper] or [paper, zerodha]"),
        ("[paper, zerodha]", "[paper, other]", "a: brokers: expected [paper] or [paper, zerodha]"),
        (
            "lookback_periods: 5",
            "lookback_periods: x",
            "s.yaml:6:18: strategies[0].parameters.lookback_periods: expected",
        ),
    ],
)
def test_what_cannot_be_a_row_makes_no_table(tmp_path, old, new, said):
    """A strategy that is wrong, or that a row cannot say, leaves the database as it was."""
    file = tmp_path / "s.yaml"
    file.write_text(STRATEGIES.replace(old, new))
    place = f"sqlite:///{tmp_path / 'strategies.db'}"
    done = create(place, "--from", file)
    assert done.exit_code == 2
    assert said in done.stderr
    assert create(place).exit_code == 0


def test_parameters_that_json_cannot_hold(tmp_path):
    """A date in the parameters of a user's own strategy has no place in JSON, and is told."""
    (tmp_path / "own.py").write_text(
        "from strategy_client.processors.momentum import MomentumProcessor, MomentumOptions\n"
        "def create(config):\n    return MomentumProcessor(MomentumOptions())\n"
    )
    file = tmp_path / "s.yaml"
    file.write_text(
        "strategy_name: a\nstrategy_type: own.create\ninstruments: [1]\nparameters: {day: 2026-01-02}\n"
    )
    done = create(f"sqlite:///{tmp_path / 's.db'}", "--from", file)
    assert done.exit_code == 2
    assert "a: parameters: expected what JSON can hold: Object of type date" in done.stderr


def test_a_place_that_is_no_database(tmp_path):
    """A path is no URL, and a folder that is not there no place for a file."""
    assert "expected a URL as sqlite:///strategies.db" in create("strategies.db").stderr
    done = create(f"sqlite:///{tmp_path / 'gone' / 's.db'}")
    assert done.exit_code == 2
    assert "s.db: cannot be written: unable to open database file" in done.stderr
