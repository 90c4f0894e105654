"""Strategies from YAML."""

import os
import re
from decimal import Decimal

import pytest

from strategy_client.configuration import ConfigurationError, StrategyConfig, TicksConfig
from strategy_client.factory import StrategyFactory
from strategy_client.store.document import MAX_BYTES
from strategy_client.store.store import StrategySet
from strategy_client.store.strategy_file import read_strategies

ONE = """\
strategy_name: trend
strategy_type: momentum
enabled: true
brokers: [paper, zerodha]
instrument_tokens: [256265, 3050241]
parameters:
  momentum_threshold: "0.01"
  lookback_periods: 5
risk_limits:
  max_position_size: 500
  risk_multiplier: 0.5
description: A trend.
tags: [demo]
"""
MANY = """\
ticks:
  time: DateTime
  price: Price
  volume: Volume
  token: 7
  timezone: America/Chicago
  time_format: "%Y-%m-%d %H:%M:%S.%f"
  instruments: {ES: 7}
strategies:
  - strategy_name: a
    strategy_type: mean_reversion
    instruments: [7]
  - strategy_name: b
    strategy_type: ml_momentum
    instrument_tokens: [7]
    parameters: {model: trend}
"""


def read(tmp_path, text, name="strategies.yaml"):
    file = tmp_path / name
    file.write_text(text, encoding="utf-8")
    return read_strategies(file, StrategyFactory())


def problems(tmp_path, text, name="strategies.yaml"):
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path, text, name)
    return without_columns(str(caught.value).replace(f"{tmp_path}{os.sep}", "")).splitlines()


def without_columns(text):
    return re.sub(r"(\.yaml:\d+):\d+", r"\1", text)


def test_one_strategy_with_every_key(tmp_path):
    """A file of ORIGIN's keys is one strategy, every value typed."""
    assert read(tmp_path, ONE).strategies == (
        StrategyConfig(
            strategy_id="trend",
            strategy_type="momentum",
            parameters={"momentum_threshold": "0.01", "lookback_periods": 5},
            active_brokers=("paper", "zerodha"),
            instrument_tokens=(256265, 3050241),
            max_position_size=500,
            risk_multiplier=Decimal("0.5"),
            description="A trend.",
            tags=("demo",),
        ),
    )


def test_a_list_with_what_holds_for_all(tmp_path):
    """A file may hold many strategies, and how ticks are read."""
    file = read(tmp_path, MANY)
    assert [strategy.strategy_id for strategy in file.strategies] == ["a", "b"]
    assert [strategy.instrument_tokens for strategy in file.strategies] == [(7,), (7,)]
    assert file.strategies[0].active_brokers == ("paper",)
    assert file.ticks == TicksConfig(
        time="DateTime",
        price="Price",
        volume="Volume",
        token=7,
        timezone="America/Chicago",
        time_format="%Y-%m-%d %H:%M:%S.%f",
        instruments={"ES": 7},
    )


def test_a_folder_is_its_files_in_order(tmp_path):
    """Every YAML file of a folder is read, in the order of the names; other files are left alone."""
    (tmp_path / "2.yml").write_text(ONE)
    (tmp_path / "1.yaml").write_text(MANY)
    (tmp_path / "notes.txt").write_text("{")
    file = read_strategies(tmp_path, StrategyFactory())
    assert [strategy.strategy_id for strategy in file.strategies] == ["a", "b", "trend"]
    assert file.ticks is not None


def test_nothing_for_all_is_none(tmp_path):
    """Where a file says nothing of ticks, flags or defaults decide."""
    file = read(tmp_path, ONE)
    assert file == StrategySet(file.strategies, None)


def changed(text, old, new):
    assert old in text
    return text.replace(old, new)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("strategy_name: trend", "strategy_name: 5", "1: strategy_name: expected a text, came 5"),
        ("strategy_name: trend", "strategy_name: ''", "1: strategy_name: expected a text, came ''"),
        (
            "strategy_name:",
            "strategy_nane:",
            "1: 'strategy_name' is missing (did you mean 'strategy_nane'?): expected a text",
        ),
        (
            "type: momentum\n",
            "type: momentun\n",
            "2: strategy_type: unknown strategy type 'momentun' (did you mean 'momentum'?)",
        ),
        ("strategy_type: momentum\n", "", "1: 'strategy_type' is missing: expected a text"),
        ("enabled: true", "enabled: maybe", "3: enabled: expected true or false, came 'maybe'"),
        (
            "[paper, zerodha]",
            "paper",
            "4: brokers: expected a list of brokers, at least one; without this key it is [paper], "
            "came 'paper'",
        ),
        ("[paper, zerodha]", "[paper, paper]", "4: brokers[1]: expected each once, came 'paper' again"),
        (
            "[256265, 3050241]",
            "[NIFTY]",
            "5: instrument_tokens[0]: expected an instrument token, an integer above 0, came 'NIFTY'",
        ),
        ("[256265, 3050241]", "[]", "5: instrument_tokens: expected a list of different instrument tokens"),
        ("[256265, 3050241]", "[-1]", "5: instrument_tokens[0]: expected an instrument token, an integer"),
        (
            "[256265, 3050241]",
            "[1, true]",
            "5: instrument_tokens[1]: expected an instrument token, an integer above 0, came true",
        ),
        (
            "brokers: [paper, zerodha]",
            "instruments: [1]",
            "4: instruments: expected one of 'instruments' and 'instrument_tokens'",
        ),
        (
            "lookback_periods: 5",
            "lookback_period: 0",
            "8: parameters.lookback_period: expected an integer from 2 to 10000, came 0",
        ),
        (
            "  lookback_periods: 5",
            "  lookbak: 5",
            "8: parameters.lookbak: unknown parameter (did you mean 'lookback_period'?)",
        ),
        ("500", "0", "10: risk_limits.max_position_size: expected a whole number above 0, came 0"),
        ("0.5", ".nan", "11: risk_limits.risk_multiplier: expected a number above 0, came nan"),
        (
            "risk_multiplier:",
            "risk_multiplyer:",
            "11: risk_limits.risk_multiplyer: unknown key (did you mean 'risk_multiplier'?)",
        ),
        ("A trend.", "[1]", "12: description: expected a text, came [1]"),
        ("tags: [demo]", "tags: {demo: 1}", "13: tags: expected a list of different texts, came {'demo': 1}"),
        (
            "tags: [demo]",
            "tag: [demo]",
            "13: tag: unknown key (did you mean 'tags'?); known: strategy_name, ",
        ),
        ("tags: [demo]", "enabled: true", "3: enabled: stands twice, in lines 3 and 13"),
        ("tags: [demo]", "ticks: [1]", "13: ticks: expected a mapping, came [1]"),
        ("tags: [demo]", "ticks: {time: 1}", "13: ticks.time: expected a column name, came 1"),
        (
            "tags: [demo]",
            "ticks: {tokn: 1}",
            "13: ticks.tokn: unknown key (did you mean 'token'?)",
        ),
        (
            "tags: [demo]",
            "ticks: {token: 0}",
            "13: ticks.token: expected a column name, or an instrument token, came 0",
        ),
        (
            "tags: [demo]",
            "ticks: {timezone: Asia/Kolkatta}",
            "13: ticks.timezone: expected a zone like 'Asia/Kolkata' or 'UTC', "
            "came 'Asia/Kolkatta' (did you mean 'Asia/Kolkata'?)",
        ),
        (
            "tags: [demo]",
            "ticks: {instruments: {ES: x}}",
            "13: ticks.instruments: expected a mapping of symbols to instrument tokens",
        ),
    ],
)
def test_each_wrong_field_is_one_line(tmp_path, old, new, said):
    """H9: a wrong field is answered with file, line, key, what was expected, and the nearest name."""
    lines = problems(tmp_path, changed(ONE, old, new))
    assert any(line.startswith(f"strategies.yaml:{said}") for line in lines), lines


def test_all_problems_of_all_files_come_at_once(tmp_path):
    """H9: one run shows everything there is to mend, a line each."""
    (tmp_path / "a.yaml").write_text(changed(changed(ONE, "true", "maybe"), "500", "none"))
    (tmp_path / "b.yaml").write_text("strategies: {}")
    (tmp_path / "c.yaml").write_text(changed(MANY, "strategy_type: mean_reversion", "strategy_typ: x"))
    with pytest.raises(ConfigurationError) as caught:
        read_strategies(tmp_path, StrategyFactory())
    places = [without_columns(re.sub(r".*[/\\]", "", problem.place)) for problem in caught.value.problems]
    assert sorted(places) == [
        "a.yaml:10: risk_limits.max_position_size",
        "a.yaml:3: enabled",
        "b.yaml:1: strategies",
        "c.yaml:10: strategies[0]",
        "c.yaml:11: strategies[0].strategy_typ",
    ]


def test_a_strategy_id_stands_once(tmp_path):
    """Two strategies of one name are refused, in one file or in two, and both places are named."""
    lines = problems(tmp_path, changed(MANY, "strategy_name: b", "strategy_name: a"))
    assert lines == [
        "strategies.yaml:13: strategies[1].strategy_name: 'a' stands twice, the first time in "
        "strategies.yaml:10: strategies[0].strategy_name"
    ]
    (tmp_path / "strategies.yaml").write_text(ONE)
    (tmp_path / "z.yaml").write_text(ONE)
    with pytest.raises(ConfigurationError, match=r"z.yaml:1:1: strategy_name: 'trend' stands twice"):
        read_strategies(tmp_path, StrategyFactory())


def test_what_holds_for_all_stands_in_one_file(tmp_path):
    """Two files of a folder cannot both say how ticks are read."""
    (tmp_path / "a.yaml").write_text(f"{ONE}ticks: {{time: t}}\n")
    (tmp_path / "b.yaml").write_text(MANY)
    with pytest.raises(ConfigurationError, match=r"b.yaml: ticks: stands in two files"):
        read_strategies(tmp_path, StrategyFactory())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "strategies.yaml:1: expected a mapping, came nothing (null)"),
        ("- a\n", "strategies.yaml:1: expected a mapping, came ['a']"),
        ("a: [1\n", "strategies.yaml:2: not YAML: expected ',' or ']'"),
        (
            "a: !!python/object:os.system x\n",
            "strategies.yaml:1: not YAML: could not determine a constructor",
        ),
        ("\na: 2024-13-01\n", "strategies.yaml:2: not YAML: '2024-13-01' is no timestamp"),
        ("a: !!timestamp x\n", "strategies.yaml:1: not YAML: 'x' is no timestamp"),
        ("a: *gone\n", "strategies.yaml:1: not YAML: found undefined alias"),
        ("a: \x00\n", "strategies.yaml: not YAML: "),
        ("a: &a [*a]\n", "strategies.yaml: not YAML: nested more than 32 deep"),
        ("a: " + "[" * 5000, "strategies.yaml: not YAML: "),
        (
            "strategies: []\n",
            "strategies.yaml:1: strategies: expected a list of at least one strategy, came []",
        ),
        ("strategies: [5]\n", "strategies.yaml:1: strategies[0]: expected a mapping, came 5"),
        ("a: " + "x" * MAX_BYTES, f"strategies.yaml: expected at most {MAX_BYTES} bytes"),
    ],
)
def test_a_file_that_holds_no_strategies(tmp_path, text, said):
    """H9: what is not YAML, too large, too deep or of another shape is refused in one line."""
    lines = problems(tmp_path, text)
    assert lines[0].startswith(said)


def test_an_alias_that_stands_for_a_billion_is_refused(tmp_path):
    """A few lines of aliases that would unfold to a billion values are refused at the bound."""
    text = "a0: &a0 [1]\n" + "".join(
        f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n" for level in range(1, 10)
    )
    assert problems(tmp_path, text) == ["strategies.yaml: not YAML: more than 100000 values"]


def test_a_path_that_is_not_there(tmp_path):
    """A missing file, and a folder without YAML, say so."""
    with pytest.raises(ConfigurationError, match=r"gone.yaml: cannot be read: No such file"):
        read_strategies(tmp_path / "gone.yaml", StrategyFactory())
    with pytest.raises(ConfigurationError, match=r"expected 1 to 1000 files ending in .yaml or .yml"):
        read_strategies(tmp_path, StrategyFactory())
