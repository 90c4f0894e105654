"""Nothing beside the loop delays or ends it: each thing around it is paused, filled, removed or cut."""

import errno
import functools
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fixtures_session import walk, write_models
from live_parts import PushSource, SetStore, Told, buyer, live_run, outcomes
from sidecars import ProcessSidecar, eventually, process_sidecar

from strategy_client.audit import AuditLog, AuditOptions
from strategy_client.configuration import StrategyConfig
from strategy_client.live.session import LiveRun
from strategy_client.recording.file_names import LATENCY
from strategy_client.sinks import open_fan_out
from strategy_client.store import open_store

PRICES = walk(200, 100, 1).tolist()
MOMENTUM = StrategyConfig(
    "momentum", "momentum", {"momentum_threshold": "0.0005", "lookback_periods": 10}, ("paper",), (1,)
)
LEARNED = StrategyConfig(
    "learned",
    "ml_momentum",
    {"model": "up_momentum", "confidence_threshold": 0.5, "outside_training_range": "count"},
    ("paper",),
    (1,),
)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The models, written once."""
    return write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def sidecar(models: Path) -> Iterator[ProcessSidecar]:
    """A sidecar as a process; one that a test paused goes on before it is ended."""
    with process_sidecar(models) as process:
        yield process
        process.process.send_signal(signal.SIGCONT)


def listened(live: LiveRun) -> Told:
    """Have a listener that remembers told of each tick."""
    told = Told()
    live.loop._listeners = (*live.loop._listeners, told)
    return told


def alone(prices: list[float]) -> list[str]:
    """What the traditional strategy says of these prices where it runs by itself."""
    source = PushSource()
    with live_run(SetStore(MOMENTUM), source) as live:
        told = listened(live)
        source.push(*prices)
        source.end()
        assert live.wait(60)
    return [line[0] for line in outcomes(told.ticks)]


def test_paused_sidecar_costs_one_deadline_and_no_traditional_signal(sidecar: ProcessSidecar) -> None:
    """H4: SIGSTOP costs the learned strategy its signals, the other one none; SIGCONT brings them back."""
    source = PushSource()
    store = SetStore(MOMENTUM, LEARNED)
    with live_run(store, source, targets=[sidecar.target], deadline_ms=3_000) as live:
        told = listened(live)
        eventually(lambda: not live.view.degraded() and live.view.endpoints[0].ready, "it is bound")
        source.push(*PRICES[:60])
        eventually(lambda: len(told.ticks) == 60, "sixty ticks")
        sidecar.pause()
        source.push(*PRICES[60:160])
        eventually(lambda: len(told.ticks) == 160, "the loop goes on")
        os.kill(sidecar.process.pid, signal.SIGCONT)
        answered = live.view.calls[sidecar.target].answered

        def back() -> bool:
            source.push(PRICES[160])
            return live.view.calls[sidecar.target].answered > answered

        eventually(back, "it answers again")
    came = outcomes(told.ticks)
    assert [line[0] for line in came[:160]] == alone(PRICES[:160])
    learned = [line[1] for line in came[60:160]]
    assert learned.count("DEADLINE_EXCEEDED") == 1
    assert set(learned[learned.index("DEADLINE_EXCEEDED") + 1 :]) == {"BREAKER_OPEN"}


def test_full_disk_under_the_record_costs_the_record(tmp_path: Path) -> None:
    """The disk of --out has no room: the record ends, which is told; each tick has its outcome."""
    (tmp_path / LATENCY).symlink_to("/dev/full")
    source = PushSource()
    with live_run(SetStore(buyer()), source, tmp_path) as live:
        told = listened(live)
        source.push(*range(1, 51))
        eventually(lambda: len(told.ticks) == 50, "the loop goes on")
        recorder = live.view.parts.recorder
        assert recorder is not None
        eventually(lambda: recorder.problem, "the disk refused")
        assert "No space left" in recorder.problem
        assert any(line.startswith("recording: ") for line in live.view.degraded())
        source.push(51)
        eventually(lambda: len(told.ticks) == 51, "the loop goes on after that")
    assert recorder.dropped >= 1
    assert not live.failed


def test_full_disk_under_the_audit_log_drops_and_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """H10: the log's disk takes nothing: records are dropped and counted, and no tick waits for it."""
    small = functools.partial(AuditLog, options=AuditOptions(max_queued=5), close_timeout_s=0.1)
    monkeypatch.setattr("strategy_client.live.session.AuditLog", small)
    source = PushSource()
    with live_run(SetStore(buyer()), source, audit=tmp_path / "audit") as live:
        told = listened(live)
        audit = live.view.parts.audit
        assert audit is not None

        def full(_writer: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("strategy_client.audit.writer.Writer.make_room", full)
        source.push(*range(1, 51))
        eventually(lambda: len(told.ticks) == 50, "the loop goes on")
        assert audit.counts.dropped >= 40


def test_dead_bus_holds_up_neither_ticks_nor_the_end() -> None:
    """Nobody listens where the signals go: they wait, the loop goes on, and the end has its bound."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        fan_out = open_fan_out([f"redis://127.0.0.1:{closed.getsockname()[1]}/0?stream=x.{{broker}}"])
        source = PushSource()
        live = live_run(SetStore(buyer()), source, fan_out=fan_out)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("strategy_client.live.session.FLUSH_S", 0.1)
            with live:
                told = listened(live)
                source.push(*range(1, 51))
                eventually(lambda: len(told.ticks) == 50, "the loop goes on")
    counts = live.view.sinks["paper"]
    assert (counts.taken, counts.sent) == (50, 0)
    assert counts.dropped + counts.failed + counts.queued == 50


def test_database_that_is_gone_changes_nothing(tmp_path: Path) -> None:
    """What runs goes on; the loss is told, and what changes after its return is taken over."""
    import sqlalchemy as sa

    from strategy_client.store.table import definition

    path = tmp_path / "strategies.db"
    url = f"sqlite:///{path}"
    engine = sa.create_engine(url)
    definition.metadata.create_all(engine)
    with engine.begin() as connection:
        parameters = {"momentum_threshold": "0.0005", "lookback_periods": 10}
        row = {"id": "momentum", "strategy_type": "momentum", "instruments": [1], "parameters": parameters}
        connection.execute(definition.insert().values(**row))
    engine.dispose()
    source = PushSource()
    with live_run(open_store(url), source) as live:
        told = listened(live)
        shutil.move(path, tmp_path / "aside")
        path.mkdir()
        live.reload()
        eventually(lambda: live.view.parts.watch.problems or live.journal.last, "it is told")
        source.push(*PRICES[:20])
        eventually(lambda: len(told.ticks) == 20, "the loop goes on")
        path.rmdir()
        shutil.move(tmp_path / "aside", path)
        engine = sa.create_engine(url)
        with engine.begin() as connection:
            connection.execute(sa.text("UPDATE strategy_configurations SET is_active = false"))
        engine.dispose()
        eventually(lambda: not live.runner.executors[0].enabled, "the change is taken over")
        eventually(lambda: live.view.parts.watch.problems == (), "nothing is wrong any more")
    assert [line[0] for line in outcomes(told.ticks)] == alone(PRICES[:20])


def test_socket_of_a_sidecar_that_never_answers_holds_up_neither_start_nor_end() -> None:
    """H1: something listens and says nothing: the run starts, and stops, without waiting for it."""
    with tempfile.TemporaryDirectory(prefix="ts") as folder, socket.socket(socket.AF_UNIX) as mute:
        mute.bind(f"{folder}/s")
        mute.listen()
        source = PushSource()
        with live_run(SetStore(MOMENTUM, LEARNED), source, targets=[f"unix:{folder}/s"]) as live:
            told = listened(live)
            source.push(*PRICES[:30])
            eventually(lambda: len(told.ticks) == 30, "the loop goes on")
    assert outcomes(told.ticks)[-1][1] == "UNAVAILABLE"
