"""Whole replays through a real sidecar process."""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import psutil
import pytest
from fixtures_session import (
    MOMENTUM_LOOKBACK,
    csv_lines,
    momentum_features,
    walk,
    write_csv,
    write_model,
    write_models,
    write_strategies,
)
from rich.console import Console
from sidecars import eventually

from strategy_client.factory import StrategyFactory
from strategy_client.predictor.breaker import BreakerState
from strategy_client.predictor.client import InferenceClient
from strategy_client.predictor.description import Description, ModelDescription
from strategy_client.recording.summary import Summary
from strategy_client.recording.table import summary_table
from strategy_client.replay.replacement import Replacement
from strategy_client.replay.session import Replay, ReplayOptions, Sidecar
from strategy_client.sidecar.own_sidecar import OwnSidecar
from strategy_client.sinks.jsonl import VARYING
from strategy_client.store.strategy_file import read_strategies

TICKS = 600
TRADITIONAL = {"momentum", "reversion"}
LEARNED = {"learned_momentum", "learned_reversion"}
ANSWERED = {"BUY", "SELL", "BELOW_THRESHOLD"}


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write models, strategies and ticks: two instruments at very different prices, apart and interleaved."""
    folder = tmp_path_factory.mktemp("session")
    write_models(folder / "models")
    write_model(folder / "newer", "up_momentum", momentum_features(MOMENTUM_LOOKBACK), version=2, seed=5)
    cheap, dear = csv_lines(1, walk(TICKS, 95.0, 7)), csv_lines(2, walk(TICKS, 60_000.0, 8))
    write_csv(folder / "cheap.csv", cheap)
    write_csv(folder / "dear.csv", dear)
    write_csv(folder / "both.csv", [line for pair in zip(cheap, dear, strict=True) for line in pair])
    return folder


def replay(
    session: Path,
    out: Path,
    ticks: str = "both.csv",
    tokens: tuple[int, ...] = (1, 2),
    acts: Mapping[int, Callable[[Sidecar], None]] | None = None,
    **options: Any,
) -> Summary:
    """Replay a file of the session."""
    out.mkdir(exist_ok=True)
    file = read_strategies(write_strategies(out / "strategies.yaml", list(tokens)), StrategyFactory())
    assert file.ticks is not None
    return Replay(
        ReplayOptions(
            ticks=[session / name for name in ticks.split()],
            strategies=file.strategies,
            columns=file.ticks,
            out=out,
            models=session / "models",
            **options,
        ),
        acts=acts,
    ).run()


def signals(out: Path) -> list[dict[str, Any]]:
    """Return the signals without the fields that vary between runs."""
    read = [json.loads(line) for line in (out / "signals.jsonl").read_text().splitlines()]
    for signal in read:
        for name in VARYING:
            signal["metadata"].pop(name, None)
    return read


def outcomes(out: Path) -> list[dict[str, str]]:
    """Return each tick's outcomes."""
    return [json.loads(line)["outcomes"] for line in (out / "outcomes.jsonl").read_text().splitlines()]


def of(strategies: set[str], found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the signals of some strategies."""
    return [signal for signal in found if signal["strategy_id"] in strategies]


def assert_complete(summary: Summary, out: Path, ticks: int = 2 * TICKS) -> None:
    """Assert one outcome for each strategy and tick, in the summary and in the file."""
    for strategy in summary.strategies:
        assert sum(strategy.outcomes.values()) == strategy.ticks == ticks
    assert summary.calls is not None
    assert summary.calls.requests == summary.calls.answered + summary.calls.failed + summary.calls.missed
    written = outcomes(out)
    assert len(written) == ticks
    assert all(set(each) == TRADITIONAL | LEARNED for each in written)


@pytest.fixture(scope="module")
def undisturbed(session: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Replay the session once with nothing in its way."""
    out = tmp_path_factory.mktemp("undisturbed")
    summary = replay(session, out)
    assert summary.failed_calls == 0
    assert summary.to_json()["transports"] == ["h2"]
    assert_complete(summary, out)
    return out


def test_same_bytes_twice(session: Path, undisturbed: Path, tmp_path: Path) -> None:
    """G4: a second run writes the same outcomes, and signals that differ in the named fields only."""
    replay(session, tmp_path)
    assert (tmp_path / "outcomes.jsonl").read_bytes() == (undisturbed / "outcomes.jsonl").read_bytes()
    assert signals(tmp_path) == signals(undisturbed)
    assert of(LEARNED, signals(undisturbed))
    assert of(TRADITIONAL, signals(undisturbed))


def test_two_instruments_interleaved_are_two_separate_runs(
    session: Path, undisturbed: Path, tmp_path: Path
) -> None:
    """ORIGIN defect 1: interleaved instruments give the signals of one replay each."""
    apart = []
    for token, name in ((1, "cheap.csv"), (2, "dear.csv")):
        out = tmp_path / name
        replay(session, out, name, (token,))
        apart += signals(out)
    together = signals(undisturbed)
    for signal in [*apart, *together]:
        del signal["tick"]

    def order(signal: dict[str, Any]) -> tuple[Any, ...]:
        return signal["timestamp"], signal["instrument_token"], signal["strategy_id"]

    assert sorted(apart, key=order) == sorted(together, key=order)


def test_several_files_come_in_the_order_of_time(session: Path, undisturbed: Path, tmp_path: Path) -> None:
    """Two files replayed together are what their ticks merged by time are."""
    replay(session, tmp_path, "cheap.csv dear.csv")
    assert (tmp_path / "outcomes.jsonl").read_bytes() == (undisturbed / "outcomes.jsonl").read_bytes()


def test_killed_sidecar_leaves_the_traditional_strategies_alone(
    session: Path, undisturbed: Path, tmp_path: Path
) -> None:
    """E7, H2: kill -9 in mid-replay changes no traditional signal.

    The learned strategies give typed reasons while the sidecar is gone, and signals again once it is back.
    """
    killed_at, back_at = 400, 700

    def kill(sidecar: Sidecar) -> None:
        assert sidecar.own is not None
        sidecar.own.kill()

    def start(sidecar: Sidecar) -> None:
        assert sidecar.own is not None
        assert sidecar.client is not None
        sidecar.own.start()
        sidecar.own.wait_ready(sidecar.client)

    summary = replay(session, tmp_path, acts={killed_at: kill, back_at: start})
    assert_complete(summary, tmp_path)
    assert of(TRADITIONAL, signals(tmp_path)) == of(TRADITIONAL, signals(undisturbed))
    came, expected = outcomes(tmp_path), outcomes(undisturbed)
    assert came[:killed_at] == expected[:killed_at]
    gone = {each[name] for each in came[killed_at:back_at] for name in LEARNED}
    assert gone == {"UNAVAILABLE", "BREAKER_OPEN"}
    assert came[back_at:] == expected[back_at:]
    assert summary.calls is not None
    assert summary.calls.breaker_opened >= 1


def test_paused_sidecar_costs_one_deadline(session: Path, undisturbed: Path, tmp_path: Path) -> None:
    """E9: SIGSTOP of the sidecar costs one tick its deadline, the breaker the others nothing.

    It comes back by itself after SIGCONT; no answer to a tick from before is ever used (H3).
    """
    paused_at, resumed_at = 400, 700

    def pause(sidecar: Sidecar) -> None:
        assert sidecar.own is not None
        process = psutil.Process(sidecar.own.pid)
        process.suspend()
        eventually(lambda: process.status() == psutil.STATUS_STOPPED, "the sidecar is paused")

    def resume(sidecar: Sidecar) -> None:
        assert sidecar.own is not None
        assert sidecar.client is not None
        client = sidecar.client
        assert client.breaker_state is BreakerState.OPEN
        psutil.Process(sidecar.own.pid).resume()
        eventually(lambda: client.breaker_state is not BreakerState.OPEN, "a probe was answered")

    summary = replay(
        session, tmp_path, acts={paused_at: pause, resumed_at: resume}, deadline_ms=2_000.0, window=1
    )
    assert_complete(summary, tmp_path)
    assert of(TRADITIONAL, signals(tmp_path)) == of(TRADITIONAL, signals(undisturbed))
    came, expected = outcomes(tmp_path), outcomes(undisturbed)
    assert came[:paused_at] == expected[:paused_at]
    assert {came[paused_at][name] for name in LEARNED} == {"DEADLINE_EXCEEDED"}
    assert {each[name] for each in came[paused_at + 1 : resumed_at] for name in LEARNED} == {"BREAKER_OPEN"}
    assert came[resumed_at:] == expected[resumed_at:]
    assert summary.calls is not None
    assert (summary.calls.missed, summary.calls.failed, summary.calls.breaker_opened) == (1, 0, 1)


def test_model_swapped_at_a_tick(session: Path, undisturbed: Path, tmp_path: Path) -> None:
    """B1: before the tick the old version answers, from it on the new one; no call fails.

    The user's folder of models is as it was.
    """
    before = (session / "models" / "up_momentum.onnx").read_bytes()
    newer = session / "newer" / "up_momentum.onnx"
    summary = replay(session, tmp_path, replacements=[Replacement(500, "up_momentum", newer)])
    assert_complete(summary, tmp_path)
    assert summary.failed_calls == 0
    digests = [hashlib.sha256(content).hexdigest() for content in (before, newer.read_bytes())]
    learned = of({"learned_momentum"}, signals(tmp_path))
    for signal in learned:
        made_by = signal["metadata"]["version"], signal["metadata"]["digest"]
        assert made_by == ((2, digests[1]) if signal["tick"] >= 500 else (1, digests[0]))
    written = json.loads((tmp_path / "summary.json").read_text())
    models = written["strategies"]["learned_momentum"]["models"]
    assert [model["digest"] for model in models] == digests
    assert written["failed_calls"] == 0
    assert [each.refused for each in summary.replaced] == [""]
    untouched = {*TRADITIONAL, "learned_reversion"}
    assert of(untouched, signals(tmp_path)) == of(untouched, signals(undisturbed))
    assert (session / "models" / "up_momentum.onnx").read_bytes() == before


def test_refused_model_leaves_the_old_one_answering(session: Path, undisturbed: Path, tmp_path: Path) -> None:
    """A5: a truncated file dropped over a live model fails no call, and the summary says why."""
    truncated = tmp_path / "truncated.onnx"
    truncated.write_bytes((session / "newer" / "up_momentum.onnx").read_bytes()[:400])
    summary = replay(session, tmp_path, replacements=[Replacement(300, "up_momentum", truncated)])
    assert summary.failed_calls == 0
    assert summary.replaced[0].refused
    assert signals(tmp_path) == signals(undisturbed)


def test_replacement_that_is_never_reached_is_told(session: Path, tmp_path: Path) -> None:
    """A tick that the file does not have replaces nothing, and the summary says so."""
    newer = session / "newer" / "up_momentum.onnx"
    replacement = Replacement(TICKS, "up_momentum", newer)
    summary = replay(session, tmp_path, "cheap.csv", (1,), replacements=[replacement])
    assert [each.refused for each in summary.replaced] == [f"the ticks ended before it, after {TICKS}"]
    table = Console(record=True, width=120, file=StringIO())
    table.print(summary_table(summary))
    digest = hashlib.sha256(newer.read_bytes()).hexdigest()[:12]
    assert f"tick 600: up_momentum not replaced by {digest}: the ticks ended" in table.export_text()


def test_problem_that_passes_is_no_refusal(session: Path) -> None:
    """A model that the sidecar has not looked at yet is waited for, although it has a problem meanwhile."""
    names = ("up_momentum", "up_reversion")
    waiting = Description(
        {name: ModelDescription(name, (), 0, "not found yet") for name in names}, ready=False
    )

    class Passing(InferenceClient):
        described = 0

        def describe(self, models: Sequence[str] = (), timeout_s: float = 5.0) -> Description:
            self.described += 1
            return waiting if self.described < 4 else super().describe(models, timeout_s)

    with OwnSidecar(session / "models") as own, Passing(own.target) as client:
        served = own.wait_ready(client).models
    assert [served[name].default_version for name in names] == [1, 1]


def test_models_that_cannot_be_copied_leave_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of models with a dangling link is an error, and the private folder is gone."""
    models, temporary = tmp_path / "models", tmp_path / "tmp"
    models.mkdir()
    temporary.mkdir()
    (models / "m.onnx").symlink_to("gone")
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    with pytest.raises(OSError, match=r"m\.onnx"), OwnSidecar(models):
        pass
    assert list(temporary.iterdir()) == []


def test_other_contract_and_back_at_their_ticks(session: Path, undisturbed: Path, tmp_path: Path) -> None:
    """H5: a swap to another contract is CONTRACT_MISMATCH from its tick on, until the swap back."""
    other = write_model(tmp_path / "other", "up_momentum", ("price", "return_20"), version=3)
    mended = write_model(tmp_path / "mended", "up_momentum", momentum_features(MOMENTUM_LOOKBACK), version=4)
    replacements = [Replacement(500, "up_momentum", other), Replacement(700, "up_momentum", mended)]
    summary = replay(session, tmp_path, replacements=replacements, allow_contract_change=["up_momentum"])
    assert_complete(summary, tmp_path)
    came = [each["learned_momentum"] for each in outcomes(tmp_path)]
    expected = [each["learned_momentum"] for each in outcomes(undisturbed)]
    assert came[:500] == expected[:500]
    assert set(came[500:700]) == {"CONTRACT_MISMATCH"}
    assert came[700:] == expected[700:]


def test_another_contract_is_refused_unless_it_is_allowed(
    session: Path, undisturbed: Path, tmp_path: Path
) -> None:
    """C4, H5: a file of another contract does not replace the old one; the reason is told."""
    other = write_model(tmp_path / "other", "up_momentum", ("price", "return_20"), version=3)
    summary = replay(session, tmp_path, replacements=[Replacement(500, "up_momentum", other)])
    (replaced,) = summary.replaced
    assert "its contract is not that of version" in replaced.refused
    assert "--allow-contract-change up_momentum" in replaced.refused
    came = [each["learned_momentum"] for each in outcomes(tmp_path)]
    assert came == [each["learned_momentum"] for each in outcomes(undisturbed)]


def test_a_replay_leaves_nothing_in_the_users_state_folder(
    session: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What its sidecar keeps for a rollback goes with its own folder."""
    for name in ("XDG_STATE_HOME", "STATE_DIRECTORY"):
        monkeypatch.setenv(name, str(tmp_path / "users"))
    replay(session, tmp_path)
    assert not (tmp_path / "users").exists()


def test_sidecar_and_its_folder_are_gone_afterwards(session: Path, tmp_path: Path) -> None:
    """The replay's own sidecar is stopped and its folder removed, after an error too."""
    seen: list[tuple[int, Path]] = []

    def look(sidecar: Sidecar) -> None:
        assert sidecar.own is not None
        assert sidecar.own.pid is not None
        seen.append((sidecar.own.pid, sidecar.own.models))

    def fail(_sidecar: Sidecar) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replay(session, tmp_path, acts={0: look, 50: fail})
    ((pid, models),) = seen
    assert not models.parent.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
