"""Logs of real replays, verified against real models, and what is done to them in between."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fixtures_audit import rechain, records
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
from typer.testing import CliRunner

from strategy_client.audit.folder import lock_folder
from strategy_client.audit.served import find_files
from strategy_client.audit.verdict import DIFFERS, UNVERIFIED, VERIFIED, Verdict
from strategy_client.audit.verification import Verification, VerificationOptions
from strategy_client.commands.command_line import app
from strategy_client.factory import StrategyFactory
from strategy_client.replay.replacement import Replacement
from strategy_client.replay.session import Replay, ReplayOptions
from strategy_client.sidecar.own_sidecar import OwnSidecar
from strategy_client.store.strategy_file import read_strategies

TICKS = 240
SWAP = 120
LEARNED = ("learned_momentum", "learned_reversion")


@dataclass(frozen=True)
class Session:
    """A replay with a swap in the middle: its log, and the models before and after."""

    folder: Path
    log: Path
    models: Path
    newer: Path


@pytest.fixture(scope="module")
def session(tmp_path_factory) -> Session:
    """Replay a session with a swap and write its log."""
    folder = tmp_path_factory.mktemp("session")
    models = write_models(folder / "models")
    newer = write_model(folder / "newer", "up_momentum", momentum_features(MOMENTUM_LOOKBACK), 2, seed=5)
    ticks = write_csv(folder / "ticks.csv", csv_lines(1, walk(TICKS, 100.0, 1)))
    file = read_strategies(write_strategies(folder / "strategies.yaml", [1]), StrategyFactory())
    assert file.ticks is not None
    options = ReplayOptions(
        [ticks],
        file.strategies,
        file.ticks,
        folder / "out",
        models=models,
        replacements=[Replacement(SWAP, "up_momentum", newer)],
        audit=folder / "log",
    )
    Replay(options).run()
    return Session(folder, folder / "log", models, newer)


@pytest.fixture(scope="module")
def target(session) -> Iterator[str]:
    """The address of a sidecar that serves the bytes of the log, of both versions."""
    folder = session.folder / "both"
    (folder / "up_momentum" / "1").mkdir(parents=True)
    (folder / "up_momentum" / "2").mkdir()
    first = next(path for path in session.models.rglob("*.onnx") if "up_momentum" in str(path))
    shutil.copy(first, folder / "up_momentum" / "1" / "model.onnx")
    shutil.copy(session.newer, folder / "up_momentum" / "2" / "model.onnx")
    reversion = next(path for path in session.models.rglob("*.onnx") if "up_reversion" in str(path))
    shutil.copy(reversion, folder / "up_reversion.onnx")
    from strategy_client.predictor.client import InferenceClient

    with (
        OwnSidecar(folder, ["up_momentum"], ["up_momentum"]) as sidecar,
        InferenceClient(sidecar.target) as client,
    ):
        sidecar.wait_ready(client)
        yield sidecar.target


@pytest.fixture
def log(session, tmp_path) -> Path:
    """A copy of the log, to be touched."""
    return Path(shutil.copytree(session.log, tmp_path / "log"))


def verify(log: Path, **options: Any) -> Verdict:
    """Verify a log."""
    return Verification(VerificationOptions(log, **options)).run()


def digests(log: Path) -> set[str]:
    """Return the digests that a log names."""
    return {record["digest"] for record in records(log, "model")}


def test_a_log_is_verified_against_files_that_are_found_by_their_digest(session, tmp_path):
    """Every outcome comes out as recorded, across a swap, from files under any name in any layout."""
    kept = tmp_path / "state" / "bytes"
    kept.mkdir(parents=True)
    # As the sidecar's state folder keeps what it served before.
    for path in session.models.rglob("*.onnx"):
        for digest, found in find_files([path.parent], digests(session.log)).items():
            shutil.copy(found, kept / f"{digest}.onnx")
    before = {path: path.read_bytes() for path in session.log.iterdir()}
    verdict = verify(session.log, models=[tmp_path / "state", session.newer.parent])
    assert verdict.differences == []
    assert verdict.findings == []
    assert verdict.missing == []
    assert verdict.code == VERIFIED
    assert verdict.ticks == TICKS
    assert verdict.outcomes.verified == verdict.outcomes.total == TICKS * 4
    assert verdict.signals.verified == verdict.signals.total > 100
    assert verdict.rows == verdict.features > TICKS
    assert len(digests(session.log)) == 3
    bound = {each["bindings"]["learned_momentum"].get("digest") for each in records(session.log, "bound")}
    assert bound & digests(session.log)
    assert {path: path.read_bytes() for path in session.log.iterdir()} == before


def test_a_running_sidecar_that_serves_the_bytes_does_as_well(session, target):
    """With a target no sidecar is started, and each row is asked of the version with its digest."""
    verdict = verify(session.log, target=target)
    assert verdict.code == VERIFIED
    assert verdict.signals.verified == verdict.signals.total > 100


def test_bytes_that_no_file_has_are_named_with_what_hangs_on_them(session):
    """Nothing is called verified without its model: the digest, its answers and signals are told; exit 3."""
    verdict = verify(session.log, models=[session.models])
    assert verdict.code == UNVERIFIED
    assert verdict.differences == []
    (missing,) = verdict.missing
    newer = next(iter(find_files([session.newer.parent], digests(session.log))))
    assert (missing.name, missing.version, missing.digest) == ("up_momentum", 2, newer)
    assert missing.problem == "no file has this digest"
    assert missing.outcomes == TICKS - SWAP
    assert missing.signals > 0
    assert verdict.outcomes.unverified == {"the model's file is not there": TICKS - SWAP}
    assert verdict.outcomes.verified == TICKS * 4 - (TICKS - SWAP)


def first_signal(record: dict, strategy: str) -> dict | None:
    """Return a strategy's signal in a tick's record."""
    said = record.get("said", {}).get(strategy)
    return said if isinstance(said, dict) and said.get("is") in ("BUY", "SELL") else None


def forge(log: Path, strategy: str, **changed: object) -> int:
    """Change a strategy's signal behind the swap, and work the chain out again; returns its tick."""
    done: list[int] = []

    def change(record: dict) -> None:
        signal = first_signal(record, strategy)
        if signal is not None and record["tick"] > SWAP and not done:
            for name, value in changed.items():
                assert signal[name] != value
                signal[name] = value
            done.append(record["tick"])

    rechain(log, change)
    return done[0]


@pytest.mark.parametrize("strategy", ["learned_momentum", "momentum"])
@pytest.mark.parametrize(
    ("field", "value"),
    [("quantity", 101), ("price", "1.5"), ("confidence", 0.999), ("is", "HOLD")],
)
def test_a_signal_that_was_changed_with_its_chain_does_not_come_out(log, target, strategy, field, value):
    """A forger who works all hashes out again is found by running it again, and where he forged."""
    tick = forge(log, strategy, **{field: value})
    verdict = verify(log, target=target)
    assert verdict.findings == []
    assert verdict.code == DIFFERS
    (difference,) = verdict.differences
    assert (difference.tick, difference.strategy_id) == (tick, strategy)
    assert difference.field == ("outcome" if field == "is" else field)
    assert str(value) in difference.recorded
    assert (verdict.outcomes.differs, verdict.outcomes.verified) == (1, TICKS * 4 - 1)


def test_a_signal_whose_model_was_taken_away_does_not_come_out(log, target):
    """A learned strategy's signal without a model's answer is none."""

    def change(record: dict) -> None:
        signal = first_signal(record, "learned_momentum")
        if signal is not None and record["tick"] == SWAP + 1:
            for name in ("model", "row", "probabilities"):
                del signal[name]

    rechain(log, change)
    (difference,) = verify(log, target=target).differences
    assert (difference.tick, difference.field, difference.recorded) == (SWAP + 1, "model", "none")


def test_features_that_do_not_follow_from_the_ticks_do_not_come_out(log, target):
    """A row that was changed, or a price, is found by working the features out of the ticks again."""

    def change(record: dict) -> None:
        if record.get("tick") == SWAP + 1:
            record["price"] = "99.0"

    rechain(log, change)
    verdict = verify(log, target=target)
    assert verdict.code == DIFFERS
    first = [each for each in verdict.differences if each.tick == SWAP + 1]
    assert {each.strategy_id for each in first if each.field == "features"} == set(LEARNED)
    assert all(each.tick >= SWAP + 1 for each in verdict.differences)


def test_probabilities_that_the_recorded_bytes_do_not_answer_do_not_come_out(log, target):
    """One bit of a probability is a difference, and none within a tolerance."""

    def change(record: dict) -> None:
        said = record.get("said", {}).get("learned_reversion")
        if record.get("tick") == SWAP + 1 and isinstance(said, dict):
            said["probabilities"] = [value * (1 + 1e-15) + 1e-16 for value in said["probabilities"]]

    rechain(log, change)
    verdict = verify(log, target=target)
    (difference,) = verdict.differences
    assert (difference.tick, difference.field) == (SWAP + 1, "probabilities")
    assert verify(log, target=target, tolerance=1e-9).code == VERIFIED


def test_another_model_under_the_same_name_does_not_come_out(log, target):
    """A digest that was exchanged for that of another version is found by its answers."""
    named = records(log, "model")
    older, newer = (each["digest"] for each in named if each["name"] == "up_momentum")

    def change(record: dict) -> None:
        if record.get("digest") == newer:
            record["digest"] = older

    rechain(log, change)
    verdict = verify(log, target=target)
    assert verdict.code == DIFFERS
    assert {each.strategy_id for each in verdict.differences} == {"learned_momentum"}
    assert {each.field for each in verdict.differences} >= {"probabilities"}
    assert min(each.tick for each in verdict.differences) == SWAP


@pytest.mark.parametrize("field", ["classes", "features", "contract_hash"])
def test_a_row_that_is_told_to_mean_something_else_does_not_come_out(log, target, field):
    """Names that were exchanged turn what a model said around for whoever reads it, and are a difference."""

    def change(record: dict) -> None:
        if "model" in record and record["name"] == "up_reversion":
            told = record[field]
            record[field] = told[::-1]

    rechain(log, change)
    verdict = verify(log, target=target)
    assert verdict.code == DIFFERS
    assert {(each.strategy_id, each.field) for each in verdict.differences} == {("learned_reversion", field)}


@pytest.mark.parametrize(("name", "value"), [("model", {}), ("features", []), ("window", 3), ("code", "x")])
def test_a_learned_strategy_that_is_told_to_ask_something_else_is_found(log, target, name, value):
    """What the header says that a strategy asks is what its configuration makes it ask."""
    from strategy_client.audit.lineup import digest_of

    def change(record: dict) -> None:
        if "strategies" in record:
            (strategy,) = (each for each in record["strategies"] if each["id"] == "learned_reversion")
            assert strategy[name] != value
            strategy[name] = value
            record["configuration_sha256"] = digest_of(record["strategies"])

    rechain(log, change)
    verdict = verify(log, target=target)
    assert verdict.code == DIFFERS
    assert [f"learned_reversion: its {name} is told as" in each.text for each in verdict.findings] == [True]


def test_a_threshold_that_was_edited_in_the_header_does_not_come_out(log, target):
    """The digest over the configuration shows it; a forger who mends that too is found by the outcomes."""
    from strategy_client.audit.lineup import digest_of

    def edit(record: dict) -> None:
        for each in record.get("strategies", ()):
            if each["id"] == "learned_momentum":
                each["configuration"]["parameters"]["confidence_threshold"] = 0.99

    rechain(log, edit)
    verdict = verify(log, target=target)
    assert any("configuration_sha256" in each.text for each in verdict.findings)

    def mend(record: dict) -> None:
        if "strategies" in record:
            record["configuration_sha256"] = digest_of(record["strategies"])

    rechain(log, mend)
    verdict = verify(log, target=target)
    assert verdict.findings == []
    assert verdict.code == DIFFERS
    assert {each.strategy_id for each in verdict.differences} == {"learned_momentum"}


def test_after_a_gap_nothing_is_verified_until_histories_are_warm_again(log, target):
    """What depends on ticks that were dropped is not verified, and what no longer does is."""
    first, last = SWAP + 10, SWAP + 19

    def change(record: dict) -> None:
        if record.get("tick") == first:
            record.clear()
            record.update({"gap": last - first + 1, "first": first, "last": last, "shadows": 0, "at": 0})
        elif first < record.get("tick", -1) <= last:
            record.clear()
            record["bound"], record["bindings"] = 0, {}

    rechain(log, change)
    verdict = verify(log, target=target)
    assert verdict.differences == []
    assert verdict.code == UNVERIFIED
    assert verdict.dropped == last - first + 1
    assert len(verdict.findings) == 1
    # Windows of 11 and 20 ticks for the traditional ones, of 20 for the learned.
    cold = verdict.outcomes.unverified["after a gap"]
    assert 3 * 18 < cold < 4 * 22
    assert verdict.outcomes.verified == verdict.outcomes.total - cold
    assert verdict.ticks == TICKS - verdict.dropped

    # A difference in what does not depend on the ticks before is one all the same.
    def forge_in_the_cold(record: dict) -> None:
        signal = first_signal(record, "learned_momentum")
        if signal is not None and record["tick"] == last + 2:
            signal["quantity"] = 3

    rechain(log, forge_in_the_cold)
    (difference,) = verify(log, target=target).differences
    assert (difference.tick, difference.field, difference.recorded) == (last + 2, "quantity", "3")


def test_a_strategy_that_is_left_out_of_a_tick_is_a_difference(log, target):
    """Each strategy has an outcome on each tick of its instruments; a strategy nobody knows has none."""

    def change(record: dict) -> None:
        if record.get("tick") == 50:
            record["said"]["stranger"] = record["said"].pop("momentum")

    rechain(log, change)
    found = {(each.strategy_id, each.field) for each in verify(log, target=target).differences}
    assert found == {("momentum", "outcome"), ("stranger", "outcome")}


def test_what_a_deadline_kept_from_being_answered_is_counted_apart(log, target):
    """Nothing can be run again for a tick that no model answered; it is neither verified nor missing."""

    def change(record: dict) -> None:
        if record.get("tick") in (60, 61):
            record["said"]["learned_momentum"] = "DEADLINE_EXCEEDED"

    rechain(log, change)
    verdict = verify(log, target=target)
    assert verdict.code == VERIFIED
    assert verdict.outcomes.of_the_moment == 2


def test_what_a_shadow_was_answered_is_asked_again(log, target):
    """A shadow's probabilities are held against its bytes; one that was not answered is counted apart."""
    path = log / "audit-000001.jsonl"
    lines = []
    for text in path.read_bytes().splitlines():
        record = json.loads(text)
        lines.append(record)
        said = record.get("said", {}).get("learned_momentum")
        if record.get("tick") == SWAP + 1:
            shadow = {"shadow": SWAP + 1, "live": {"learned_momentum": "HOLD"}}
            wrong = {**said, "probabilities": [0.25, 0.75]}
            lines += [
                {**shadow, "said": {"learned_momentum (shadow)": each}, "hash": ""}
                for each in (said, wrong, "DEADLINE_EXCEEDED")
            ]
    path.write_text("".join(json.dumps(each) + "\n" for each in lines))
    rechain(log, lambda _: None)
    verdict = verify(log, target=target)
    assert verdict.findings == []
    shadows = verdict.shadows
    assert (shadows.verified, shadows.differs, shadows.of_the_moment) == (1, 1, 1)
    (difference,) = verdict.differences
    assert (difference.strategy_id, difference.field) == ("learned_momentum (shadow)", "probabilities")
    assert verdict.outcomes.verified == TICKS * 4


OWN = """
from strategy_client import SignalResult

class Own:
    def process_tick(self, tick, history):
        return SignalResult("BUY", 0.5, 3, tick.last_price)
    def get_required_history_length(self):
        return 1
    def supports_instrument(self, token):
        return True
    def get_strategy_name(self):
        return "own"

def create(config):
    return Own()
"""


def test_a_users_own_processor_is_found_beside_the_log(tmp_path, monkeypatch):
    """With --code the recorded path is imported from there, and without it says that it cannot be."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    code = tmp_path / "code"
    code.mkdir()
    (code / "audited_processor.py").write_text(OWN)
    (tmp_path / "own.yaml").write_text(
        "strategies:\n"
        "- {strategy_name: own, strategy_type: audited_processor.create, instrument_tokens: [1]}\n"
        "ticks: {time: time, price: price, token: token}\n"
    )
    ticks = write_csv(tmp_path / "ticks.csv", csv_lines(1, walk(20, 100.0, 1)))
    run = CliRunner().invoke
    with monkeypatch.context() as at_work:
        at_work.syspath_prepend(str(code))
        strategies = ["--strategies", str(tmp_path / "own.yaml"), "--out", str(tmp_path / "out")]
        done = run(app, ["replay", str(ticks), *strategies, "--audit", str(tmp_path / "log")])
        assert done.exit_code == 0, done.output
    del sys.modules["audited_processor"]
    without = run(app, ["audit", "verify", str(tmp_path / "log")])
    assert without.exit_code == 3
    assert "strategy own cannot be made" in without.output
    found = run(app, ["audit", "verify", str(tmp_path / "log"), "--code", str(code)])
    assert found.exit_code == 0, found.output
    assert "20 verified" in found.output
    del sys.modules["audited_processor"]


def test_a_log_that_another_process_writes_keeps_a_replay_from_its_files(session, tmp_path):
    """A folder that is taken is refused before anything of a run before is overwritten."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "signals.jsonl").write_text("of a run before")
    held = lock_folder(tmp_path / "log")
    try:
        replay = ["replay", str(session.folder / "ticks.csv"), "--models", str(session.models)]
        replay += ["--strategies", str(session.folder / "strategies.yaml"), "--out", str(out)]
        refused = subprocess.run(
            [
                str(Path(sys.executable).with_name("strategy-client")),
                *replay,
                "--audit",
                str(tmp_path / "log"),
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
    finally:
        os.close(held)
    assert refused.returncode == 1, refused.stderr
    assert "another process is writing this audit log" in refused.stderr
    assert (out / "signals.jsonl").read_text() == "of a run before"


def test_the_command_says_it_all_and_how_it_went_by_its_exit_code(session, log, target):
    """Exit 0, 1, 2 and 3, with what was found, the head, and the same as JSON."""
    run = CliRunner().invoke
    whole = run(app, ["audit", "verify", str(session.log), "--target", target])
    assert whole.exit_code == 0, whole.output
    assert "VERIFIED: everything comes out as it was recorded" in whole.output
    head = next(line.split()[1] for line in whole.output.splitlines() if line.startswith("head "))
    anchored = run(app, ["audit", "verify", str(session.log), "--target", target, "--anchor", head])
    assert anchored.exit_code == 0
    bare = run(app, ["audit", "verify", str(session.log)])
    assert bare.exit_code == 3
    assert bare.output.count("MISSING model") == 3
    forge(log, "learned_momentum", quantity=7)
    forged = run(app, ["audit", "verify", str(log), "--target", target, "--anchor", head])
    assert forged.exit_code == 1
    assert f"the anchor {head} is not in this log" in forged.output
    assert "learned_momentum, quantity: recorded 7, came 100" in forged.output
    as_json = run(app, ["audit", "verify", str(log), "--target", target, "--json"])
    document = json.loads(as_json.stdout)
    assert (document["code"], document["verdict"]) == (1, "differs")
    assert document["differences"][0]["field"] == "quantity"
    for wrong in (
        ["audit", "verify", str(log / "nowhere")],
        ["audit", "verify", str(log), "--anchor", "abc"],
        ["audit", "verify", str(log), "--models", str(log / "nowhere")],
    ):
        assert run(app, wrong).exit_code == 2


def test_a_person_finds_why_there_was_no_signal(session):
    """Times, a strategy and a reason narrow it down; what a model answered to what is told."""
    run = CliRunner().invoke
    shown = run(
        app,
        ["audit", "show", str(session.log), "--strategy", "momentum", "--from", "03:45", "--to", "03:45:03"],
    )
    assert shown.exit_code == 0, shown.output
    lines = [line for line in shown.stdout.splitlines() if "momentum:" in line]
    assert len(lines) == 3
    assert all("WARMING_UP" in line for line in lines)
    answered = run(app, ["audit", "show", str(session.log), "--strategy", "learned_momentum", "--json"])
    ticks = [json.loads(line) for line in answered.stdout.splitlines() if '"tick"' in line]
    assert len(ticks) == TICKS
    assert set(ticks[-1]["features"]) == set(momentum_features(MOMENTUM_LOOKBACK))
    assert ticks[-1]["version"] == 2
    zoned = run(
        app,
        [
            "audit",
            "show",
            str(session.log),
            "--from",
            "09:16",
            "--timezone",
            "Asia/Kolkata",
            "--reason",
            "sell",
        ],
    )
    assert zoned.exit_code == 0
    assert all("SELL" in line for line in zoned.stdout.splitlines() if "tick " in line)
    assert "2024-08-08T03:46:00" in zoned.stdout
    assert "2024-08-08T03:45:59" not in zoned.stdout
    for wrong, said in (
        (["--reason", "WARMIN_UP"], "did you mean 'WARMING_UP'?"),
        (["--from", "yesterday"], "expected a time such as 10:32"),
        (["--timezone", "Nowhere", "--from", "10:32"], "expected an IANA zone"),
    ):
        refused = run(app, ["audit", "show", str(session.log), *wrong])
        assert refused.exit_code == 2
        assert said in refused.output
