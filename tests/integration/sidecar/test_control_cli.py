"""What an operator does on the command line, with a real sidecar."""

import dataclasses
import importlib.metadata
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
import typer
from click.testing import Result
from onnx_files import score_contract, score_model
from servables import FunctionServable
from sidecars import ThreadSidecar, describe, eventually, process_sidecar, put, thread_sidecar
from tickserve.v1 import predictor_pb2 as wire
from typer.testing import CliRunner

from inference_server import command_line
from inference_server.app import ServeOptions
from inference_server.serving.policy import All
from inference_server.serving.registry import Registry
from inference_server.serving.settings import ModelSettings


def command(*arguments: object) -> Result:
    """Run `inference-server` with these arguments."""
    return CliRunner().invoke(
        command_line.app, [str(argument) for argument in arguments], prog_name="inference-server"
    )


class Cli:
    """The commands against one sidecar."""

    def __init__(self, sidecar: ThreadSidecar) -> None:
        self.target = sidecar.unix

    def done(self, *arguments: object) -> str:
        """Run a command that is to succeed; return what it prints, without the ends of its lines."""
        ran = command(*arguments, "--target", self.target)
        assert (ran.exit_code, ran.stderr) == (0, ""), ran.stderr
        return " ".join(ran.stdout.split())

    def refused(self, *arguments: object) -> str:
        """Run a command that is to fail; return its one line."""
        ran = command(*arguments, "--target", self.target)
        assert (ran.exit_code, ran.stdout) == (1, "")
        (line,) = ran.stderr.splitlines()
        return line

    def model(self) -> wire.ModelDescription:
        """What the sidecar says of its first model."""
        with grpc.insecure_channel(self.target) as channel:
            return describe(channel).models[0]


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A repository with one version of a model."""
    put(tmp_path / "models" / "momentum" / "3" / "model.onnx", score_model("momentum"))
    return tmp_path / "models"


@pytest.fixture
def cli(models: Path) -> Iterator[Cli]:
    """A sidecar that follows files."""
    with thread_sidecar(models) as sidecar:
        yield Cli(sidecar)


@pytest.fixture
def explicit(models: Path) -> Iterator[Cli]:
    """A sidecar under explicit control."""
    with thread_sidecar(models, control="explicit") as sidecar:
        yield Cli(sidecar)


def test_a_rollback_is_one_command(cli: Cli, models: Path) -> None:
    """It says from what to what, `status` shows the pin, and `resume` takes it back."""
    old = cli.model().versions[0].digest[:12]
    put(models / "momentum" / "4" / "model.onnx", score_model("momentum", bias=1.0))
    eventually(lambda: cli.model().default_version == 4, "the new version answers")
    new = cli.model().versions[0].digest[:12]
    assert cli.done("label", "momentum", "stable", 4) == "momentum: stable is 4"
    told = cli.done("rollback", "momentum")
    assert told.startswith(
        f"momentum: back from version 4 ({new}) to version 3 ({old}) moved with it: stable "
    )
    assert "'inference-server resume momentum' takes it up again." in told
    assert "score FP32 6" in cli.done("predict", "momentum:stable", 1, 2, 3)
    shown = cli.done("status")
    assert "momentum pinned to 3 by a rollback" in shown
    assert f"version 4 ({new}): held since a rollback" in shown
    assert "momentum labels: stable 3" in shown
    (described,) = json.loads(cli.done("status", "--json"))["models"]
    assert (described["pinned_version"], described["labels"]) == ("3", {"stable": "3"})
    assert cli.done("resume", "momentum") == "momentum: what lies in the repository counts again"
    eventually(lambda: cli.model().default_version == 4, "the new version answers again")
    assert "pinned" not in cli.done("status")


def test_a_label_is_set_asked_for_and_removed(cli: Cli) -> None:
    """`label` moves a name, `predict` asks by it, `--remove` takes it away."""
    assert cli.done("label", "momentum", "canary", 3) == "momentum: canary is 3"
    assert cli.done("predict", "momentum:canary", 1, 2, 3).startswith("momentum:3 ")
    assert cli.done("label", "momentum", "canary", "--remove") == "momentum: canary is removed"
    told = cli.refused("predict", "momentum:canary", 1, 2, 3)
    assert told == "inference-server: model 'momentum' has no label 'canary'; it has none"


def test_what_cannot_be_is_one_line_without_an_address(cli: Cli) -> None:
    """A refusal is the sidecar's own words; there is nothing to say of the way there."""
    told = cli.refused("label", "momentum", "canary", 9)
    assert told.startswith("inference-server: model 'momentum': label 'canary' cannot move to version 9")
    assert "nothing to roll back to" in cli.refused("rollback", "momentum")
    assert cli.refused("rollback", "nobody") == "inference-server: no model 'nobody'"
    assert cli.refused("resume", "momentum") == "inference-server: model 'momentum' is not rolled back"
    assert "--control explicit" in cli.refused("load", "momentum")
    assert "--control explicit" in cli.refused("unload", "momentum")


def test_a_model_is_loaded_and_unloaded_by_hand(explicit: Cli, models: Path, tmp_path: Path) -> None:
    """`load` serves the repository's file or one that is sent; the version is the file's own or as said."""
    assert explicit.done("load", "momentum") == "momentum: loaded"
    assert "score FP32 6" in explicit.done("predict", "momentum:3", 1, 2, 3)
    file = tmp_path / "new.onnx"
    file.write_bytes(score_model("momentum", bias=1.0, model_version=5))
    assert explicit.done("load", "momentum", file) == "momentum: version 5 is loaded"
    assert explicit.done("load", "momentum:8", file) == "momentum: version 8 is loaded"
    assert "score FP32 7" in explicit.done("predict", "momentum:8", 1, 2, 3)
    file.write_bytes(score_model("momentum", bias=0.01, contract=score_contract("momentum")))
    assert "golden row" in explicit.refused("load", "momentum:9", file)
    assert "score FP32 7" in explicit.done("predict", "momentum", 1, 2, 3)
    assert explicit.done("unload", "momentum") == "momentum: unloaded"
    assert "has no available version" in explicit.refused("predict", "momentum", 1, 2, 3)


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["label", "m", "canary"], 2, "expected a version, or --remove"),
        (["label", "m", "canary", "3", "--remove"], 2, "expected a version, or --remove"),
        (["label", "m", "canary", "0"], 2, "VERSION"),
        (["label", "m", "canary", str(2**63)], 2, "VERSION"),
        (["load", "m:canary"], 2, "expected MODEL, or with a file MODEL:VERSION"),
        (["load", "m:3"], 2, "expected MODEL, or with a file MODEL:VERSION"),
        (["load", "m:01", "no.onnx"], 2, "expected MODEL, MODEL:VERSION or MODEL:LABEL"),
        (["load", "m", "no.onnx"], 1, "no.onnx: is not there"),
        (["predict", f"m:{2**63}", "1"], 2, "expected MODEL, MODEL:VERSION or MODEL:LABEL"),
        (["predict", "m", "1", "-1e39"], 2, "expected a float32, up to 3.40282e+38, came '-1e39'"),
        (["rollback", "m", "--target", "unix:/nowhere.sock"], 1, "reached there: No such file or directory"),
        (["serve", "--max-memory", "lots"], 2, 'such as "4 GiB"'),
        (["serve", "--allow-contract-change", "../m"], 2, "../m"),
        (["serve", "--control", "magic"], 2, "explicit"),
    ],
)
def test_wrong_usage_says_what_was_expected(arguments: list[str], code: int, text: str) -> None:
    """Exit 2 for what was typed, 1 for the world."""
    ran = command(*arguments)
    assert (ran.exit_code, ran.stdout) == (code, "")
    assert text in ran.stderr


def test_an_address_where_nobody_answers_is_told_with_the_time_waited() -> None:
    """What listens there and says nothing costs the deadline, and the line says how long that was."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        target = f"127.0.0.1:{silent.getsockname()[1]}"
        ran = command("resume", "m", "--target", target, "--timeout-s", "0.2")
    assert (ran.exit_code, ran.stderr) == (1, f"inference-server: {target}: no answer within 0.2 s\n")


def test_no_option_is_cut_off_in_the_help(monkeypatch: pytest.MonkeyPatch) -> None:
    """On 80 columns each option of each command stands with its whole name, and defaults are told."""
    monkeypatch.setenv("COLUMNS", "80")
    group = typer.main.get_command(command_line.app)
    context = typer.Context(group)
    for name in group.list_commands(context):
        each = group.get_command(context, name)
        shown = command(name, "--help").stdout
        assert max(map(len, shown.splitlines())) <= 80
        for parameter in each.params:
            if parameter.param_type_name == "option":
                assert f"  {parameter.opts[0]} " in shown, (name, parameter.opts)
    assert "..." not in command("--help").stdout.partition("Commands:")[2]  # where a command's line was cut
    shown = command("serve", "--help").stdout
    for option in ("--control", "--state", "--max-memory", "--allow-contract-change", "--models"):
        assert f"  {option} " in shown
    assert "Default: ./models." in shown


def test_the_release_is_told() -> None:
    """What an operator names in a report."""
    assert command("--version").stdout == f"tickserve {importlib.metadata.version('tickserve')}\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("arguments", [["check", "/no/such.onnx"], ["serve", "--show-config"]])
def test_output_that_cannot_be_written_is_one_line(arguments: list[str]) -> None:
    """C8: where the disk that the output goes to is full, a command says so and ends with 1."""
    with Path("/dev/full").open("wb") as full:
        ran = subprocess.run(
            [sys.executable, "-m", "inference_server", *arguments],
            check=False,
            stdout=full,
            stderr=subprocess.PIPE,
        )
    assert (ran.returncode, ran.stderr) == (1, b"inference-server: No space left on device\n")


def test_a_command_needs_no_stdout() -> None:
    """One that is started with its output closed does its work and tells by its exit code."""
    line = [sys.executable, "-m", "inference_server", "check", "/no/such.onnx"]
    ran = subprocess.run(["sh", "-c", '"$@" >&-', "sh", *line], check=False, stderr=subprocess.PIPE)
    assert (ran.returncode, ran.stderr) == (1, b"inference-server: /no/such.onnx: is not there\n")


def test_status_shows_more_than_grpc_takes_by_itself(models: Path) -> None:
    """D12: what is said of many models with long contracts may pass 4 MiB, and is shown all the same."""

    async def publish_many(registry: Registry) -> None:
        for number in range(50):
            contract = score_contract(f"m{number}", estimator="Pipeline()" * 10_000)
            registry.publish(FunctionServable(f"m{number}", contract=contract), 1)

    with thread_sidecar(models) as sidecar:
        sidecar.run(publish_many(sidecar.sidecar.registry))
        shown = json.loads(Cli(sidecar).done("status", "--json"))
    assert len(shown["models"]) == 51
    assert len(json.dumps(shown)) > 4 << 20


def test_check_refuses_another_contract_as_serve_does(tmp_path: Path) -> None:
    """C4: `check --against` fails where the contract differs, and passes where that is allowed."""
    old, new = tmp_path / "old" / "momentum.onnx", tmp_path / "new" / "momentum.onnx"
    put(old, score_model("momentum"))
    put(new, score_model("momentum", contract=score_contract("momentum", window=30)))
    assert command("check", new, "--against", new).exit_code == 0
    refused = command("check", new, "--against", old)
    assert (refused.exit_code, "features.window: 20 before, 30 now" in refused.stderr) == (1, True)
    allowed = command("check", new, "--against", old, "--allow-contract-change")
    assert (allowed.exit_code, allowed.stderr) == (0, "")
    assert allowed.stdout.count("features.window: 20 before, 30 now") == 1


def test_check_compares_with_a_copy_under_any_name(tmp_path: Path) -> None:
    """C4: what is kept of the file that lies there now is compared as if it still lay in its place."""
    new, old = tmp_path / "momentum.onnx", tmp_path / "before lunch.bak"
    put(new, score_model("momentum", contract=score_contract("momentum", window=30)))
    put(old, score_model("momentum"))
    refused = command("check", new, "--against", old)
    assert (refused.exit_code, "features.window: 20 before, 30 now" in refused.stderr) == (1, True)
    put(old, score_model("reversion"))
    other = command("check", new, "--against", old)
    assert (other.exit_code, "it is for the model 'reversion'" in other.stderr) == (1, True)


def served_options(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> ServeOptions:
    """What `serve` with these arguments is to serve."""
    came: list[ServeOptions] = []

    async def take(options: ServeOptions, _read_again: object, _vetting_child: object) -> None:
        came.append(options)

    monkeypatch.setattr("inference_server.commands.serve.serve_until_stopped", take)
    ran = command("serve", *arguments)
    assert (ran.exit_code, ran.stderr) == (0, "")
    return came[0]


def test_the_file_says_what_flags_say_and_flags_win(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What flags can say the file can say too, and each flag takes its key's place."""
    config = tmp_path / "tickserve.toml"
    config.write_text(
        """
        models = "m"
        listen = ["127.0.0.1:1"]
        http = "127.0.0.1:2"
        control = "explicit"
        state = "s"
        max_memory = "3 GiB"
        [model.one]
        required = true
        versions = "all"
        """
    )
    said = served_options(monkeypatch, "--config", config)
    assert (str(said.models), list(map(str, said.listen)), str(said.http)) == (
        *("m", ["127.0.0.1:1"], "127.0.0.1:2"),
    )
    assert (said.control, str(said.state), said.max_memory_bytes) == ("explicit", "s", 3 << 30)
    assert (said.required, said.settings) == (("one",), {"one": ModelSettings(policy=All())})
    flags = ("--models", "M", "--listen", "127.0.0.1:11", "--http", "off", "--control", "files")
    more = ("--state", "S", "--max-memory", "4 GiB", "--allow-contract-change", "one")
    won = served_options(monkeypatch, "--config", config, *flags, *more)
    assert (str(won.models), list(map(str, won.listen)), won.http) == ("M", ["127.0.0.1:11"], None)
    assert (won.control, str(won.state), won.max_memory_bytes) == ("files", "S", 4 << 30)
    assert won.settings == {"one": ModelSettings(policy=All(), allow_contract_change=True)}


def test_each_part_of_the_configuration_reaches_the_sidecar(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whatever a sidecar can be told differs from what it is told without a file, but for what has no key."""
    config = tmp_path / "tickserve.toml"
    config.write_text(
        """
        models = "m"
        listen = ["127.0.0.1:1"]
        http = "off"
        control = "explicit"
        state = "s"
        max_memory = "3 GiB"
        tls = { certificate = "c.pem", key = "c.key" }
        tokens = { control = "c.tokens" }
        socket = { mode = "0660" }
        limits = { max_calls = 7, max_streams = 8 }
        shared_memory = { enabled = true }
        tracing = { endpoint = "http://127.0.0.1:4317" }
        page = { hosts = ["trading.example"] }
        model = { one = { required = true } }
        """
    )
    said, bare = served_options(monkeypatch, "--config", config), served_options(monkeypatch)
    parts = [each.name for each in dataclasses.fields(ServeOptions)]
    assert [part for part in parts if getattr(said, part) == getattr(bare, part)] == ["predictor"]


def test_a_folder_that_is_not_there_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """A1: it may come later, so the sidecar starts; a mistyped one is found in the log."""
    served_options(monkeypatch, "--models", tmp_path)
    assert caplog.messages == []
    served_options(monkeypatch, "--models", tmp_path / "modles")
    assert caplog.messages == [f"there is no model folder {tmp_path}/modles; it is waited for"]


def test_without_flags_and_file_the_defaults_hold(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What the README says that a bare `serve` does."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    said = served_options(monkeypatch)
    assert (str(said.models), said.control, str(said.http)) == ("models", "files", "127.0.0.1:8002")
    assert [str(address) for address in said.listen] == [f"unix:{tmp_path}/tickserve.sock", "127.0.0.1:8001"]
    assert said.state is not None
    assert said.state.is_relative_to(tmp_path / "state" / "tickserve")
    assert (said.max_memory_bytes, said.required, said.settings) == (None, (), {})


def test_the_flags_of_serve_hold(models: Path, tmp_path: Path) -> None:
    """State that outlives a restart, a bound on memory, a contract that may change: each as it was said."""
    state = tmp_path / "state"
    flags = ("--state", str(state), "--max-memory", "1 GiB", "--allow-contract-change", "momentum")
    with process_sidecar(models, *flags) as sidecar, grpc.insecure_channel(sidecar.target) as channel:
        put(models / "momentum" / "4" / "model.onnx", score_model(None, bias=1.0))
        eventually(lambda: describe(channel).models[0].default_version == 4, "another contract is served")
        assert command("rollback", "momentum", "--target", sidecar.target).exit_code == 0
        assert sidecar.stop() == 0
        assert any(state.iterdir())
    with process_sidecar(models, "--state", str(state)) as sidecar:
        with grpc.insecure_channel(sidecar.target) as channel:
            assert describe(channel).models[0].pinned_version == 3
        big = score_model("big", padding=3 << 20)
        put(models / "big.onnx", big)
    with process_sidecar(models, "--max-memory", "4 MiB", "--control", "explicit", wait=False) as sidecar:
        eventually(lambda: "listening on" in sidecar.log.read_text(), "it listens")
        refused = command("load", "big", "--target", sidecar.target)
        assert (refused.exit_code, "4.0 MiB" in refused.stderr) == (1, True), refused.stderr
        assert command("load", "momentum", "--target", sidecar.target).exit_code == 0
