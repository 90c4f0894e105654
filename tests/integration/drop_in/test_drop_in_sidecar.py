"""Our processors in a runner like Alpha Panda's, asking a real sidecar that is paused, killed and swapped."""

import os
import signal
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from alpha_panda_runner import Row, Runner
from alpha_panda_runner import SignalResult as TheirSignalResult
from fixtures_session import OPENED, walk, write_model
from sidecars import ProcessSidecar, eventually, process_sidecar, put, thread_sidecar

from inference_server.rpc.address import Address
from strategy_client import InferenceClient, MarketTick, Signal, StrategyRunner
from strategy_client.bindings import Bindings
from strategy_client.configuration import StrategyConfig
from strategy_client.drop_in import shared_client
from strategy_client.factory import StrategyFactory
from strategy_client.lineup import create_executors, wanted_models
from strategy_client.runner import RunnerOptions

# Of no scale, so that instruments of any price lie in the training range.
MOMENTUM, REVERSION = ("return_20", "volatility_20"), ("zscore_20",)
TOKENS = tuple(range(101, 121))
TYPES = {
    "momentum": {"momentum_threshold": "0.002"},
    "mean_reversion": {"std_deviation_threshold": 1.5},
    "ml_momentum": {
        "model_path": "models/up_momentum.joblib",
        "features": list(MOMENTUM),
        "confidence_threshold": 0.5,
    },
    "ml_mean_reversion": {"model": "up_reversion", "features": list(REVERSION), "confidence_threshold": 0},
}
DEADLINE_MS = 30_000.0


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two models."""
    folder = tmp_path_factory.mktemp("drop_in") / "models"
    write_model(folder, "up_momentum", MOMENTUM)
    write_model(folder, "up_reversion", REVERSION)
    return folder


@pytest.fixture(scope="module")
def sidecar(models: Path) -> Iterator[ProcessSidecar]:
    """A sidecar as a process, for all tests that leave it as it was."""
    with process_sidecar(models) as running:
        yield running


@pytest.fixture
def runner() -> Iterator[Runner]:
    """The other runner, with our processors registered; all are closed at the end."""
    made = Runner()
    for strategy_type in TYPES:
        made.register_processor(strategy_type, f"strategy_client.drop_in.create_{strategy_type}_processor")
    yield made
    for executor in made.executors.values():
        executor.processor.close()
    assert shared_client._shares == {}


def row(strategy_type: str, target: str, tokens: tuple[int, ...] = (101,), **parameters: object) -> Row:
    """A row of the table for one of `TYPES`."""
    learned = {"endpoint": target, "deadline_ms": DEADLINE_MS} if strategy_type.startswith("ml_") else {}
    theirs = {"signal_result": "alpha_panda_runner.SignalResult"}
    chosen = {**TYPES[strategy_type], **learned, **theirs, **parameters}
    return Row(strategy_type, strategy_type, chosen, tokens)


def data(price: float, token: int = 101, second: int = 0) -> dict[str, Any]:
    """A tick's fields as they come out of the envelope."""
    when = (OPENED + timedelta(seconds=second)).isoformat()
    return {"instrument_token": token, "last_price": price, "timestamp": when}


def session(tokens: tuple[int, ...], length: int) -> list[dict[str, Any]]:
    """Random walks of several instruments, one tick each a second."""
    walks = {token: walk(length, 100.0 + token, token).tolist() for token in tokens}
    return [data(walks[token][second], token, second) for second in range(length) for token in tokens]


def our_signals(target: str, ticks: list[dict[str, Any]], tokens: tuple[int, ...]) -> list[Signal]:
    """What our own runner makes of the same ticks, strategies and models."""
    configs = [
        StrategyConfig(name, name, parameters, ("paper",), tokens) for name, parameters in TYPES.items()
    ]
    executors = create_executors(configs, StrategyFactory())
    with InferenceClient(target) as client:
        client.wait_ready(60.0)
        bindings = Bindings(wanted_models(executors), client.describe)
        bindings.start()
        runner = StrategyRunner(executors, client, bindings, RunnerOptions(deadline_ms=DEADLINE_MS))
        found = []
        for each in ticks:
            when = OPENED.fromisoformat(each["timestamp"])
            tick = MarketTick(each["instrument_token"], Decimal(str(each["last_price"])), when)
            found += [outcome for outcome in runner.process(tick) if isinstance(outcome, Signal)]
        bindings.close()
    return found


def test_twenty_instruments_give_the_signals_of_our_own_runner(
    sidecar: ProcessSidecar, runner: Runner
) -> None:
    """Two rules and two models on 20 tokens: the same signals to the digit, whatever their history mixes."""
    runner.load([row(name, sidecar.target, TOKENS) for name in TYPES])
    assert (runner.skipped, runner.loaded) == ({}, {"ml_momentum": True, "ml_mean_reversion": True})
    ticks = session(TOKENS, 60)
    for each in ticks:
        runner.handle(each)
    expected = our_signals(sidecar.target, ticks, TOKENS)
    assert len(expected) > 500
    assert {each.strategy_id for each in expected} == set(TYPES)
    varying = ("latency_us", "request_id")

    def essence(metadata: Any) -> dict[str, Any]:
        return {name: value for name, value in metadata.items() if name not in varying}

    assert [
        (each["strategy_id"], each["signal_type"], each["quantity"], each["price"], each["confidence"])
        for each in runner.emitted
    ] == [
        (each.strategy_id, each.signal_type, each.quantity, each.price, each.confidence) for each in expected
    ]
    assert [essence(each["metadata"]) for each in runner.emitted] == [
        essence(each.metadata) for each in expected
    ]
    assert {type(each) for each in runner.results} == {TheirSignalResult}
    for executor in runner.executors.values():
        assert executor.processor.outcomes.total() == len(ticks)


def ready(target: str, runner: Runner, deadline_ms: float) -> Any:
    """One learned strategy, warm; its processor."""
    runner.load([row("ml_mean_reversion", target, deadline_ms=deadline_ms), row("momentum", target)])
    processor = runner.executors["ml_mean_reversion"].processor
    eventually(lambda: answers(processor, runner), "it answers")
    return processor


def answers(processor: Any, runner: Runner) -> bool:
    """Hand over a tick; whether the learned strategy gave a signal."""
    before = processor.outcomes["BUY"] + processor.outcomes["SELL"]
    second = processor.outcomes.total()
    runner.handle(data(100 + second % 7 / 100, second=second))
    return processor.outcomes["BUY"] + processor.outcomes["SELL"] > before


def test_a_paused_sidecar_costs_one_deadline_then_nothing(sidecar: ProcessSidecar, runner: Runner) -> None:
    """H4: after SIGSTOP one call waits for its deadline, the next are refused; SIGCONT brings answers."""
    processor = ready(sidecar.target, runner, 500.0)
    before = processor.outcomes.copy()
    sidecar.pause()
    try:
        for _ in range(50):
            answers(processor, runner)
        assert processor.outcomes - before == {"DEADLINE_EXCEEDED": 1, "BREAKER_OPEN": 49}
    finally:
        os.kill(sidecar.process.pid, signal.SIGCONT)
    eventually(lambda: answers(processor, runner), "it answers again")
    assert runner.executors["momentum"].processor.outcomes.total() > 50


def test_a_killed_sidecar_gives_reasons_until_it_is_back(
    models: Path, runner: Runner, tmp_path: Path
) -> None:
    """H2: killed, each tick has a reason and none an old answer; started again there are signals, unasked."""
    first = ProcessSidecar(models, tmp_path / "s.sock", tmp_path / "log").wait_ready()
    try:
        processor = ready(first.target, runner, DEADLINE_MS)
    finally:
        first.stop(signal.SIGKILL)
    before = processor.outcomes.copy()
    emitted = len(runner.emitted)
    for _ in range(20):
        assert not answers(processor, runner)
    came = processor.outcomes - before
    assert set(came) <= {"UNAVAILABLE", "BREAKER_OPEN"}
    assert came.total() == 20
    assert not any(each["strategy_id"].startswith("ml_") for each in runner.emitted[emitted:])
    with thread_sidecar(models, [Address(path=tmp_path / "s.sock")]):
        eventually(lambda: answers(processor, runner), "it answers again")


def test_a_sidecar_that_comes_later_is_found(
    models: Path, runner: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """H1: the runner loads a strategy once; without a sidecar it loads all the same, and answers later."""
    monkeypatch.setattr(shared_client, "PATIENCE_S", 0.2)
    target = f"unix:{tmp_path / 's.sock'}"
    runner.load([row("ml_mean_reversion", target), row("ml_momentum", target)])
    [share] = shared_client._shares.values()
    assert share.client.wait_left_s() == 0  # what one strategy has waited no other waits again
    assert (runner.skipped, runner.loaded) == ({}, {"ml_momentum": False, "ml_mean_reversion": False})
    processor = runner.executors["ml_mean_reversion"].processor
    assert not any(answers(processor, runner) for _ in range(30))
    assert set(processor.outcomes) == {"WARMING_UP", "UNAVAILABLE"}
    with thread_sidecar(models, [Address(path=tmp_path / "s.sock")]):
        eventually(lambda: answers(processor, runner), "it answers")
        assert processor.model is not None


def test_a_swap_is_named_in_the_next_signal(models: Path, runner: Runner, tmp_path: Path) -> None:
    """A newer file under the runner's feet: signals go on, and name the bytes that made them."""
    own = tmp_path / "models"
    own.mkdir()
    old = own / "up_reversion.onnx"
    put(old, (models / "up_reversion.onnx").read_bytes())
    newer = write_model(tmp_path / "next", "up_reversion", REVERSION, 2, seed=9)
    with thread_sidecar(own) as sidecar:
        processor = ready(sidecar.unix, runner, DEADLINE_MS)
        [before] = {each["metadata"]["digest"] for each in runner.emitted if "digest" in each["metadata"]}
        put(old, newer.read_bytes())

        def newest() -> Any:
            answers(processor, runner)
            made_by = [each["metadata"] for each in runner.emitted if "digest" in each["metadata"]][-1]
            return made_by["digest"] != before and made_by

        assert eventually(newest, "the newer version answers")["version"] == 2
    assert processor.outcomes["CONTRACT_MISMATCH"] == 0


def test_one_wrong_strategy_leaves_the_others(sidecar: ProcessSidecar, runner: Runner) -> None:
    """A strategy that can never work is skipped with its reason, and the runner starts with the rest."""
    rows = [
        row("ml_momentum", sidecar.target, model_path="models/up_momentun.joblib"),
        row("ml_mean_reversion", sidecar.target, features=["price"]),
        row("momentum", sidecar.target, momentum_threshold="none"),
        row("mean_reversion", sidecar.target),
    ]
    runner.load(rows)
    assert list(runner.executors) == ["mean_reversion"]
    assert "did you mean 'up_momentum'?" in runner.skipped["ml_momentum"]
    assert "CONTRACT_MISMATCH" in runner.skipped["ml_mean_reversion"]
    assert "momentum_threshold: expected a number above 0, came 'none'" in runner.skipped["momentum"]
