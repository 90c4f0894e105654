"""Strategies from YAML."""

import os
import re
from decimal import Decimal

import pytest

from strategy_client.configuration import ConfigurationError, EmissionConfig, StrategyConfig, TicksConfig
from strategy_client.factory import StrategyFactory
from strategy_client.store.section import MAX_BYTES
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
    """Every YAML file of a folder is read, in capitals too, in the order of the names; no others are."""
    (tmp_path / "2.YML").write_text(ONE)
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
        ("a: \x00\n", "strategies.yaml:1: not YAML: unacceptable character #x0000"),
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


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "[256265, 3050241]",
            "[256265, 0256265]",
            "5: instrument_tokens[1]: 0256265 means 89269 in YAML; expected a decimal number",
        ),
        (
            "max_position_size: 500",
            "max_position_size: 5:00",
            "10: risk_limits.max_position_size: 5:00 means 300",
        ),
        (
            "max_position_size: 500",
            "max_position_size: 0x10",
            "10: risk_limits.max_position_size: 0x10 means 16",
        ),
        (
            "strategy_name: trend",
            "strategy_name: on",
            "1: strategy_name: expected a text, came true (yes, no, on and off are flags in YAML; "
            "a text stands in quotes)",
        ),
        (
            "strategy_name: trend",
            "strategy_name: 2026-01-02",
            "1: strategy_name: expected a text, came the date 2026-01-02 (a text stands in quotes)",
        ),
        ("tags: [demo]", "tags: [no]", "13: tags[0]: expected a text, came false"),
        ("brokers: [paper, zerodha]", "brokers: [Paper]", "4: brokers[0]: expected a broker's name in small"),
        (
            "brokers: [paper, zerodha]",
            "brokers: [paper/x]",
            "4: brokers[0]: expected a broker's name in small",
        ),
        ("brokers: [paper, zerodha]", "brokers: []", "4: brokers: expected a list of brokers, at least one"),
        ("brokers: [paper, zerodha]", "brokers:", "4: brokers: expected a list of brokers, at least one"),
        ("strategy_name: trend", "strategy_name: ' a'", "1: strategy_name: expected a text, came ' a'"),
        ("strategy_name: trend", 'strategy_name: "a\\nb"', "1: strategy_name: expected a text, came 'a\\nb'"),
        (
            "strategy_name: trend",
            f"strategy_name: {'x' * 201}",
            "1: strategy_name: expected a text, came 'xxx",
        ),
        (
            "max_position_size: 500",
            "max_position_size: 500.5",
            "10: risk_limits.max_position_size: expected a whole",
        ),
        (
            "max_position_size: 500",
            "max_position_size: .inf",
            "10: risk_limits.max_position_size: expected a whole",
        ),
        (
            "risk_multiplier: 0.5",
            "risk_multiplier: x",
            "11: risk_limits.risk_multiplier: expected a number above 0",
        ),
        ("description: A trend.", "module_name: [1]", "12: module_name: expected a text, came [1]"),
        (
            "description: A trend.",
            "use_composition: 1",
            "12: use_composition: expected true or false, came 1",
        ),
        (
            "description: A trend.",
            "strategy_class: mean_reversion",
            "12: strategy_class: expected 'momentum' as in strategy_type, or only one of them",
        ),
        (
            "lookback_periods: 5",
            "emission: {edge_trigger: 1}",
            "8: parameters.emission.edge_trigger: expected true or false, came 1",
        ),
        (
            "lookback_periods: 5",
            "emission: {cooldown_s: -1}",
            "8: parameters.emission.cooldown_s: expected a number of seconds, 0 or more, came -1",
        ),
        (
            "lookback_periods: 5",
            "emission: {cooldown: 1}",
            "8: parameters.emission.cooldown: unknown key (did you mean 'cooldown_s'?)",
        ),
        ("lookback_periods: 5", "emission: true", "8: parameters.emission: expected a mapping, came true"),
        (
            "lookback_periods: 5",
            "risk_limits: {max_position_size: 5}",
            "9: risk_limits: stands under parameters too; expected it once",
        ),
        ("parameters:\n", "parameters:\n  <<: {lookbak: 1}\n", "7: parameters.lookbak: unknown parameter"),
        ("tags: [demo]", "\ttags: [demo]", "13: not YAML: found character '\\t' that cannot start any token"),
        ("tags: [demo]", "? [a]\n: b", "13: not YAML: expected a text as the key"),
        ("tags: [demo]", "<<: 5", "13: not YAML: expected a mapping to merge"),
        ("tags: [demo]", "---\na: b", "13: not YAML: expected a single document"),
    ],
)
def test_what_yaml_makes_of_it(tmp_path, old, new, said):
    """H9: what YAML reads otherwise than it was meant is named, with what it means and what to write."""
    lines = problems(tmp_path, changed(ONE, old, new))
    assert any(line.startswith(f"strategies.yaml:{said}") for line in lines), lines


LEARNED = """\
strategy_name: learned
strategy_type: ml_momentum
instrument_tokens: [1]
parameters:
  model: es_momentum
"""


@pytest.mark.parametrize(
    ("added", "said"),
    [
        ("outside_training_range: refused", "expected refuse or count, came 'refused'"),
        ("training_range_margin: -1", "expected a number from 0, came -1"),
        ("max_model_age_days: 0", "expected a number above 0"),
        ("expected_feature_count: 4", "expected 5, as many as its features"),
        ("confidence_threshold: 1", "expected a number from 0 to below 1, came 1"),
        ("model_version: -1", "expected an integer from 0"),
        ("position_size: 0", "expected an integer from 1"),
        ("lookback_periods: 2", "expected an integer from 3"),
        ("features: price", "expected a list of feature names, came 'price'"),
        ("shadow: other", "expected a mapping of model, "),
        ("modell: x", "unknown parameter (did you mean 'model'?)"),
    ],
)
def test_each_learned_parameter_is_one_line(tmp_path, added, said):
    """H9: a wrong parameter of a learned strategy is named with line, column and what was expected."""
    name = added.partition(":")[0]
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path, f"{LEARNED}  {added}\n")
    (problem,) = caught.value.problems
    assert problem.place == f"{tmp_path / 'strategies.yaml'}:6:3: parameters.{name}"
    assert problem.text.startswith(said)


def test_a_parameter_in_a_parameter_is_named_by_its_own_place(tmp_path):
    """H9: what is wrong in a shadow is named by the line and column that it stands at."""
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path, f"{LEARNED}  shadow:\n    model: other\n    model_version: x\n")
    (problem,) = caught.value.problems
    assert problem.place == f"{tmp_path / 'strategies.yaml'}:8:5: parameters.shadow.model_version"


def test_a_problem_names_line_and_column(tmp_path):
    """H9: the column is that of the key or list item, the first being 1."""
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path, changed(ONE, "[256265, 3050241]", "[256265, x]"))
    assert caught.value.problems[0].place == f"{tmp_path / 'strategies.yaml'}:5:29: instrument_tokens[1]"


def test_what_a_file_of_alpha_panda_holds(tmp_path):
    """A file with Alpha Panda's own keys is taken; what means nothing to us is noted, limits are floats."""
    file = read(
        tmp_path,
        "strategy_name: 'NIFTY Rules Momentum'\n"
        "strategy_class: 'MomentumProcessor'\n"
        "module_name: strategies.implementations.momentum\n"
        "use_composition: true\n"
        "parameters: {lookback_periods: '20', threshold: 0.012, position_size: 100}\n"
        "brokers: ['paper', 'papers']\n"
        "instruments: ['256265']\n"
        "risk_limits: {max_position_size: 10000.0, risk_multiplier: 1.0}\n",
    )
    (strategy,) = file.strategies
    assert (strategy.strategy_type, strategy.instrument_tokens) == ("MomentumProcessor", (256265,))
    assert (strategy.max_position_size, strategy.risk_multiplier) == (10_000, Decimal(1))
    notes = [str(note).partition("strategies.yaml:")[2] for note in file.notes]
    assert notes == [
        "3:1: module_name: means nothing to this runner, which goes by the type",
        "4:1: use_composition: means nothing to this runner, which goes by the type",
        "6:20: brokers[1]: 'papers' is neither paper nor zerodha (did you mean 'paper'?); "
        "its signals go where --sink sends them",
    ]


def test_rules_of_emission_are_the_runners(tmp_path):
    """What stands under `emission` never reaches the processor; digits may be text."""
    text = changed(ONE, "lookback_periods: 5", "emission: {edge_trigger: true, cooldown_s: '1.5'}")
    (strategy,) = read(tmp_path, text).strategies
    assert strategy.emission == EmissionConfig(edge_trigger=True, cooldown_s=1.5)
    assert strategy.parameters == {"momentum_threshold": "0.01"}


def test_anchors_and_merges_are_read(tmp_path):
    """What several strategies share may be written once; a key of their own wins."""
    file = read(
        tmp_path,
        "strategies:\n"
        "  - &base\n"
        "    strategy_name: a\n"
        "    strategy_type: momentum\n"
        "    instrument_tokens: &tokens [1, 2]\n"
        "  - <<: *base\n"
        "    strategy_name: b\n"
        "  - <<: [{strategy_type: mean_reversion}, *base]\n"
        "    strategy_name: c\n"
        "    instrument_tokens: *tokens\n",
    )
    assert [(each.strategy_id, each.strategy_type) for each in file.strategies] == [
        ("a", "momentum"),
        ("b", "momentum"),
        ("c", "mean_reversion"),
    ]
    assert {each.instrument_tokens for each in file.strategies} == {(1, 2)}


def test_what_is_disabled_and_wrong_stops_no_start(tmp_path):
    """A strategy that is asleep and wrong is left out, and told among the problems of the set."""
    (tmp_path / "a.yaml").write_text(ONE)
    (tmp_path / "b.yaml").write_text("strategy_name: b\nstrategy_type: rsi\nenabled: false\n")
    now = read_strategies(tmp_path, StrategyFactory())
    assert [each.strategy_id for each in now.strategies] == ["trend"]
    assert [without_columns(problem.place.rpartition(os.sep)[2]) for problem in now.problems] == [
        "b.yaml:1",
        "b.yaml:2: strategy_type",
    ]
