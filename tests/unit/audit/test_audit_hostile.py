"""Logs that no writer wrote: each is told in a line, costs no traceback, and is never called verified."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from fixtures_audit import (
    config,
    executors,
    findings,
    processed,
    rechain,
    records,
    segment_of,
    wait_until,
    walk_ticks,
    write_log,
)
from typer.testing import CliRunner

from strategy_client.audit import AuditLog, AuditOptions, chain, reader
from strategy_client.audit.decoder import NamedModel, RecordError
from strategy_client.audit.folder import AuditError
from strategy_client.audit.reader import LogReader
from strategy_client.audit.verdict import DIFFERS, VERIFIED
from strategy_client.audit.verification import Verification, VerificationOptions
from strategy_client.commands.command_line import app
from strategy_client.factory import StrategyFactory
from strategy_client.processors.processor import StrategyProcessor

DEEP = "[" * 300 + "]" * 300
# Beyond what the parser itself walks down.
DEEPER = "[" * 100_000 + "]" * 100_000
TICK = 20


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log that nobody has touched."""
    folder = tmp_path_factory.mktemp("hostile") / "log"
    write_log(folder, 40)
    return folder


@pytest.fixture
def log(whole: Path, tmp_path: Path) -> Path:
    """A copy of the log, to be touched."""
    return Path(shutil.copytree(whole, tmp_path / "log"))


def rewrite(log: Path, change: Callable[[str], str]) -> None:
    """Change the text of records, without their closing hash, and work the chain out again."""
    path = log / "audit-000001.jsonl"
    before = chain.START
    lines = []
    for line in path.read_bytes().splitlines(keepends=True):
        parts = chain.split(line)
        assert parts is not None
        before, changed = chain.link(before, change(parts[0].decode()).encode())
        lines.append(changed)
    path.write_bytes(b"".join(lines))


def in_tick(found: str, put: str) -> Callable[[str], str]:
    """Replace a part of one tick, which must be there."""

    def change(text: str) -> str:
        if not text.startswith(f'{{"tick":{TICK},'):
            return text
        assert found in text, text
        return text.replace(found, put, 1)

    return change


def verified(log: Path, *flags: str) -> tuple[int, str]:
    """Run `audit verify` and `audit show`, which may not raise; return how the first went and its output."""
    for arguments in (["show", str(log)], ["show", str(log), "--json"]):
        shown = CliRunner().invoke(app, ["audit", *arguments])
        assert shown.exception is None, repr(shown.exception)
    done = CliRunner().invoke(app, ["audit", "verify", str(log), *flags])
    assert done.exception is None or isinstance(done.exception, SystemExit), repr(done.exception)
    return done.exit_code, done.output


@pytest.mark.parametrize(
    ("found", "put", "told"),
    [
        ('"at":', '"at":1,"at":', "it holds no record"),
        ('"said":{', '"said":{"momentum":"HOLD",', "it holds no record"),
        ('"token":1', '"token":NaN', "it holds no record"),
        ('"token":1', '"token":-Infinity', "it holds no record"),
        ('"token":1', f'"token":{DEEP}', "it holds no record"),
        ('"token":1', f'"token":{DEEPER}', "it holds no record"),
        ('"token":1', f'"token":{"9" * 5_000}', "it holds no record"),
        ('"us":', '"us":true,"_":', "us True: expected an integer"),
        ('"at":', '"at":"x","_":', "at 'x': expected an integer"),
        ('"time":', '"time":1,"_":', "time 1: expected text"),
        ('"time":', '"_":', "'time'"),
        ('"price":', '"price":1,"_":', "price 1: expected text"),
        ('"said":', '"request":1,"said":', "request 1: expected text"),
        ('"said":', '"latency_us":"x","said":', "latency_us 'x': expected a number"),
        ('"said":', '"more":[1],"said":', "a tick that cannot be read"),
        ('"said":', '"more":{"volume":{"$decimal":"x"}},"said":', "a tick that cannot be read"),
        ('"said":', '"more":{"stranger":1},"said":', "a tick that cannot be read"),
        ('"said":', '"said":[],"_":', "a tick that cannot be read"),
        ('"said":', '"said":{"momentum":[]},"_":', "a tick that cannot be read"),
        ('"said":', '"said":{"momentum":{"is":[]}},"_":', "is []: expected text"),
        ('"said":', '"said":{"momentum":{"is":"BUY"}},"_":', "'quantity'"),
        (f'"tick":{TICK},', '"tick":"x",', "a tick without an index: 'x'"),
        (f'"tick":{TICK},', '"tick":-1,', "a tick without an index: '-1'"),
        (f'"tick":{TICK},', f'"x":0,"tick":{TICK},', "'x': no record that is known"),
        (f'"tick":{TICK},', f'"segment":1,"tick":{TICK},', "'segment': no record that is known, or none"),
    ],
    ids=str,
)
def test_a_record_of_the_wrong_form_is_told_and_is_no_traceback(
    log: Path, found: str, put: str, told: str
) -> None:
    """Whatever somebody puts into a line whose chain he works out again: exit 1, and what was expected."""
    rewrite(log, in_tick(found, put))
    code, text = verified(log)
    assert code == DIFFERS
    assert f"BROKEN  audit-000001.jsonl:{TICK + 2}: " in text
    assert told in text


SIGNAL = '{"is":"BUY","quantity":1,"confidence":0.5,"price":"1"}'


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("quantity", '"1"'),
        ("quantity", "true"),
        ("quantity", "null"),
        ("confidence", "null"),
        ("confidence", "1e999"),
        ("confidence", "9" * 400),
        ("confidence", '{"$decimal":"x"}'),
        ("confidence", '{"$text":"1"}'),
        ("price", "1"),
        ("detail", "1"),
        ("probabilities", "1"),
        ("probabilities", '["1"]'),
        ("more", "[]"),
        ("model", "true"),
        ("row", "1"),
    ],
)
def test_a_signal_of_the_wrong_form_is_told(log: Path, name: str, value: str) -> None:
    """A member of the wrong kind is no signal, and what is not finite is none of its numbers."""
    members = {**json.loads(SIGNAL), name: "@"}
    if name == "row":
        members["model"] = 0
    if name == "more":
        value = '{"x":{"$decimal":"x"}}'
    said = json.dumps({"momentum": members}, separators=(",", ":")).replace('"@"', value)
    rewrite(log, in_tick('"said":', f'"said":{said},"_":'))
    code, text = verified(log)
    assert code == DIFFERS
    assert f"BROKEN  audit-000001.jsonl:{TICK + 2}: a tick that cannot be read" in text


def test_a_token_that_is_no_key_is_of_no_instrument(log: Path) -> None:
    """A tick that no strategy can look at has no outcomes, so that those which are recorded differ."""
    rewrite(log, in_tick('"token":1', '"token":{"$text":"x"}'))
    code, text = verified(log)
    assert code == DIFFERS
    assert "no such strategy on this instrument" in text


def test_what_a_log_says_writes_no_line_of_its_own(log: Path) -> None:
    """A line's end, an escape of the terminal or half a character is shown as what it is."""
    rewrite(log, in_tick('"said":', '"said":{"momentum":"X\\n VERIFIED: \\u001b[2J \\ud800"},"_":'))
    code, text = verified(log)
    assert code == DIFFERS
    assert "recorded X\\n VERIFIED: \\x1b[2J \\ud800, came" in text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("configuration", "null"),
        ("configuration", "[]"),
        ("configuration", '{"$decimal":"x"}'),
        ("strategy_id", "[]"),
        ("strategy_id", '"another"'),
        ("strategy_type", "null"),
        ("strategy_type", '"\\ud800"'),
        ("parameters", "null"),
        ("parameters", "[]"),
        ("instrument_tokens", "[[]]"),
        ("instrument_tokens", "1"),
        ("risk_multiplier", '"x"'),
        ("risk_multiplier", "null"),
        ("max_position_size", '"1"'),
        ("enabled", '"no"'),
        ("emission", "[]"),
        ("cooldown_s", '"1"'),
    ],
)
def test_a_strategy_of_the_wrong_form_cannot_be_made(log: Path, name: str, value: str) -> None:
    """Its configuration is held to its types before anything is made of it, and what is wrong is noted."""
    from strategy_client.audit.lineup import digest_of

    def change(record: dict) -> None:
        if "strategies" in record:
            (strategy,) = record["strategies"]
            whole = strategy["configuration"]
            places = {"configuration": strategy, "cooldown_s": whole["emission"]}
            place = places.get(name, whole)
            assert name in place
            place[name] = json.loads(value)
            record["configuration_sha256"] = digest_of(record["strategies"])

    rechain(log, change)
    code, text = verified(log)
    assert code == 3
    assert "NOTE    strategy momentum cannot be made: " in text
    assert "40 not verified (the strategy cannot be made)" in text


def test_a_strategy_that_cannot_be_made_any_more_is_left_out_of_a_change(tmp_path: Path) -> None:
    """One whose type is gone after a change is named then, and the others go on."""
    from strategy_client.audit.lineup import digest_of

    line_up = executors(config("a"), config("b"))
    with AuditLog(tmp_path, line_up, options=AuditOptions(patient=True)) as log:
        given = processed(line_up, walk_ticks(40))
        for each in given[:20]:
            log.took(each)
        log.changed(line_up)
        for each in given[20:]:
            log.took(each)

    def lose(record: dict) -> None:
        if "lineup" in record:
            record["strategies"][1]["configuration"]["strategy_type"] = "gone.create"
            record["configuration_sha256"] = digest_of(record["strategies"])

    rechain(tmp_path, lose)
    verdict = Verification(VerificationOptions(tmp_path)).run()
    assert verdict.outcomes.unverified == {"the strategy cannot be made": 20}
    assert verdict.outcomes.verified == 60
    assert any(note.startswith("strategy b cannot be made") for note in verdict.notes)


@pytest.mark.parametrize(
    ("record", "told"),
    [
        ({"stranger": 1}, "'stranger': no record that is known"),
        ({"gap": True, "first": 1, "last": 1, "shadows": 0}, "a gap that does not say of what"),
        ({"gap": -1, "first": 1, "last": -1, "shadows": 0}, "a gap that does not say of what"),
        ({"gap": 2, "first": 40, "last": 40, "shadows": 0}, "a gap that does not say of what"),
        ({"gap": 1, "first": 41, "last": 40, "shadows": 0}, "a gap that does not say of what"),
        ({"gap": 1, "first": -1, "last": -1, "shadows": 0}, "a gap that does not say of what"),
        ({"gap": 0, "first": -1, "last": -1, "shadows": -1}, "a gap that does not say of what"),
        ({"shadow": "x", "said": {"s": "HOLD"}}, "a shadow that cannot be read: shadow 'x'"),
        ({"shadow": 1, "said": []}, "a shadow that cannot be read"),
        ({"shadow": 1, "said": {}}, "a shadow that cannot be read"),
        ({"shadow": 1, "said": {"s": []}}, "a shadow that cannot be read"),
        ({"model": 0, "name": "m"}, "a model that cannot be read: KeyError('version')"),
        (
            {"model": 0, "name": "../m", "version": 1, "digest": "", "contract_hash": "", "features": []}
            | {"classes": []},
            "a model that cannot be read: name '../m': expected that of a model",
        ),
        (
            {"model": 0, "name": "m", "version": 1, "digest": "", "contract_hash": "", "features": "abc"}
            | {"classes": []},
            "features 'abc': expected a list of texts",
        ),
    ],
    ids=str,
)
def test_a_record_that_cannot_have_been_written_is_told(log: Path, record: dict, told: str) -> None:
    """It is put before the end, with the chain worked out again, and read past."""
    path = log / "audit-000001.jsonl"
    lines = path.read_text().splitlines()
    lines.insert(-1, json.dumps({**record, "hash": ""}))
    path.write_text("\n".join(lines) + "\n")
    rechain(log, lambda _: None)
    code, text = verified(log)
    assert code == DIFFERS
    assert "BROKEN  audit-000001.jsonl:42: " in text
    assert told in text
    assert "outcomes: 40, 40 verified" in text


@pytest.mark.parametrize("record", [{"bound": 0, "bindings": {"s": 1}}, {"bound": 1 << 70, "bindings": {}}])
def test_a_binding_of_the_wrong_form_is_shown_as_unreadable(log: Path, record: dict) -> None:
    """What a strategy was bound to is told and not verified; a line of it that cannot be read is none."""
    path = log / "audit-000001.jsonl"
    lines = path.read_text().splitlines()
    lines.insert(-1, json.dumps({**record, "hash": ""}))
    path.write_text("\n".join(lines) + "\n")
    rechain(log, lambda _: None)
    assert verified(log)[0] == VERIFIED


def test_what_stands_behind_the_end_of_a_run_is_told(log: Path) -> None:
    """After a run was closed its segment takes nothing more."""
    path = log / "audit-000001.jsonl"
    lines = path.read_text().splitlines()
    more = {**json.loads(lines[-2]), "tick": 40}
    path.write_text("\n".join([*lines, json.dumps(more)]) + "\n")
    rechain(log, lambda _: None)
    (found,) = findings(log)
    assert found == "broken audit-000001.jsonl:43: it stands behind the end of the run"


def test_a_log_of_another_format_is_one_finding(log: Path) -> None:
    """What its lines mean is not guessed at."""

    def change(record: dict) -> None:
        if "segment" in record:
            record["format"] = 2

    rechain(log, change)
    code, text = verified(log)
    assert code == DIFFERS
    assert text.count("BROKEN") == 1
    assert "expected the header of a log of format 1, came" in text
    assert " 0 ticks" in text


def test_a_thousand_gaps_hide_nothing_that_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missing and what is broken are bounded apart, so that the exit code stays true."""
    monkeypatch.setattr(reader, "MAX_FINDINGS", 2)
    write_log(tmp_path, 10)
    path = tmp_path / "audit-000001.jsonl"
    lines = path.read_text().splitlines()
    gaps = [{"gap": 0, "first": -1, "last": -1, "shadows": 1, "hash": ""}] * 3
    lines[1:1] = [json.dumps(gap) for gap in gaps]
    lines.insert(-1, json.dumps({"stranger": 1, "hash": ""}))
    path.write_text("\n".join(lines) + "\n")
    rechain(tmp_path, lambda _: None)
    assert [each.split()[0] for each in findings(tmp_path)] == ["missing", "missing", "broken"]


def test_a_line_without_an_end_is_not_taken_into_memory(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a line that is longer than any is, its first bytes are kept, and what follows it is read."""
    monkeypatch.setattr(reader, "MAX_LINE_BYTES", 4_096)
    path = log / "audit-000001.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[5] = bytes(100_000) + b"\n"
    path.write_bytes(b"".join(lines))
    kept = LogReader(log)
    ticks = [entry.record["tick"] for entry in kept if entry.kind == "tick"]
    assert ticks == [index for index in range(40) if index != 4]
    assert [each.line for each in kept.findings if each.broken] == [6, 7]
    assert kept.part == 1.0


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["fifo", "folder"])
def test_what_is_no_file_is_no_segment(log: Path, make: Callable[[Path], None]) -> None:
    """A FIFO, which would be waited for, and a folder of a segment's name are one line: exit 2."""
    make(log / "audit-000002.jsonl")
    with pytest.raises(AuditError, match=r"audit-000002.jsonl: expected a file of an audit log"):
        LogReader(log)
    done = CliRunner().invoke(app, ["audit", "verify", str(log)])
    assert done.exit_code == 2
    assert done.output.count("\n") == 1


def test_each_number_of_a_segment_has_one_name(log: Path) -> None:
    """A second file of the same number takes the first one's place under no circumstances."""
    for name in ("audit-0000001.jsonl", "audit-00000001.jsonl", "audit-00000\u0661.jsonl"):
        (log / name).write_text("nonsense")
    assert findings(log) == []


def test_no_file_is_written_where_a_log_says(log: Path, tmp_path: Path) -> None:
    """The name of a model in a log is a name, and never a place beside the folder that is served."""
    evil, models = tmp_path / "evil", tmp_path / "models"
    models.mkdir()
    (models / "m.onnx").write_bytes(b"bytes")
    digest = hashlib.sha256(b"bytes").hexdigest()
    with pytest.raises(RecordError, match="expected that of a model"):
        NamedModel(str(evil), 1, digest, "", (), ())
    path = log / "audit-000001.jsonl"
    lines = path.read_text().splitlines()
    named = {"model": 0, "name": str(evil), "version": 1, "digest": digest, "contract_hash": ""}
    lines.insert(1, json.dumps({**named, "features": [], "classes": [], "hash": ""}))
    path.write_text("\n".join(lines) + "\n")

    def bind(record: dict) -> None:
        if "strategies" in record:
            record["strategies"][0] |= {"model": {"name": str(evil)}, "features": []}
            record["bindings"] = {"momentum": {"version": 1, "digest": digest, "contract_hash": ""}}

    rechain(log, bind)
    code, _ = verified(log, "--models", str(models))
    assert code == DIFFERS
    assert not evil.exists()


def test_a_model_that_answered_a_traditional_strategy_is_a_difference(log: Path) -> None:
    """Nothing asked it, so that a forger's row and probabilities are not called verified with its outcome."""
    named = '"said":{"momentum":{"model":0,"row":"","probabilities":[1.0],'
    given = records(log, "tick")[TICK]["said"]["momentum"]
    assert isinstance(given, dict)
    path = log / "audit-000001.jsonl"
    lines = path.read_text().splitlines()
    model = {"model": 0, "name": "m", "version": 1, "digest": "d", "contract_hash": "c", "features": []}
    lines.insert(1, json.dumps({**model, "classes": ["up"], "hash": ""}))
    path.write_text("\n".join(lines) + "\n")
    rechain(log, lambda _: None)
    rewrite(log, in_tick('"said":{"momentum":{', named))
    (difference,) = Verification(VerificationOptions(log)).run().differences
    assert (difference.tick, difference.field, difference.recorded) == (TICK, "model", "m")


def test_what_a_header_says_of_a_strategy_follows_from_its_configuration(log: Path) -> None:
    """A code, model, features or window that the configuration does not make is told."""
    from strategy_client.audit.lineup import digest_of

    def change(record: dict) -> None:
        if "strategies" in record:
            record["strategies"][0]["model"] = {"name": "another"}
            record["configuration_sha256"] = digest_of(record["strategies"])

    rechain(log, change)
    verdict = Verification(VerificationOptions(log)).run()
    (found,) = verdict.findings
    assert found.text == (
        "strategy momentum: its model is told as {'name': 'another'}, and its configuration makes it None"
    )
    assert verdict.code == DIFFERS


class Waking(StrategyFactory):
    """Calls something when the first processor is made, which is when the log is read the second time."""

    def __init__(self, wake: Callable[[], None]) -> None:
        super().__init__()
        self._wake: Callable[[], None] | None = wake

    def create_processor(self, strategy_type: str, parameters: object) -> StrategyProcessor:
        if self._wake is not None:
            wake, self._wake = self._wake, None
            wake()
        return super().create_processor(strategy_type, parameters)  # type: ignore[arg-type]


def test_what_is_written_while_a_log_is_verified_is_left_for_the_next_time(tmp_path: Path) -> None:
    """Its second reading ends where the first one did: a model that came since then would be missing."""
    line_up = executors()
    given = processed(line_up, walk_ticks(700))
    with AuditLog(tmp_path, line_up, options=AuditOptions(flush_ms=1.0)) as log:
        for each in given[:600]:
            log.took(each)
        wait_until(lambda: len(records(tmp_path, "tick")) == 600)

        def write_more() -> None:
            for each in given[600:]:
                log.took(each)
            path = segment_of(log).path
            wait_until(lambda: b'{"tick":699,' in path.read_bytes())

        verdict = Verification(VerificationOptions(tmp_path), Waking(write_more)).run()
    assert verdict.being_written
    assert (verdict.code, verdict.ticks, verdict.lines) == (VERIFIED, 600, 601)
