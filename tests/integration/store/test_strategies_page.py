"""The files and commands of docs/strategies.md, taken out of it and run."""

import re
import shlex
import sqlite3
from dataclasses import fields
from pathlib import Path

import pytest
from typer.testing import CliRunner

from strategy_client.commands.command_line import app
from strategy_client.factory import ALPHA_PANDA, BUILT_IN, StrategyFactory
from strategy_client.processors.classifier import ClassifierOptions
from strategy_client.processors.mean_reversion import ELSEWHERE, MeanReversionOptions
from strategy_client.processors.momentum import MomentumOptions
from strategy_client.store.strategy_file import read_strategies
from strategy_client.store.table import NEEDED, OPTIONAL, TIMES

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "strategies.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, re.DOTALL)


def block(kind, words):
    """The one block of this kind that holds these words."""
    [found] = [text for of, text in BLOCKS if of == kind and words in text]
    return found


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The page's files in a folder, which is the working one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for kind, text in BLOCKS:
        if kind == "yaml":
            name = re.match(r"# (\w+\.yaml)", text)[1]
            (tmp_path / name).write_text(text)
    return tmp_path


def test_the_pages_files_are_read(folder):
    """Each file of the page is right, and says what its comments say."""
    (trend,) = read_strategies(folder / "trend.yaml", StrategyFactory()).strategies
    assert (trend.active_brokers, trend.max_position_size) == (("paper", "zerodha"), 500)
    assert (trend.emission.edge_trigger, trend.emission.cooldown_s) == (True, 60.0)
    several = read_strategies(folder / "several.yaml", StrategyFactory()).strategies
    assert [(each.strategy_id, each.enabled) for each in several] == [
        ("breakout", True),
        ("breakout_canary", False),
    ]


def test_the_page_gets_from_nothing_to_a_table(folder):
    """The page's commands make a table, check it, and its statement stops the strategy."""
    for line in block("sh", "create-table").splitlines():
        _, *arguments = shlex.split(line, comments=True)
        done = CliRunner().invoke(app, arguments)
        assert (done.exit_code, done.stderr) == (0, ""), line
    with sqlite3.connect(folder / "strategies.db") as connection:
        connection.execute(block("sql", "UPDATE"))
    connection.close()
    done = CliRunner().invoke(app, arguments)
    assert "disabled" in done.stdout


def test_the_page_names_every_type_parameter_and_column():
    """Nothing that can be configured is missing on the page, and every default on it is the right one."""
    for options in (MomentumOptions, MeanReversionOptions, ClassifierOptions):
        for item in fields(options):
            aliases = item.metadata["parameter"].aliases
            named = (item.name, *aliases)
            assert all(f"`{name}`" in PAGE for name in named), named
            if isinstance(item.default, int | float) and item.default and aliases:
                assert re.search(rf"`{item.name}` {item.default:g}(\.0)? \(", PAGE), item.name
    for name in (*BUILT_IN, *ALPHA_PANDA, *ELSEWHERE, *NEEDED, *OPTIONAL, *TIMES):
        assert f"`{name}`" in PAGE, name
