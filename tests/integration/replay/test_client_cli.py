"""The command line, as a user meets it: a process, its exit code, its words."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fake_sidecar import FakeModel, FakeSidecar
from fixtures_session import (
    MOMENTUM_LOOKBACK,
    REVERSION_LOOKBACK,
    csv_lines,
    mean_reversion_features,
    momentum_features,
    walk,
    write_csv,
    write_strategies,
)

from strategy_client.features import FeatureSet
from strategy_client.recording.folder_lock import LOCK, FolderLock
from strategy_client.sinks.jsonl import JsonLinesFile

TRADITIONAL = """
strategy_name: momentum
strategy_type: momentum
instrument_tokens: [1]
ticks: {time: time, price: price, token: token}
"""


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run `strategy-client`."""
    command = [sys.executable, "-c", "from strategy_client.cli import main; main()"]
    return subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write ticks and a traditional strategy."""
    write_csv(tmp_path / "t.csv", csv_lines(1, walk(50, 100, 1)))
    (tmp_path / "s.yaml").write_text(TRADITIONAL)
    return tmp_path


def test_replay_without_learned_strategies_needs_no_sidecar(folder: Path) -> None:
    """Traditional strategies alone replay without models, print a table and name the files."""
    done = run(
        "replay",
        folder / "t.csv",
        "--strategies",
        folder / "s.yaml",
        "--out",
        folder / "out",
        "--models",
        "none",
    )
    assert done.returncode == 0, done.stderr
    for text in ("momentum", "50 ticks in", "99th percentile", "summary.json", "WARMING_UP"):
        assert text in done.stdout
    assert {path.name for path in (folder / "out").iterdir()} == {
        "signals.jsonl",
        "outcomes.jsonl",
        "summary.json",
        "latency.npy",
        "report.html",
    }
    assert done.stdout.splitlines()[-1] == str(folder / "out" / "report.html")
    assert np.load(folder / "out" / "latency.npy").shape == (50,)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("2024-08-08T03:45:00Z,1,0", "t.csv:52: price: expected a finite number above 0, came '0'"),
        ("2024-08-08T03:45:00Z,1,abc", "t.csv:52: price: expected a number, came 'abc'"),
        ("2024-08-08T03:45:00Z,9,1", "t.csv:52: token: expected an instrument of the strategies: 1, came 9"),
    ],
)
def test_bad_line_is_reported_and_stops_a_strict_replay(folder: Path, line: str, text: str) -> None:
    """A bad line is counted and shown, exit 0; with --strict it is the one line of an exit 2."""
    with (folder / "t.csv").open("a") as file:
        file.write(line + "\n")
    arguments = ["replay", folder / "t.csv", "--strategies", folder / "s.yaml", "--out", folder / "out"]
    lax = run(*arguments)
    assert lax.returncode == 0, lax.stderr
    assert "bad lines skipped: 1" in lax.stdout
    assert text in lax.stdout
    strict = run(*arguments, "--strict")
    assert strict.returncode == 2
    assert strict.stderr.splitlines()[-1] == f"strategy-client: {folder}/{text}"
    assert "Traceback" not in strict.stderr


@pytest.mark.parametrize(
    ("change", "flags", "text"),
    [
        (("momentum\ninst", "momemtum\ninst"), [], "(did you mean 'momentum'?)"),
        (("[1]", "[1]\nparameters: {lookback_perids: 5}"), [], "lookback_perids"),
        (("[1]", "[2]"), [], "expected at least one tick; the first bad line: "),
        (("", ""), ["--price", "prize"], "column 'prize' is missing (did you mean 'price'?)"),
        (("", ""), ["--target", "nowhere"], "expected unix:/path or host:port"),
        (("", ""), ["--skip", "50"], "t.csv: expected at least one tick after the 50 that are skipped"),
        (("", ""), ["--replace", "x"], "--replace: 'x': expected TICK:MODEL:FILE"),
        (
            ("", ""),
            ["--replace", "5:x:gone"],
            "--replace: '5:x:gone': expected a model file, there is no gone",
        ),
        (
            ("", ""),
            ["--replace", f"5:m:{__file__}"],
            "no strategy is learned, so there is no model to replace",
        ),
        (("", ""), ["--speed", "-1"], "expected 'max' or a number above 0"),
        (("", ""), ["--speed", "2", "--window", "9"], "--window: 9: expected 1 beside --speed 2"),
        (("", ""), ["--timezone", "Mars"], "'Mars'"),
    ],
)
def test_bad_input_is_one_clear_line_and_exit_2(
    folder: Path, change: tuple[str, str], flags: list[str], text: str
) -> None:
    """H9: wrong configuration, column or flag: exit 2, what was expected, no traceback."""
    strategies = folder / "s.yaml"
    strategies.write_text(strategies.read_text().replace(*change, 1))
    done = run("replay", folder / "t.csv", "--strategies", strategies, "--out", folder / "out", *flags)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("strategy-client: ")
    assert text in line
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (
            ["--replace", f"5:up_momentun:{__file__}"],
            "no strategy asks 'up_momentun' (did you mean 'up_momentum'?)",
        ),
        (["--replace", f"5:../up_momentum:{__file__}"], "expected one of up_momentum, up_reversion"),
        (
            ["--limit", "5", "--replace", f"5:up_momentum:{__file__}"],
            "tick 5 never comes; expected one below",
        ),
        (["--target", "unix:/x", "--replace", f"5:up_momentum:{__file__}"], "expected no --target beside it"),
        (["--target", "unix:/x", "--allow-contract-change", "up_momentum"], "expected no --target beside it"),
        (["--allow-contract-change", "up_momentun"], "did you mean 'up_momentum'"),
    ],
)
def test_replacement_that_cannot_be_is_refused_at_once(folder: Path, flags: list[str], text: str) -> None:
    """A model that no strategy asks, or a tick that never comes, is one line before anything is started."""
    strategies = write_strategies(folder / "learned.yaml", [1])
    done = run("replay", folder / "t.csv", "--strategies", strategies, "--out", folder / "out", *flags)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert text in line


@pytest.mark.parametrize("budget", ["inf", "nan", "0"])
@pytest.mark.parametrize("command", [["replay"], ["run", "--source"]], ids=["replay", "run"])
def test_a_budget_that_is_no_time_is_wrong_usage(folder: Path, command: list[str], budget: str) -> None:
    """H9: a budget that no clock counts is exit 2 and says what was expected, without a traceback."""
    done = run(*command, folder / "t.csv", "--strategies", folder / "s.yaml", "--deadline-ms", budget)
    assert done.returncode == 2
    assert "Invalid value for '--deadline-ms': Input should be" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("flags", "window"),
    [
        ([], 250),
        (["--deadline-ms", "4000"], 1),
        (["--deadline-ms", "4000", "--window", "7"], 7),
        (["--speed", "100000"], 1),
    ],
)
def test_ticks_go_in_windows_unless_their_time_matters(folder: Path, flags: list[str], window: int) -> None:
    """Full speed asks in windows; one by one, and timed, where a pace or a deadline is asked for.

    Several targets are asked as one: the first of them is nowhere.
    """
    strategies = write_strategies(folder / "learned.yaml", [1])
    momentum, reversion = momentum_features(MOMENTUM_LOOKBACK), mean_reversion_features(REVERSION_LOOKBACK)
    models = {
        "up_momentum": FakeModel(momentum, FeatureSet(momentum).window),
        "up_reversion": FakeModel(reversion, FeatureSet(reversion).window),
    }
    with FakeSidecar(models) as sidecar:
        targets = ["--target", f"unix:{folder}/nowhere.sock", "--target", sidecar.target]
        done = run(
            "replay", folder / "t.csv", "--strategies", strategies, "--out", folder / "out", *targets, *flags
        )
    assert done.returncode == 0, done.stderr
    written = json.loads((folder / "out" / "summary.json").read_text())
    assert written["window"] == window
    assert (written["tick_latency_us"] is None) == (window > 1)
    assert ("asked 250 ticks at a time" in done.stdout) == (window == 250)
    assert ("99th percentile" in done.stdout) == (window == 1)


def test_input_without_ticks_costs_no_earlier_result(folder: Path) -> None:
    """A second replay that cannot begin leaves the files of the first as they are."""
    arguments = ["replay", folder / "t.csv", "--strategies", folder / "s.yaml", "--out", folder / "out"]
    assert run(*arguments).returncode == 0
    before = {path.name: path.read_bytes() for path in (folder / "out").iterdir()}
    assert len(before) == 5
    for flags in (["--price", "prize"], ["--skip", "50"], ["--time-format", "s"]):
        assert run(*arguments, *flags).returncode == 2
        assert {path.name: path.read_bytes() for path in (folder / "out").iterdir()} == before


def test_page_that_cannot_be_made_fails_no_replay(folder: Path) -> None:
    """Without plotly a replay ends well, says what is missing, and leaves no page of a run before."""
    (folder / "out").mkdir()
    (folder / "out" / "report.html").write_text("another run's")
    (folder / "plotly.py").write_text("raise ModuleNotFoundError('plotly')")
    done = run("replay", folder / "t.csv", "--strategies", folder / "s.yaml", "--out", folder / "out")
    assert done.returncode == 0
    assert done.stderr.splitlines()[-1] == (
        "strategy-client: no report.html: a report needs plotly: pip install 'tickserve[client]'"
    )
    assert not (folder / "out" / "report.html").exists()
    assert (folder / "out" / "summary.json").exists()


def test_two_replays_do_not_write_one_folder(folder: Path) -> None:
    """A replay into the folder of one that is still running is refused and harms nothing there."""
    with JsonLinesFile(folder / "signals.jsonl") as signals:
        signals.write({"tick": 0})
        done = run("replay", folder / "t.csv", "--strategies", folder / "s.yaml", "--out", folder)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line == f"strategy-client: {folder}/signals.jsonl: another process is writing it"
    assert (folder / "signals.jsonl").read_text() == '{"tick":0}\n'
    assert run("replay", folder / "t.csv", "--strategies", folder / "s.yaml", "--out", folder).returncode == 0


def test_folder_of_another_run_is_refused_whole(folder: Path) -> None:
    """A folder that a run holds is named with its process, also while that run has no file in it; exit 1."""
    out = folder / "out"
    with FolderLock(out):
        done = run("replay", folder / "t.csv", "--strategies", folder / "s.yaml", "--out", out)
        assert [path.name for path in out.iterdir()] == [LOCK]
    assert done.returncode == 1
    text = f"strategy-client: {out}: another run writes there, process {os.getpid()}\n"
    assert (done.stdout, done.stderr) == ("", text)
    assert not out.exists()


def test_folder_that_cannot_be_written_is_named(folder: Path) -> None:
    """An output folder that cannot be made is one line and exit 2."""
    done = run("replay", folder / "t.csv", "--strategies", folder / "s.yaml", "--out", folder / "t.csv" / "x")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert f"{folder}/t.csv" in line


def test_words_of_a_user_are_shown_as_they_are(folder: Path) -> None:
    """A name or a value that a terminal library would read as a style is shown letter by letter."""
    (folder / "s.yaml").write_text(TRADITIONAL.replace("name: momentum", "name: '[red]:x:[/]'"))
    with (folder / "t.csv").open("a") as file:
        file.write("2024-08-08T03:45:00Z,1,[/blue]\n")
    done = run("replay", folder / "t.csv", "--strategies", folder / "s.yaml", "--out", folder / "out")
    assert done.returncode == 0, done.stderr
    assert "[red]:x:[/]" in done.stdout
    assert "came '[/blue]'" in done.stdout


def test_missing_files_are_named(folder: Path) -> None:
    """Ticks or strategies that are not there are one line and exit 2."""
    for ticks, strategies in (("gone.csv", "s.yaml"), ("t.csv", "gone.yaml")):
        done = run("replay", folder / ticks, "--strategies", folder / strategies, "--out", folder / "out")
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        assert "gone." in line


def test_learned_strategies_without_models_are_refused(folder: Path) -> None:
    """Without a folder of models the sidecar is not started, and the folder is named."""
    strategies = write_strategies(folder / "learned.yaml", [1])
    done = run("replay", folder / "t.csv", "--strategies", strategies, "--models", folder / "none")
    assert done.returncode == 1
    assert f"{folder}/none: expected a folder of models" in done.stderr


def test_check_says_of_each_strategy_whether_it_can_run(folder: Path) -> None:
    """`check` shows OK or the first difference from the contract; exit 1 when a model is not right."""
    strategies = write_strategies(folder / "learned.yaml", [1])
    momentum, reversion = momentum_features(MOMENTUM_LOOKBACK), mean_reversion_features(REVERSION_LOOKBACK)
    models = {
        "up_momentum": FakeModel(momentum, FeatureSet(momentum).window),
        "up_reversion": FakeModel(reversion[::-1], FeatureSet(reversion).window),
    }
    with FakeSidecar(models) as sidecar:
        wrong = run("check", "--strategies", strategies, "--target", sidecar.target)
        sidecar.swap("up_reversion", feature_names=reversion)
        right = run("check", "--strategies", strategies, "--target", sidecar.target)
    assert (wrong.returncode, right.returncode) == (1, 0), wrong.stderr + right.stderr
    assert "feature 0 is 'zscore_20' in the strategy" in " ".join(wrong.stdout.split())
    assert right.stdout.count("OK") == 4


def test_check_of_configuration_alone(folder: Path) -> None:
    """Without a sidecar `check` reads the configuration, exit 0; a wrong one is exit 2."""
    assert run("check", "--strategies", folder / "s.yaml").returncode == 0
    (folder / "s.yaml").write_text(TRADITIONAL + "unknown: 1\n")
    done = run("check", "--strategies", folder / "s.yaml")
    assert done.returncode == 2
    assert "unknown" in done.stderr
