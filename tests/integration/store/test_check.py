"""`strategy-client check`, before the market opens."""

import json
import time
from dataclasses import replace
from io import StringIO

import pytest
from databases import sqlite
from fake_sidecar import FakeModel, FakeSidecar
from rich.console import Console
from typer.testing import CliRunner

from strategy_client.commands.command_line import app
from strategy_client.commands.findings import Finding, ModelFinding, Report
from strategy_client.configuration import EmissionConfig, Problem, StrategyConfig
from strategy_client.features import FeatureSet
from strategy_client.processors.ml_momentum import momentum_features

FEATURES = momentum_features(20)
WINDOW = FeatureSet(FEATURES).window
DAY_NS = 86_400_000_000_000
LEARNED = """\
strategy_name: learned
strategy_type: ml_momentum
instrument_tokens: [1]
parameters:
  model: first
"""


@pytest.fixture(autouse=True)
def path_as_it_was(monkeypatch):
    """A check puts the folder of the strategies on the path; the next test starts without it."""
    import sys

    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.fixture
def place(tmp_path):
    """A folder of strategies."""
    return tmp_path


def model(**changes):
    return replace(FakeModel(FEATURES, WINDOW), **changes)


def check(place, *arguments):
    return CliRunner().invoke(app, ["check", "--strategies", str(place), *map(str, arguments)])


def check_json(place, *arguments):
    done = check(place, "--json", *arguments)
    return done.exit_code, json.loads(done.stdout)


def test_configuration_alone(place):
    """Without a sidecar the configuration is checked, exit 0, and the model is said not to be looked at."""
    (place / "a.yaml").write_text(LEARNED)
    done = check(place / "a.yaml")
    assert done.exit_code == 0
    assert "the model was not looked at; name a sidecar with --target" in done.stdout
    code, found = check_json(place)
    assert (code, found["ready"]) == (0, True)
    (strategy,) = found["strategies"]
    assert strategy["looked_at_models"] is False
    assert strategy["models"][0]["features"] == 5


def test_what_is_served_is_shown(place):
    """Version, digest, features, training range and age of the model and its shadow are shown."""
    (place / "a.yaml").write_text(LEARNED + "  shadow: {model: second}\n")
    served = model(version=3, ranges=[(0.0, 1.0)] * len(FEATURES), trained_at_ns=time.time_ns() - 3 * DAY_NS)
    with FakeSidecar({"first": served, "second": model()}) as sidecar:
        code, found = check_json(place, "--target", sidecar.target)
        done = check(place, "--target", sidecar.target)
    first, second = found["strategies"][0]["models"]
    assert (code, done.exit_code) == (0, 0)
    assert (first["asked_by"], second["asked_by"]) == ("learned", "learned (shadow)")
    assert (first["version"], first["digest"], first["features"]) == (3, served.digest, 5)
    assert (first["training_range_known"], second["training_range_known"]) == (True, False)
    assert first["age_days"] == pytest.approx(3, abs=0.01)
    assert second["trained_at"] is None
    assert "3.0 days ago" in done.stdout
    assert served.digest[:12] in done.stdout


@pytest.mark.parametrize(
    ("served", "parameters", "said"),
    [
        ({}, "", "MODEL_NOT_FOUND: the sidecar knows no model 'first'"),
        (
            {"first": model(feature_names=FEATURES[::-1])},
            "",
            "CONTRACT_MISMATCH: model 'first' version 1: feature 0",
        ),
        ({"first": model(contract=False)}, "", "carries no contract"),
        (
            {"first": model(meanings=("", ""))},
            "",
            "CONTRACT_MISMATCH: model: no class of 'first' means BUY or SELL",
        ),
        ({"first": model()}, "  model_version: 7\n", "MODEL_NOT_FOUND: model 'first' has no version 7"),
        ({"first": model()}, "  max_model_age_days: 2\n", "MODEL_STALE: it does not say when it was trained"),
        (
            {"first": model(trained_at_ns=time.time_ns() - 3 * DAY_NS)},
            "  max_model_age_days: 2\n",
            "MODEL_STALE: it was trained 3.0 days ago, more than 2",
        ),
        (
            {"first": model()},
            "  shadow: {model: second}\n",
            "MODEL_NOT_FOUND: the sidecar knows no model 'second'",
        ),
    ],
)
def test_a_model_that_is_not_as_asked(place, served, parameters, said):
    """What is wrong with a strategy's model, or its shadow's, is its finding, exit 1."""
    (place / "a.yaml").write_text(LEARNED + parameters)
    with FakeSidecar(served) as sidecar:
        code, found = check_json(place, "--target", sidecar.target)
        done = check(place, "--target", sidecar.target)
    assert (code, done.exit_code, found["ready"]) == (1, 1, False)
    assert said in found["strategies"][0]["problem"]
    assert "OK" not in done.stdout


def test_a_model_of_a_disabled_strategy_may_be_anything(place):
    """A strategy that is disabled holds nothing up."""
    (place / "a.yaml").write_text(LEARNED + "enabled: false\n")
    with FakeSidecar({}) as sidecar:
        done = check(place, "--target", sidecar.target)
    assert done.exit_code == 0
    assert "disabled" in done.stdout


def test_each_target_is_asked(place):
    """Of several sidecars each must serve what is asked; what differs is told by its address."""
    (place / "a.yaml").write_text(LEARNED)
    with FakeSidecar({"first": model()}) as good, FakeSidecar({}) as bad:
        code, found = check_json(place, "--target", good.target, "--target", bad.target)
    assert code == 1
    models = found["strategies"][0]["models"]
    assert [(each["target"], bool(each["problem"])) for each in models] == [
        (good.target, False),
        (bad.target, True),
    ]


def test_one_target_that_does_not_answer(place, monkeypatch):
    """A sidecar that is not there is a finding beside another that is; alone it is the reason, exit 1."""
    monkeypatch.setattr("strategy_client.commands.check.CHECK_TIMEOUT_S", 0.3)
    (place / "a.yaml").write_text(LEARNED)
    gone = f"unix:{place}/gone.sock"
    with FakeSidecar({"first": model()}) as good:
        code, found = check_json(place, "--target", gone, "--target", good.target)
    assert code == 1
    assert [bool(each["problem"]) for each in found["strategies"][0]["models"]] == [True, False]
    assert "UNAVAILABLE" in found["strategies"][0]["problem"]
    alone = check(place, "--target", gone)
    assert alone.exit_code == 1
    assert "gone.sock" in alone.stderr


def test_what_a_run_would_refuse_is_refused(place):
    """An endpoint that is no target, an instrument not supported, a target that is no address: exit 2."""
    (place / "a.yaml").write_text(LEARNED + "  endpoint: 'unix:/elsewhere'\n")
    assert check(place).exit_code == 0
    done = check(place, "--target", "unix:/here")
    assert done.exit_code == 2
    assert "learned: parameters.endpoint: 'unix:/elsewhere' is none of this run's targets" in done.stderr
    assert check(place, "--target", "nonsense:").exit_code == 2
    assert check(place, "--target", "unix:/elsewhere", "--target", "unix:/elsewhere").exit_code == 2
    (place / "picky.py").write_text(
        "from strategy_client.processors.momentum import MomentumProcessor, MomentumOptions\n"
        "class Picky(MomentumProcessor):\n"
        "    def supports_instrument(self, token):\n"
        "        return False\n"
        "def create(config):\n"
        "    return Picky(MomentumOptions())\n"
    )
    (place / "a.yaml").write_text("strategy_name: p\nstrategy_type: picky.create\ninstrument_tokens: [7]\n")
    done = check(place)
    assert done.exit_code == 2
    assert "'p' does not support instrument 7" in done.stderr


def test_all_wrong_files_are_named(place):
    """H9: a folder with several wrong files is answered with a line for each thing, exit 2."""
    (place / "a.yaml").write_text("strategy_name: a\nstrategy_type: rsi\ninstrument_tokens: [1]\n")
    (place / "b.yaml").write_text("strategy_name: b\nstrategy_type: low_frequency_demo\ninstruments: [1]\n")
    (place / "c.yaml").write_text(LEARNED)
    done = check(place)
    assert done.exit_code == 2
    lines = done.stderr.splitlines()
    assert ["a.yaml:2:1: strategy_type" in lines[0], "b.yaml:2:1: strategy_type" in lines[1]] == [True, True]
    assert len(lines) == 2


def test_what_is_asleep_and_wrong_is_told(place):
    """A disabled strategy that is wrong is left out and told, and so is what means nothing here; exit 0."""
    (place / "a.yaml").write_text(LEARNED + "module_name: x\n")
    (place / "b.yaml").write_text("strategy_name: b\nstrategy_type: rsi\nenabled: false\ninstruments: [1]\n")
    done = check(place)
    assert done.exit_code == 0
    assert "left out, as it is disabled: " in done.stdout
    assert "module_name: means nothing to this runner" in done.stdout
    _, found = check_json(place)
    assert found["left_out"][0]["place"].endswith("b.yaml:2:1: strategy_type")
    assert found["notes"][0]["place"].endswith("a.yaml:6:1: module_name")
    (place / "a.yaml").unlink()
    none = check(place)
    assert none.exit_code == 2
    assert "expected at least one strategy" in none.stderr


def test_a_table_is_checked(place):
    """A database's URL is a place like any other, and its problems are told the same way."""
    with sqlite(place) as database:
        database.create_table()
        database.put()
        done = check(database.place)
        assert (done.exit_code, done.stdout.count("OK")) == (0, 1)
        database.set("trend", "instruments", "[]")
        done = check(database.place)
        assert done.exit_code == 2
        assert "strategy_configurations row 'trend': instruments: expected a list" in done.stderr


def test_a_users_own_strategy_is_found_beside_a_database(place):
    """A user's own function lies beside the database's file as it does beside a YAML file."""
    (place / "beside.py").write_text(
        "from strategy_client.processors.momentum import create_momentum_processor as create\n"
    )
    with sqlite(place) as database:
        database.create_table()
        database.put(strategy_type="beside.create")
        assert check(database.place).exit_code == 0


def test_it_is_readable_on_80_columns():
    """On 80 columns no word of the finding, the names, the digests is lost."""
    config = StrategyConfig(
        strategy_id="a_rather_long_name_of_a_strategy",
        strategy_type="ml_mean_reversion",
        parameters={},
        active_brokers=("paper", "zerodha"),
        instrument_tokens=(1,),
        emission=EmissionConfig(edge_trigger=True, cooldown_s=60),
    )
    problem = (
        "CONTRACT_MISMATCH: model 'm' version 1: feature 0 is 'zscore_20' in the strategy and 'price' there"
    )
    found = ModelFinding(
        asked_by="a_rather_long_name_of_a_strategy (shadow)",
        model="a_model_with_a_long_name",
        features=12,
        target="unix:/run/user/1000/tickserve.sock",
        version=1234,
        digest="0123456789abcdef",
        age_days=1234.5,
        problem=problem,
    )
    other = replace(found, target="127.0.0.1:8001", training_range_known=True, problem="")
    report = Report(
        [Finding(config, [found, other])], notes=[Problem("file.yaml:1:1", "a note of many words")]
    )
    console = Console(record=True, width=80, file=StringIO())
    console.print(report.to_table())
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    squeezed = "".join(text.split())
    for word in (*problem.split(), "0123456789ab", "1234", "paper", "zerodha", "known", "none", "edge", "60"):
        assert word in squeezed, word
    assert "0123456789ab" in text
    assert "note: file.yaml:1:1: a note of many words" in text
