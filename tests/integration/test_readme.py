"""The README's own code, taken out of it and run."""

import json
import re
import runpy
import shlex
import subprocess
import sys
from datetime import datetime, timedelta
from importlib.metadata import entry_points
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from alpha_panda_runner import Row, Runner
from readme_blocks import readme_block
from sidecars import thread_sidecar

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BIN = Path(sys.executable).parent


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A user's folder: the README's files and a recorded session."""
    for name in ("own_model.py", "own_model.yaml", "own_strategy.py", "own_strategy.yaml"):
        (tmp_path / name).write_text(readme_block(name), encoding="utf-8")
    start = datetime(2013, 9, 2, 9, 30)  # noqa: DTZ001 - the file's times have no zone, the flag says which
    lines = ["DateTime,Price,Volume"]
    lines += [
        f"{start + timedelta(seconds=index)},{1640 + 0.25 * ((index * 7) % 31)},1" for index in range(400)
    ]
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "es_ticks.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a user would, in that folder."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    return done


def replay_command(strategies: str) -> list[str]:
    """The README's replay command, for one of its strategy files."""
    found = re.search(r"strategy-client (replay .*?)\n```", README, re.DOTALL)
    assert found
    words = shlex.split(found[1].replace("\\\n", " "))
    return [str(BIN / "strategy-client"), *[strategies if word.endswith(".yaml") else word for word in words]]


def outcomes(out: Path, strategy: str) -> dict[str, int]:
    """What a replay counted for a strategy."""
    summary = json.loads((out / "summary.json").read_text())
    return summary["strategies"][strategy]["outcomes"]


def test_the_own_strategy_runs_everywhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty lines of a user give the same signals in a replay, live, and in a runner like Alpha Panda's."""
    lines = [line for line in readme_block("own_strategy.py").splitlines() if line.strip()]
    assert len(lines) <= 20
    replayed = replay_command("own_strategy.yaml")
    run(folder, *replayed, "--out", "replayed")
    counted = outcomes(folder / "replayed", "round_number")
    assert counted["BUY"] > 0
    assert sum(counted.values()) == 400
    assert "PROCESSOR_ERROR" not in counted
    ticks, columns = folder / replayed[2], replayed[replayed.index("--time") :]
    live = (replayed[0], "run", "--source", str(ticks), "--strategies", "own_strategy.yaml", *columns)
    run(folder, *live, "--out", "live")
    written = [(folder / out / "signals.jsonl").read_text() for out in ("replayed", "live")]
    assert written[0] == written[1]

    monkeypatch.syspath_prepend(folder)
    runner = Runner()
    runner.register_processor("round_number", "strategy_client.drop_in.create_processor")
    own = {"strategy_type": "own_strategy.create_round_number_processor", "step": 2.5}
    runner.load([Row("round_number", "round_number", own, [13620])])
    zone = ZoneInfo("America/Chicago")
    for line in ticks.read_text().splitlines()[1:]:
        when, price, _ = line.split(",")
        stamped = datetime.fromisoformat(when).replace(tzinfo=zone)
        runner.handle({"instrument_token": 13620, "last_price": price, "timestamp": stamped})
    signals = [json.loads(line) for line in written[0].splitlines()]
    assert len(signals) > 100
    assert [(each["signal_type"], str(each["price"]), each["quantity"]) for each in runner.emitted] == [
        (each["signal_type"], each["price"], each["quantity"]) for each in signals
    ]


def test_the_own_model_is_served(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The model of the README is exported, served and asked by its strategy."""
    monkeypatch.chdir(folder)
    runpy.run_path("own_model.py", run_name="__main__")
    assert "models/mine.onnx" in capsys.readouterr().out
    run(folder, *replay_command("own_model.yaml"))
    counted = outcomes(folder / "out", "my_learned_strategy")
    assert set(counted) <= {"BUY", "SELL", "BELOW_THRESHOLD", "WARMING_UP"}
    assert counted["BUY"] > 0
    assert counted["SELL"] > 0
    assert counted["WARMING_UP"] == 19
    assert sum(counted.values()) == 400


def test_the_sidecar_by_itself_does_what_the_page_says(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each command of that section runs as it stands there, against a sidecar on the sample models."""
    section = README.split("## The sidecar by itself", 1)[1]
    found = re.search(r"```sh\n(.*?)```", section, re.DOTALL)
    assert found
    commands = [shlex.split(line, comments=True) for line in found[1].splitlines()]
    assert commands[0] == ["inference-server", "serve"]
    assert {command[1] for command in commands[1:]} == {"status", "models", "predict", "check"}
    monkeypatch.chdir(ROOT)
    with thread_sidecar(ROOT / "models") as sidecar:
        monkeypatch.setenv("TICKSERVE_TARGET", sidecar.tcp)
        for program, *arguments in commands[1:]:
            asked = [sidecar.tcp if part == "127.0.0.1:8001" else part for part in arguments]
            monkeypatch.setattr(sys, "argv", [program, *asked])
            [command] = entry_points(group="console_scripts", name=program)
            with pytest.raises(SystemExit) as ended:
                sys.exit(command.load()())
            printed = capfd.readouterr()
            assert ended.value.code in (None, 0), (asked, printed)
            assert printed.err == "", asked
            assert "es_" in printed.out
