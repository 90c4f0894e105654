"""`strategy-client check --sink`: whose signals would go nowhere."""

import json

import pytest
import typer
from typer.testing import CliRunner

from strategy_client.commands.check import check

STRATEGIES = """\
strategies:
- {strategy_name: a, strategy_type: momentum, instrument_tokens: [1], brokers: [paper, zerodha]}
- {strategy_name: b, strategy_type: momentum, instrument_tokens: [1]}
- {strategy_name: c, strategy_type: momentum, instrument_tokens: [1], brokers: [own], enabled: false}
"""


@pytest.fixture
def checked(tmp_path, monkeypatch):
    """A check of the strategies above; it puts their folder on the path, which is as it was afterwards."""
    import sys

    monkeypatch.setattr(sys, "path", list(sys.path))
    app = typer.Typer()
    app.command()(check)

    def run(*arguments, strategies=STRATEGIES):
        (tmp_path / "s.yaml").write_text(strategies)
        done = CliRunner().invoke(app, ["--strategies", str(tmp_path / "s.yaml"), *arguments])
        assert sorted(file.name for file in tmp_path.iterdir()) == ["s.yaml"]
        return done

    return run


def test_a_broker_without_a_sink_is_a_warning(checked, tmp_path):
    """A broker of an enabled strategy that no sink takes is warned of; the exit code stays."""
    done = checked("--sink", f"paper=file:{tmp_path}/p.jsonl")
    assert done.exit_code == 0
    warnings = [line for line in done.stdout.splitlines() if line.startswith("warning: ")]
    assert [line.split(", has")[0] for line in warnings] == ["warning: brokers: 'zerodha', a broker of a"]
    found = json.loads(checked("--json", "--sink", f"paper=file:{tmp_path}/p.jsonl").stdout)
    assert found["ready"] is True
    assert [each["place"] for each in found["warnings"]] == ["brokers"]
    assert "zerodha" in found["warnings"][0]["text"]


def test_a_sink_for_every_broker_leaves_nothing_to_say(checked, tmp_path):
    """Where one sink takes what has none of its own, there is neither warning nor note of sinks."""
    done = checked("--json", "--sink", f"file:{tmp_path}/{{broker}}.jsonl")
    found = json.loads(done.stdout)
    assert (found["warnings"], [each for each in found["notes"] if each["place"] == "--sink"]) == ([], [])


def test_without_sinks_it_is_said_that_nobody_looked(checked):
    """Without --sink a broker beside paper is noted as not looked at; paper alone is not."""
    done = checked()
    assert (
        "note: --sink: not looked at; name the sinks of the run to see whether zerodha has one" in done.stdout
    )
    assert "warning" not in done.stdout
    alone = checked(strategies=STRATEGIES.replace(", brokers: [paper, zerodha]", ""))
    assert "note: --sink" not in alone.stdout


def test_a_sink_that_a_run_would_refuse_is_refused(checked, tmp_path):
    """H9: a wrong URL of a sink ends the check with its line, exit 2."""
    done = checked("--sink", f"paper=file:{tmp_path}/a", "--sink", f"paper=file:{tmp_path}/b")
    assert (done.exit_code, "paper= stands twice" in done.stderr) == (2, True)
