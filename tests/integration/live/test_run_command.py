"""`strategy-client run` as a user starts it: real processes, a real bus, a real database."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from fixtures_session import OPENED, csv_lines, walk, write_csv, write_model, write_models, write_strategies
from listening import listening
from sidecars import ProcessSidecar, eventually

from strategy_client.processors.ml_momentum import momentum_features

PATIENCE_S = 60.0
COMMAND = [sys.executable, "-c", "from strategy_client.cli import main; main()", "run"]


class Running:
    """The command under way; `log` is what it has said on standard error."""

    def __init__(self, folder: Path, *arguments: object, **environment: str) -> None:
        self._log = folder / "log"
        self._out = folder / "printed"
        with self._log.open("wb") as log, self._out.open("wb") as out:
            self.process = subprocess.Popen(
                [*COMMAND, *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
                env={**os.environ, **environment},
            )

    @property
    def log(self) -> str:
        """What it has said so far."""
        return self._log.read_text()

    @property
    def printed(self) -> str:
        """What it has printed so far."""
        return self._out.read_text()

    def address(self) -> str:
        """Wait until it serves metrics, and return where."""

        def found() -> re.Match[str] | None:
            assert self.process.poll() is None, self.log
            return re.search(r"metrics on (http://[^/]+)/metrics", self.log)

        return eventually(found, "it serves metrics")[1]

    def metrics(self) -> dict[str, float]:
        """Scrape it: each sample by its name and labels."""
        with urllib.request.urlopen(f"{self.address()}/metrics", timeout=PATIENCE_S) as page:  # noqa: S310 ours
            lines = page.read().decode().splitlines()
        samples = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return {name: float(value) for name, _, value in samples}

    def probe(self, name: str) -> tuple[int, str]:
        """Ask /healthz or /readyz."""
        try:
            with urllib.request.urlopen(f"{self.address()}/{name}", timeout=PATIENCE_S) as page:  # noqa: S310 ours
                return page.status, page.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def took(self, ticks: int) -> None:
        """Wait until it has taken so many ticks."""
        eventually(
            lambda: self.metrics()["tickserve_client_ticks_total"] == ticks, f"{ticks} ticks were taken"
        )

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)

    def close(self) -> None:
        """End it, if it is still there."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


@contextmanager
def running(folder: Path, *arguments: object, **environment: str) -> Iterator[Running]:
    """Run the command until the block ends."""
    run = Running(folder, *arguments, **environment)
    try:
        yield run
    finally:
        run.close()


@contextmanager
def redis_server() -> Iterator[int]:
    """A Redis of this test's own; its port."""
    import redis

    def is_up(port: int) -> bool:
        with redis.Redis(port=port) as bus:
            return _answers(bus)

    with tempfile.TemporaryDirectory(prefix="ts") as folder:
        fixed = ("redis-server", "--bind", "127.0.0.1", "--save", "", "--dir", folder)
        with listening(lambda port: [*fixed, "--port", str(port)], is_up, Path(folder) / "log") as port:
            yield port


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The models that the strategies ask for."""
    return write_models(tmp_path_factory.mktemp("models"))


def write_table(url: str) -> None:
    """Write three strategies into a database, as Alpha Panda keeps them."""
    import sqlalchemy as sa

    from strategy_client.store.table import definition

    learned = {"lookback_periods": 20, "confidence_threshold": 0.5}
    rows = [
        ("momentum", "momentum", {"momentum_threshold": "0.0005", "lookback_periods": 10}, True),
        ("learned_momentum", "ml_momentum", {**learned, "model_path": "models/up_momentum.onnx"}, False),
        ("learned_reversion", "ml_mean_reversion", {**learned, "model_path": "m/up_reversion.onnx"}, False),
    ]
    engine = sa.create_engine(url)
    definition.metadata.create_all(engine)
    with engine.begin() as connection:
        for name, kind, parameters, zerodha in rows:
            values = {"id": name, "strategy_type": kind, "instruments": [1], "parameters": parameters}
            connection.execute(definition.insert().values(**values, zerodha_trading_enabled=zerodha))
    engine.dispose()


def switch_off(url: str, name: str) -> None:
    """Switch a strategy off by SQL, as an operator does."""
    import sqlalchemy as sa

    engine = sa.create_engine(url)
    with engine.begin() as connection:
        text = sa.text("UPDATE strategy_configurations SET is_active = false WHERE id = :id")
        connection.execute(text, {"id": name})
    engine.dispose()


def write_messages(path: Path, prices: list[float]) -> Path:
    """Append a message a tick, one a second, as a feed that writes to a file does."""
    with path.open("a") as file:
        before = path.stat().st_size and len(path.read_text().splitlines())
        for index, price in enumerate(prices[before:], start=before):
            at = (OPENED + timedelta(seconds=index)).isoformat()
            file.write(json.dumps({"token": 1, "price": price, "time": at}) + "\n")
    return path


def read_lines(path: Path) -> list[dict]:
    """A file of one JSON object a line."""
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.skipif(not shutil.which("redis-server"), reason="no redis-server here")
def test_session_with_everything_that_happens_in_one(  # noqa: PLR0915 one session, told in its order
    tmp_path: Path, models: Path
) -> None:
    """A model is replaced, the sidecar dies and returns, SQL stops a strategy, SIGTERM ends the run.

    H2: every tick has exactly one outcome for each strategy, in the audit log and in the record; what the bus
    has of each broker is what was recorded; the metrics are the summary's numbers.
    """
    import redis

    url = f"sqlite:///{tmp_path}/strategies.db"
    write_table(url)
    shutil.copytree(models, tmp_path / "models")
    prices = walk(200, 100, 3).tolist()
    with ExitStack() as stack:
        port = stack.enter_context(redis_server())
        bus = stack.enter_context(redis.Redis(port=port))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ts")))
        socket_file, log = folder / "s.sock", folder / "sidecar.log"
        sidecar = ProcessSidecar(tmp_path / "models", socket_file, log)
        stack.callback(lambda: (sidecar.process.kill(), sidecar.process.wait()))
        sidecar.wait_ready()
        run = stack.enter_context(
            running(
                tmp_path,
                *("--source", f"redis://127.0.0.1:{port}/0?stream=ticks&from=earliest"),
                *("--strategies", url, "--target", sidecar.target),
                *("--sink", f"redis://127.0.0.1:{port}/0?stream={{broker}}.signals.raw"),
                *("--audit", tmp_path / "audit", "--out", tmp_path / "out", "--http", "127.0.0.1:0"),
                *("--deadline-ms", 20_000, "--max-tick-age-ms", 0),
            )
        )
        sent = 0

        def push(count: int) -> None:
            nonlocal sent
            for index in range(sent, sent + count):
                tick = {
                    "instrument_token": 1,
                    "last_price": prices[index],
                    "timestamp": (OPENED + timedelta(seconds=index)).isoformat(),
                }
                bus.xadd("ticks", {"value": json.dumps(tick)})
            sent += count
            run.took(sent)

        eventually(lambda: run.probe("readyz") == (200, "ok\n"), "everything runs")
        push(40)
        first = models_of(run)
        assert set(first) == {"learned_momentum", "learned_reversion"}
        write_model(tmp_path / "models", "up_momentum", momentum_features(20), version=2, seed=2)

        def replaced() -> bool:
            push(1)
            return models_of(run)["learned_momentum"] != first["learned_momentum"]

        eventually(replaced, "the new model answers")
        push(10)
        sidecar.stop(signal.SIGKILL)
        push(10)
        eventually(lambda: run.probe("readyz")[0] in (200, 503), "the probe answers without a sidecar")
        sidecar = ProcessSidecar(tmp_path / "models", socket_file, log).wait_ready()

        def back() -> bool:
            before = run.metrics()['ml_inference_total{strategy="learned_reversion"}']
            push(1)
            return run.metrics()['ml_inference_total{strategy="learned_reversion"}'] > before

        eventually(back, "the sidecar answers again")
        switch_off(url, "momentum")
        off = 'tickserve_client_strategy_enabled{strategy_id="momentum"}'
        eventually(lambda: run.metrics()[off] == 0, "the strategy is off")
        push(5)
        assert run.probe("healthz") == (200, "ok\n")
        metrics = run.metrics()
        assert run.stop() == 0, run.log
        on_the_bus = {
            broker: [
                json.loads(fields[b"value"])["data"] for _, fields in bus.xrange(f"{broker}.signals.raw")
            ]
            for broker in ("paper", "zerodha")
        }
    recorded = read_lines(tmp_path / "out" / "outcomes.jsonl")
    assert [line["tick"] for line in recorded] == list(range(sent))
    names = {"momentum", "learned_momentum", "learned_reversion"}
    assert all(set(line["outcomes"]) == names for line in recorded)
    assert {line["outcomes"]["momentum"] for line in recorded[-5:]} == {"DISABLED"}
    learned = [line["outcomes"]["learned_momentum"] for line in recorded]
    assert {"UNAVAILABLE", "BREAKER_OPEN", "DEADLINE_EXCEEDED"} & set(learned[45:-6])

    audited = [
        line
        for path in sorted((tmp_path / "audit").iterdir())
        if path.is_file()
        for line in path.read_bytes().splitlines()
        if line.startswith(b'{"tick":')
    ]
    assert [json.loads(line)["tick"] for line in audited] == list(range(sent))
    assert all(set(json.loads(line)["said"]) == names for line in audited)

    signals = read_lines(tmp_path / "out" / "signals.jsonl")
    assert len(signals) > 20
    assert list(map(identity, on_the_bus["paper"])) == list(map(identity, signals))
    assert list(map(identity, on_the_bus["zerodha"])) == [
        identity(each) for each in signals if each["strategy_id"] == "momentum"
    ]

    assert "Tick latency against the deadline" in (tmp_path / "out" / "report.html").read_text()
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["ticks"] == sent == metrics["tickserve_client_ticks_total"]
    for name, strategy in summary["strategies"].items():
        assert strategy["ticks"] == sent
        for outcome, count in strategy["outcomes"].items():
            labels = f'{{outcome="{outcome}",strategy_id="{name}"}}'
            assert metrics[f"tickserve_client_outcomes_total{labels}"] == count
    assert len(summary["strategies"]["learned_momentum"]["models"]) == 2
    emitted = sum(
        value for key, value in metrics.items() if key.startswith("trading_signals_generated_total")
    )
    assert emitted == len(on_the_bus["paper"]) + len(on_the_bus["zerodha"])


def models_of(run: Running) -> dict[str, str]:
    """The digest of the model that answered each strategy last."""
    found = [re.fullmatch(r"tickserve_client_model_info\{(.*)\}", name) for name in run.metrics()]
    labels = [dict(re.findall(r'(\w+)="([^"]*)"', match[1])) for match in found if match]
    return {each["strategy_id"]: each["digest"] for each in labels}


def identity(signal_data: dict) -> tuple:
    """What makes a signal the same one, on the bus and in a file."""
    at = signal_data["timestamp"].replace("Z", "+00:00")
    price = float(signal_data["price"])
    return signal_data["strategy_id"], signal_data["signal_type"], signal_data["quantity"], price, at


def _answers(bus: object) -> bool:
    try:
        return bool(bus.ping())
    except OSError:
        return False
    except Exception as error:  # redis has its own for a server that is not there yet
        if type(error).__name__ in {"ConnectionError", "BusyLoadingError"}:
            return False
        raise


def test_file_is_run_to_its_end_without_a_sidecar(tmp_path: Path) -> None:
    """H1: no sidecar and no --target: traditional strategies run, learned ones say UNAVAILABLE, exit 0."""
    ticks = write_csv(tmp_path / "t.csv", csv_lines(1, walk(60, 100, 1)))
    strategies = write_strategies(tmp_path / "s.yaml", [1])
    out = tmp_path / "out"
    with running(
        tmp_path,
        *("--source", ticks, "--strategies", strategies, "--out", out),
        XDG_RUNTIME_DIR=str(tmp_path / "nobody"),
    ) as run:
        assert run.process.wait(PATIENCE_S) == 0, run.log
    recorded = read_lines(out / "outcomes.jsonl")
    assert len(recorded) == 60
    assert {line["outcomes"]["learned_momentum"] for line in recorded[30:]} == {"UNAVAILABLE"}
    assert {line["outcomes"]["momentum"] for line in recorded[30:]} <= {"BUY", "SELL", "HOLD"}
    assert re.search(r"learned_momentum +60 +0 +0 +UNAVAILABLE", run.printed)
    assert "Traceback" not in run.log


def test_feed_that_breaks_is_no_good_end(tmp_path: Path) -> None:
    """A source that fails on the way ends the run with exit code 1, so that whoever started it knows."""
    ticks = tmp_path / "t.jsonl"
    lines = [
        {"time": f"2024-01-02T09:30:0{second}{zone}", "price": 100} for second, zone in enumerate(["Z", ""])
    ]
    ticks.write_text("".join(json.dumps(line) + "\n" for line in lines))
    strategies = tmp_path / "s.yaml"
    strategies.write_text(
        "ticks: {time: time, price: price, token: 1}\n"
        "strategies: [{strategy_name: a, strategy_type: momentum, instrument_tokens: [1]}]\n"
    )
    with running(tmp_path, "--source", ticks, "--strategies", strategies) as run:
        assert run.process.wait(PATIENCE_S) == 1, run.log
    assert "the source failed: BadFileError" in run.printed
    assert re.search(r"1 ticks? in", run.printed)


def test_wrong_configuration_is_told_whole_and_refuses_the_start(tmp_path: Path) -> None:
    """H9: each thing that is wrong is one line, of options and files together; exit 2, nothing written."""
    strategies = tmp_path / "s.yaml"
    strategies.write_text(
        "strategies:\n  - strategy_name: a\n    strategy_type: momentun\n    instruments: [x]\n"
    )
    arguments = ["--source", tmp_path / "no.csv", "--strategies", strategies, "--target", "nowhere"]
    done = subprocess.run(
        [
            *COMMAND,
            *map(str, [*arguments, "--http", "here", "--out", tmp_path / "out", "--sink", "redus://h"]),
        ],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert all(line.startswith("strategy-client: ") for line in lines)
    for part in (
        "target 'nowhere'",
        "--http: 'here'",
        "did you mean 'momentum'",
        "instruments",
        "no.csv",
        "redus",
    ):
        assert [part in line for line in lines].count(True) == 1, (part, lines)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_stops_it_in_order(tmp_path: Path, number: signal.Signals) -> None:
    """One signal: what was taken is written, the summary printed, exit 0."""
    ticks = write_messages(tmp_path / "t.jsonl", walk(50, 100, 1).tolist())
    strategies = write_strategies(tmp_path / "s.yaml", [1])
    out = tmp_path / "out"
    with running(
        tmp_path,
        *("--source", f"file:{ticks}?follow=yes", "--strategies", strategies),
        *("--out", out, "--http", "127.0.0.1:0"),
    ) as run:
        run.took(50)
        assert run.stop(number) == 0
    assert len(read_lines(out / "outcomes.jsonl")) == 50
    assert json.loads((out / "summary.json").read_text())["ticks"] == 50
    assert "50 ticks in" in run.printed
    assert "Traceback" not in run.log


def test_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    """A processor that never returns holds a stop up for its bound; a second signal waits for nothing."""
    (tmp_path / "mine.py").write_text(
        "import threading\n"
        "from live_parts import Buyer\n\n"
        "def create_hanging_processor(parameters):\n"
        "    def hang(tick):\n"
        "        print('hangs', flush=True)\n"
        "        threading.Event().wait()\n"
        "    Buyer.before = staticmethod(hang)\n"
        "    return Buyer(parameters)\n"
    )
    ticks = write_messages(tmp_path / "t.jsonl", walk(3, 100, 1).tolist())
    strategies = tmp_path / "s.yaml"
    strategies.write_text(
        "strategies:\n  - strategy_name: a\n    strategy_type: mine.create_hanging_processor\n"
        "    instruments: [1]\nticks: {time: time, price: price, token: token}\n"
    )
    with running(
        tmp_path,
        *("--source", f"file:{ticks}?follow=yes", "--strategies", strategies),
        PYTHONPATH=os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]),
    ) as run:
        eventually(lambda: "hangs" in run.printed, "the processor hangs")
        run.process.send_signal(signal.SIGTERM)
        eventually(lambda: "SIGTERM: stopping" in run.log, "the first signal is heard")
        assert run.stop(signal.SIGTERM) == 128 + signal.SIGTERM


def test_yaml_changed_by_another_process_is_taken_over(tmp_path: Path) -> None:
    """A strategy that is switched off stops at the next tick; a fault in the file changes nothing else."""
    ticks = write_messages(tmp_path / "t.jsonl", walk(40, 100, 1).tolist())
    strategies = write_strategies(tmp_path / "s.yaml", [1])
    with running(
        tmp_path,
        *("--source", f"file:{ticks}?follow=yes", "--strategies", strategies),
        *("--out", tmp_path / "out", "--http", "127.0.0.1:0"),
    ) as run:
        run.took(40)
        enabled = 'tickserve_client_strategy_enabled{strategy_id="momentum"}'
        assert run.metrics()[enabled] == 1
        text = strategies.read_text()
        broken = text.replace("strategy_type: mean_reversion", "strategy_type: mean_reversal")
        broken = broken.replace(
            "    strategy_type: momentum\n", "    strategy_type: momentum\n    enabled: false\n"
        )
        strategies.write_text(broken)
        eventually(lambda: run.metrics()[enabled] == 0, "the strategy is off")
        eventually(lambda: run.metrics()["tickserve_client_configuration_problems"], "the fault is told")
        status, told = run.probe("readyz")
        assert status == 503
        assert "did you mean 'mean_reversion'" in told
        write_messages(ticks, walk(45, 100, 1).tolist())
        run.took(45)
        strategies.write_text(text)
        eventually(lambda: run.metrics()[enabled] == 1, "it is on again")
        eventually(lambda: not run.metrics()["tickserve_client_configuration_problems"], "nothing is wrong")
        run.process.send_signal(signal.SIGHUP)
        assert run.stop() == 0
    recorded = [line["outcomes"] for line in read_lines(tmp_path / "out" / "outcomes.jsonl")]
    assert {line["momentum"] for line in recorded[40:]} == {"DISABLED"}
    assert {line["reversion"] for line in recorded[40:]} <= {"BUY", "SELL", "HOLD"}


def test_standard_output_is_the_signals_alone_where_they_go_there(tmp_path: Path) -> None:
    """`--sink -` can be piped: each line is a signal, and all that a run says of itself is on the other."""
    ticks = write_csv(tmp_path / "t.csv", csv_lines(1, walk(60, 100, 1)))
    strategies = write_strategies(tmp_path / "s.yaml", [1])
    arguments = ["--source", ticks, "--strategies", strategies, "--out", tmp_path / "out"]
    with running(tmp_path, *arguments, "--sink", "paper=-", XDG_RUNTIME_DIR=str(tmp_path / "nobody")) as run:
        assert run.process.wait(PATIENCE_S) == 0, run.log
    events = [json.loads(line) for line in run.printed.splitlines()]
    assert list(map(identity, (event["data"] for event in events))) == list(
        map(identity, read_lines(tmp_path / "out" / "signals.jsonl"))
    )
    assert len(events) > 5
    assert "60 ticks in" in run.log
    assert re.search(r"learned_momentum +60 +0 +0 +UNAVAILABLE", run.log)
    assert re.search(r"^paper: \d+ signals delivered$", run.log, re.MULTILINE)
    assert f"{tmp_path}/out/report.html\n" in run.log


ASKING = """
import os, signal, sys

class Asking:
    def find_spec(self, name, path=None, target=None):
        if name in ("strategy_client.commands.command_line", "mine"):
            print(name, file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGHUP)

sys.meta_path.insert(0, Asking())
from strategy_client.cli import main
main()
"""


def test_hang_up_in_the_middle_of_the_start_ends_nothing(tmp_path: Path) -> None:
    """SIGHUP asks for the configuration again, also while libraries or strategies are still being read."""
    (tmp_path / "mine.py").write_text("from live_parts import create_buyer_processor\n")
    ticks = write_csv(tmp_path / "t.csv", csv_lines(1, walk(5, 100, 1)))
    strategies = tmp_path / "s.yaml"
    strategies.write_text(
        "strategies:\n  - strategy_name: a\n    strategy_type: mine.create_buyer_processor\n"
        "    instruments: [1]\nticks: {time: time, price: price, token: token}\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", ASKING, "run", "--source", ticks, "--strategies", strategies],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[:2] == ["strategy_client.commands.command_line", "mine"]
    assert "5 ticks in" in done.stdout


def test_two_runs_at_the_same_instant_do_not_share_a_folder(tmp_path: Path) -> None:
    """One of two runs that start together on one folder runs; the other is refused in one line."""
    ticks = write_messages(tmp_path / "t.jsonl", walk(20, 100, 1).tolist())
    strategies = write_strategies(tmp_path / "s.yaml", [1])
    out = tmp_path / "out"
    arguments = ["--source", f"file:{ticks}?follow=yes", "--strategies", strategies, "--out", out]
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    with running(tmp_path / "a", *arguments) as first, running(tmp_path / "b", *arguments) as second:
        both = {first, second}
        eventually(lambda: any(run.process.poll() is not None for run in both), "one is refused")
        (refused,) = (run for run in both if run.process.poll() is not None)
        (other,) = both - {refused}
        assert refused.process.returncode == 1
        said = rf"strategy-client: {out}: another run writes there(, process {other.process.pid})?\n"
        assert re.fullmatch(said, refused.log)
        outcomes_file = out / "outcomes.jsonl"
        eventually(
            lambda: outcomes_file.exists() and outcomes_file.read_text().count("\n") == 20, "its ticks"
        )
        assert other.stop() == 0
    assert json.loads((out / "summary.json").read_text())["ticks"] == 20
    assert not (out / "before").exists()


def test_terminal_that_is_gone_ends_nothing(tmp_path: Path) -> None:
    """Who closes the terminal, or the pipe that lines go to, ends the display; the run goes on to its end."""
    read, write = os.pipe()
    ticks = write_messages(tmp_path / "t.jsonl", walk(20, 100, 1).tolist())
    strategies = write_strategies(tmp_path / "s.yaml", [1])
    code = "from strategy_client.commands import run; run.LINE_EVERY_S = 0.0\n"
    command = [sys.executable, "-c", f"{code}from strategy_client.cli import main; main()", "run"]
    arguments = [
        "--source",
        f"file:{ticks}?follow=yes",
        "--strategies",
        strategies,
        "--out",
        tmp_path / "out",
    ]
    process = subprocess.Popen(
        [*command, *map(str, arguments)], stdout=subprocess.DEVNULL, stderr=write, stdin=subprocess.DEVNULL
    )
    try:
        os.close(write)
        assert b"4 strategies" in os.read(read, 100)
        os.close(read)
        outcomes_file = tmp_path / "out" / "outcomes.jsonl"
        eventually(lambda: len(outcomes_file.read_text().splitlines()) == 20, "the ticks")
        write_messages(ticks, walk(40, 100, 1).tolist())
        eventually(lambda: len(outcomes_file.read_text().splitlines()) == 40, "the ticks after that")
        process.terminate()
        assert process.wait(PATIENCE_S) == 0
    finally:
        process.kill()
        process.wait()


def test_address_in_use_refuses_the_start(tmp_path: Path) -> None:
    """Metrics that nobody could read are told before anything runs or is written; exit 2."""
    strategies = write_strategies(tmp_path / "s.yaml", [1])
    ticks = write_csv(tmp_path / "t.csv", csv_lines(1, walk(5, 100, 1)))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        arguments = ["--source", ticks, "--strategies", strategies, "--out", tmp_path / "out"]
        done = subprocess.run(
            [*COMMAND, *map(str, arguments), "--http", f"127.0.0.1:{taken.getsockname()[1]}"],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
    assert done.returncode == 2
    assert "--http: 127.0.0.1" in done.stderr
    assert "in use" in done.stderr
    assert not (tmp_path / "out").exists()
