"""The audit log as it is written."""

import errno
import itertools
import json
import os
import stat
from dataclasses import replace
from datetime import datetime
from decimal import Decimal

import numpy as np
import pytest
from fixtures_audit import (
    config,
    executors,
    findings,
    processed,
    records,
    segment_of,
    wait_until,
    walk_ticks,
    write_log,
)
from own_threads import own_threads

from strategy_client.audit import AuditLog, AuditOptions, writer
from strategy_client.audit.decoder import Decoder
from strategy_client.audit.folder import AuditError
from strategy_client.audit.lineup import read_config
from strategy_client.audit.reader import LogReader
from strategy_client.configuration import EmissionConfig
from strategy_client.events import (
    MarketTick,
    NoSignal,
    ProcessedTick,
    Reason,
    ShadowComparison,
    Signal,
)

PATIENT = AuditOptions(patient=True)
QUICK = AuditOptions(patient=True, flush_ms=1.0, sync_ms=1.0)
MODEL = {"model": "up", "version": 3, "digest": "ab" * 32, "contract_hash": "cd" * 32}


def test_every_outcome_of_every_tick_is_written_in_order(tmp_path):
    """Each tick is a record with its index, token, price, time, and what each strategy said."""
    line_up = executors(config("a"), config("b", momentum_threshold="0.1"))
    given = processed(line_up, walk_ticks(40))
    with AuditLog(tmp_path / "log", line_up, options=PATIENT) as log:
        for each in given:
            log.took(each)
    decoder = Decoder()
    read = [decoder.read_tick(record) for record in records(tmp_path / "log", "tick")]
    assert [each.index for each in read] == list(range(40))
    assert [each.tick for each in read] == [each.tick for each in given]
    assert [[(o.strategy_id, o.said) for o in each.outcomes] for each in read] == [
        [(o.strategy_id, o.signal_type if isinstance(o, Signal) else o.reason.value) for o in each.outcomes]
        for each in given
    ]
    assert any(o.is_signal for each in read for o in each.outcomes)
    assert log.counts.written == 40
    assert log.counts.dropped == 0
    assert findings(tmp_path / "log") == []


def test_all_fields_of_a_tick_come_back_as_they_were(tmp_path):
    """Decimals keep their digits, times their zone, and depth and quantities their values."""
    tick = MarketTick(
        7,
        Decimal("1.2300"),
        datetime.fromisoformat("2024-08-08T09:15:00.000001+05:30"),
        symbol='A"é',
        volume_traded=0,
        average_traded_price=Decimal("1E-7"),
        depth={"buy": [{"price": Decimal("1.10"), "quantity": 3}]},
        last_trade_time=datetime.fromisoformat("2024-08-08T09:14:59+05:30"),
        tradable=False,
    )
    with AuditLog(tmp_path, executors(), options=PATIENT) as log:
        log.took(ProcessedTick(0, tick, [], 0))
    (record,) = records(tmp_path, "tick")
    back = Decoder().read_tick(record).tick
    assert back == tick
    assert str(back.last_price) == "1.2300"
    assert back.timestamp.isoformat() == tick.timestamp.isoformat()


def test_the_time_of_day_of_the_receipt_is_told_of_a_live_tick(tmp_path):
    """A reading of the monotonic clock is written as the wall's time, and only where there is one."""
    tick = walk_ticks(1)[0]
    wall_ns = 1_700_000_000_000_000_000
    with AuditLog(tmp_path, executors(), options=PATIENT, wall_ns=lambda: wall_ns) as log:
        import time

        log.took(ProcessedTick(0, replace(tick, received_ns=time.monotonic_ns() - 5_000_000), [], 0))
        log.took(ProcessedTick(1, tick, [], 0))
    live, recorded = records(tmp_path, "tick")
    assert wall_ns - 10_000_000_000 < live["received"] <= wall_ns - 5_000_000
    assert "received" not in recorded


def answered(outcome: str, **metadata: object) -> Signal | NoSignal:
    """Return an outcome that a model answered."""
    tick = walk_ticks(1)[0]
    if outcome == "BUY":
        return Signal("s", 1, "BUY", 0.7, 5, tick.last_price, tick.timestamp, metadata)
    return NoSignal("s", 1, tick.timestamp, Reason(outcome), "", metadata)


@pytest.mark.parametrize("outcome", ["BUY", "BELOW_THRESHOLD"])
def test_features_and_probabilities_come_back_bit_for_bit(tmp_path, outcome):
    """Every float32 of a row, NaN and Inf among them, and every probability is what it was."""
    rng = np.random.default_rng(1)
    odd = np.array([np.nan, np.inf, -np.inf, -0.0, 1e-45, 3.4e38], np.float32)
    row = np.concatenate([rng.normal(0, 1, 50).astype(np.float32), odd])
    features = {f"f{i}": value for i, value in enumerate(row.tolist())}
    probabilities = {"0": float(np.float32(0.3)), "1": float("nan")}
    told = {**MODEL, "features": features, "probabilities": probabilities, "confidence_threshold": 0.6}
    with AuditLog(tmp_path, executors(), options=PATIENT) as log:
        log.took(ProcessedTick(0, walk_ticks(1)[0], [answered(outcome, **told)], 0))
    decoder = Decoder()
    (named,) = records(tmp_path, "model")
    decoder.learn(named)
    (read,) = decoder.read_tick(records(tmp_path, "tick")[0]).outcomes
    assert read.row is not None
    assert read.row.tobytes() == row.tobytes()
    assert read.model is not None
    assert read.model.features == tuple(features)
    assert read.model.classes == ("0", "1")
    assert (read.model.name, read.model.version, read.model.threshold) == ("up", 3, 0.6)
    assert (read.model.digest, read.model.contract_hash) == ("ab" * 32, "cd" * 32)
    assert read.probabilities is not None
    assert read.probabilities[0] == probabilities["0"]
    assert np.isnan(read.probabilities[1])
    assert read.more == {}


def test_features_that_are_no_float32_are_written_as_they_are(tmp_path):
    """A user's float64 is not rounded into a row of another value."""
    told = {**MODEL, "features": {"a": 0.1}, "probabilities": {"0": 1.0}}
    with AuditLog(tmp_path, executors(), options=PATIENT) as log:
        log.took(ProcessedTick(0, walk_ticks(1)[0], [answered("HOLD", **told)], 0))
    (read,) = Decoder().read_tick(records(tmp_path, "tick")[0]).outcomes
    assert read.row is None
    assert read.more["features"] == {"a": 0.1}


def test_a_model_is_named_once_and_again_in_each_segment(tmp_path):
    """What repeats is a number in a line, and yet each segment can be read without those before it."""
    told = {**MODEL, "features": {"a": 1.0}}
    options = AuditOptions(patient=True, segment_bytes=4_000)
    with AuditLog(tmp_path, executors(), options=options) as log:
        for index in range(60):
            log.took(ProcessedTick(index, walk_ticks(1)[0], [answered("HOLD", **told)], 0))
    paths = sorted(tmp_path.glob("audit-*.jsonl"))
    assert len(paths) > 2
    for path in paths:
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        assert [line["digest"] for line in lines if "model" in line] == ["ab" * 32]
    assert findings(tmp_path) == []


def test_metadata_that_is_no_json_is_written_all_the_same(tmp_path):
    """Whatever a user's processor puts into metadata becomes text; it neither stops the log nor the tick."""

    class Odd:
        def __str__(self) -> str:
            raise RuntimeError("no text")

    endless: dict[str, object] = {}
    endless["self"] = endless
    told = {
        "odd": Odd(),
        "nan": float("nan"),
        "array": np.arange(2),
        "price": Decimal("1.0"),
        "loop": endless,
    }
    with AuditLog(tmp_path, executors(), options=PATIENT) as log:
        log.took(ProcessedTick(0, walk_ticks(1)[0], [answered("BUY", **told)], 0))
        log.took(ProcessedTick(1, walk_ticks(1)[0], [answered("HOLD")], 0))
    first, second = (Decoder().read_tick(record).outcomes[0] for record in records(tmp_path, "tick"))
    assert first.more["price"] == Decimal("1.0")
    assert first.more["array"] == [0, 1]
    assert np.isnan(first.more["nan"])
    assert "cannot be shown" in first.more["odd"]
    assert second.said == "HOLD"
    assert findings(tmp_path) == []


def nested(depth: int) -> list:
    """Return lists in lists."""
    value: list = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "more",
    [
        {1: "a", "1": "b"},
        {"x": {None: 1, "null": 2}},
        {"x": ({True: 1, "true": 2},)},
        *({"deep": nested(depth)} for depth in (40, 60, 300, 3_000)),
    ],
    ids=itertools.count(),
)
def test_metadata_that_json_would_make_unreadable_is_written_to_be_read(tmp_path, more):
    """Two keys of one name, and lists without end, cost a detail of the metadata and not the line."""
    with AuditLog(tmp_path, executors(), options=QUICK) as log:
        log.took(ProcessedTick(0, walk_ticks(1)[0], [answered("HOLD", kept=1, more=more)], 0))
    (record,) = records(tmp_path, "tick")
    assert record["said"]["s"]["more"]["kept"] == 1
    assert list(record["said"]["s"]["more"]["more"]) == list(dict.fromkeys(map(str, more)))
    assert findings(tmp_path) == []
    assert log.counts.dropped == 0


def test_a_record_that_cannot_be_written_is_a_gap(tmp_path, caplog):
    """What even the encoder cannot take is told as a gap with its index, and the next record is written."""
    broken = NoSignal("s", 1, walk_ticks(1)[0].timestamp, Reason.HOLD, "", 5)  # type: ignore[arg-type]
    with AuditLog(tmp_path, executors(), options=PATIENT) as log:
        log.took(ProcessedTick(0, walk_ticks(1)[0], [broken], 0))
        log.took(ProcessedTick(1, walk_ticks(1)[0], [answered("HOLD")], 0))
    (gap,) = records(tmp_path, "gap")
    assert (gap["gap"], gap["first"], gap["last"]) == (1, 0, 0)
    assert [record["tick"] for record in records(tmp_path, "tick")] == [1]
    assert "could not be written" in caplog.text


def test_the_header_holds_what_outcomes_depend_on(tmp_path):
    """Configuration, features, code and versions are told, and the configuration can be made again."""
    given = replace(
        config("a", extra_decimal=Decimal("0.10")),
        max_position_size=7,
        risk_multiplier=Decimal("0.50"),
        tags=("x", "y"),
        emission=EmissionConfig(edge_trigger=True, cooldown_s=2.5),
    )
    learned = replace(
        config("b"),
        strategy_type="ml_momentum",
        parameters={"model": "up", "features": ["price", "return_5"]},
    )
    line_up = executors(replace(given, parameters=config().parameters), learned)
    line_up[0].config = given
    with AuditLog(tmp_path, line_up, options=PATIENT):
        pass
    (header,) = records(tmp_path, "segment")
    first, second = header["strategies"]
    assert read_config(first) == given
    assert read_config(second) == learned
    assert second["features"] == ["price", "return_5"]
    assert second["model"]["name"] == "up"
    assert first["code"].endswith(".MomentumProcessor")
    assert len(first["code_sha256"]) == len(header["configuration_sha256"]) == 64
    assert set(header["software"]) == {"tickserve", "python", "numpy"}
    assert header["previous"] is None
    assert str(tmp_path) not in json.dumps(header)
    assert os.uname().nodename not in json.dumps(header)


def test_a_change_of_the_strategies_stands_between_the_ticks_it_came_between(tmp_path):
    """Other parameters are a record of their own, in their place."""
    line_up = executors()
    given = processed(line_up, walk_ticks(4))
    with AuditLog(tmp_path, line_up, options=PATIENT) as log:
        log.took(given[0])
        log.changed(executors(config(momentum_threshold="0.5")))
        log.took(given[1])
    kinds = [next(iter(entry.record)) for entry in LogReader(tmp_path)]
    assert kinds == ["segment", "tick", "lineup", "tick", "end"]
    (changed,) = records(tmp_path, "lineup")
    assert changed["strategies"][0]["configuration"]["parameters"]["momentum_threshold"] == "0.5"


def test_a_gap_stands_before_the_change_that_came_after_it(tmp_path):
    """What was dropped ran under the strategies before the change, and its gap says so by its place."""
    line_up = executors()
    given = processed(line_up, walk_ticks(3))
    with AuditLog(tmp_path, line_up, options=AuditOptions(flush_ms=3_600_000.0)) as log:
        log.took(given[0])
        log._max_queued = 0  # as when there is no room
        log.took(given[1])
        log.took(given[2])
        log._max_queued = 10
        log.changed(line_up)
    kinds = [next(iter(entry.record)) for entry in LogReader(tmp_path)]
    assert kinds == ["segment", "tick", "gap", "lineup", "end"]


def test_a_shadow_is_written_beside_what_it_is_compared_with(tmp_path):
    """A comparison is a record with both, under the index of its tick."""
    told = {**MODEL, "features": {"a": 1.0}, "probabilities": {"0": 0.25, "1": 0.75}}
    tick = walk_ticks(1)[0]
    with AuditLog(tmp_path, executors(), options=PATIENT) as log:
        log.took(ProcessedTick(0, tick, [answered("HOLD")], 0))
        log.compared(ShadowComparison(0, tick, answered("HOLD"), answered("BUY", **told)))
    (record,) = records(tmp_path, "shadow")
    assert record["shadow"] == 0
    assert record["live"] == {"s": "HOLD"}
    assert record["said"]["s"]["is"] == "BUY"
    assert record["said"]["s"]["probabilities"] == [0.25, 0.75]


def test_two_writers_of_one_folder_are_refused(tmp_path):
    """A folder that is being written to is no other's, and is again when the first has closed it."""
    with AuditLog(tmp_path, executors(), options=PATIENT):
        with pytest.raises(AuditError, match="another process is writing this audit log"):
            AuditLog(tmp_path, executors(), options=PATIENT).__enter__()
        assert len(list(tmp_path.glob("audit-*.jsonl"))) == 1
    with AuditLog(tmp_path, executors(), options=PATIENT):
        pass
    assert findings(tmp_path) == []


def test_files_are_for_their_owner_and_group_alone(tmp_path):
    """Neither the folder nor a file can be read by others."""
    folder = tmp_path / "log"
    write_log(folder, 3)
    assert stat.S_IMODE(folder.stat().st_mode) & 0o007 == 0
    for path in folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) & 0o137 == 0, path


def test_a_folder_that_cannot_be_written_is_an_error_before_the_first_tick(tmp_path):
    """Entering fails, and leaves no thread and no lock behind."""
    (tmp_path / "file").write_text("")
    before = own_threads()
    with pytest.raises(OSError):
        AuditLog(tmp_path / "file" / "log", executors()).__enter__()
    assert own_threads() - before == set()


def test_a_restart_appends_a_segment_in_the_same_chain(tmp_path):
    """The second run's header follows the first run's last line, and nothing of the first is touched."""
    first = write_log(tmp_path, 5)
    before = (tmp_path / "audit-000001.jsonl").read_bytes()
    second = write_log(tmp_path, 5)
    assert (tmp_path / "audit-000001.jsonl").read_bytes() == before
    headers = records(tmp_path, "segment")
    assert headers[1]["previous"] == {"segment": 1, "hash": first.head}
    assert headers[0]["run"] != headers[1]["run"]
    assert findings(tmp_path) == []
    reader = LogReader(tmp_path)
    for _ in reader:
        pass
    assert reader.head.hex() == second.head


def test_segments_end_at_their_size_and_their_age(tmp_path):
    """A segment that is full or old is ended and followed by the next one, in one chain."""
    write_log(tmp_path / "size", 200, AuditOptions(patient=True, segment_bytes=5_000))
    sizes = [path.stat().st_size for path in sorted((tmp_path / "size").glob("*.jsonl"))]
    assert len(sizes) > 3
    assert max(sizes) < 7_000
    assert findings(tmp_path / "size") == []
    assert len(records(tmp_path / "size", "tick")) == 200
    write_log(tmp_path / "age", 5, AuditOptions(patient=True, segment_s=1e-9))
    assert len(list((tmp_path / "age").glob("*.jsonl"))) == 6
    assert findings(tmp_path / "age") == []


def test_what_was_taken_is_in_the_file_before_the_log_is_closed(tmp_path):
    """The thread hands the system what it has every `flush_ms`; a killed process loses no more."""
    with AuditLog(tmp_path, executors(), options=QUICK) as log:
        log.took(ProcessedTick(0, walk_ticks(1)[0], [answered("HOLD")], 0))
        path = segment_of(log).path
        wait_until(lambda: b'"tick":0' in path.read_bytes())


def test_the_disk_is_waited_for_every_sync_ms(tmp_path, monkeypatch):
    """What was flushed is synced within `sync_ms`, and not at all before where that is long."""
    synced = []
    real = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda fd: (synced.append(fd), real(fd)))
    with AuditLog(tmp_path / "a", executors(), options=QUICK) as log:
        log.took(ProcessedTick(0, walk_ticks(1)[0], [answered("HOLD")], 0))
        wait_until(lambda: len(synced) > 0)
    synced.clear()
    with AuditLog(tmp_path / "b", executors(), options=replace(QUICK, sync_ms=3_600_000.0)) as log:
        log.took(ProcessedTick(0, walk_ticks(1)[0], [answered("HOLD")], 0))
        wait_until(lambda: b'"tick":0' in segment_of(log).path.read_bytes())
        assert synced == []
    assert len(synced) == 1


def test_what_learned_strategies_are_bound_to_is_told_when_it_changes(tmp_path):
    """Bindings are written as records of their own, once each."""
    from strategy_client.binding import Bound, Unbound

    class Bindings:
        all = {"s": Unbound(Reason.MODEL_NOT_FOUND, "there is none")}  # noqa: RUF012

    bindings = Bindings()
    with AuditLog(tmp_path, executors(), bindings, options=QUICK) as log:  # type: ignore[arg-type]
        path = segment_of(log).path
        wait_until(lambda: b"there is none" in path.read_bytes())
        bindings.all = {"s": Bound("cd" * 32, accepts_nan=False, meanings=None, version=2, digest="ab" * 32)}
        wait_until(lambda: b'"digest":"abab' in path.read_bytes())
    first, second = records(tmp_path, "bound")
    assert first["bindings"]["s"] == {"reason": "MODEL_NOT_FOUND", "detail": "there is none"}
    assert second["bindings"]["s"]["contract_hash"] == "cd" * 32


@pytest.mark.parametrize(
    "wrong", [{"max_queued": 0}, {"flush_ms": -1.0}, {"segment_bytes": 0}, {"keep_free_bytes": -1}]
)
def test_a_bound_that_cannot_be_one_is_refused(wrong):
    """The option and what was expected are named."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        AuditOptions(**wrong)


def test_a_restart_behind_an_empty_segment_goes_on_in_the_chain_before_it(tmp_path):
    """A process that was killed before its first line leaves a file that is empty, and unchains nothing."""
    write_log(tmp_path, 3)
    (tmp_path / "audit-000002.jsonl").touch()
    write_log(tmp_path, 3)
    first, second = records(tmp_path, "segment")
    assert (first["segment"], second["segment"]) == (1, 3)
    assert second["previous"]["segment"] == 1
    assert findings(tmp_path) == ["missing audit-000002.jsonl: it is empty"]
    cut_off = tmp_path / "audit-000001.jsonl"
    cut_off.write_bytes(b"".join(cut_off.read_bytes().splitlines(keepends=True)[:-1]))
    assert any(each.startswith("missing audit-000001.jsonl: it has no end") for each in findings(tmp_path))


def test_a_start_that_fails_leaves_no_segment_behind(tmp_path):
    """A log that could not be begun is not told to be missing something by every later look at it."""
    for _ in range(3):
        with pytest.raises(OSError, match=f"are to be kept free: '{tmp_path}'"):
            AuditLog(tmp_path, executors(), options=AuditOptions(keep_free_bytes=1 << 60)).__enter__()
    assert list(tmp_path.glob("audit-*")) == []
    write_log(tmp_path, 3)
    assert findings(tmp_path) == []


def test_a_segment_whose_name_the_disk_did_not_take_is_not_begun_again(tmp_path, monkeypatch):
    """The next try takes the next number: the file of the last one is there, and would be in the way."""
    real, failing = writer.sync_folder, [OSError(errno.EIO, "of the disk")]

    def sync_folder(folder):
        if len(list(folder.glob("audit-*"))) > 1 and failing:
            raise failing.pop()
        real(folder)

    monkeypatch.setattr(writer, "sync_folder", sync_folder)
    line_up = executors()
    with AuditLog(tmp_path, line_up, options=AuditOptions(segment_bytes=8_000)) as log:
        for each in processed(line_up, walk_ticks(60)):
            log.took(each)
        wait_until(lambda: len(records(tmp_path, "tick")) == 60)
    assert failing == []
    assert log.counts.failures == 1
    assert [record["tick"] for record in records(tmp_path, "tick")] == list(range(60))
    assert findings(tmp_path) == ["missing audit-000002.jsonl: it is empty"]


def test_a_record_that_is_longer_than_a_line_may_be_is_a_gap(tmp_path, monkeypatch, caplog):
    """What a reader would not take into memory is not written."""
    monkeypatch.setattr(writer, "MAX_BODY_BYTES", 5_000)
    line_up = executors()
    given = processed(line_up, walk_ticks(3))
    long = ProcessedTick(1, given[1].tick, [answered("HOLD", long="x" * 6_000)], 0)
    with AuditLog(tmp_path, line_up, options=QUICK) as log:
        log.took(given[0])
        log.took(long)
        log.took(given[2])
    (gap,) = records(tmp_path, "gap")
    assert (gap["gap"], gap["first"], gap["last"]) == (1, 1, 1)
    assert "expected up to 5,000" in caplog.text
    assert [record["tick"] for record in records(tmp_path, "tick")] == [0, 2]


@pytest.mark.parametrize(
    "wrong",
    [
        {"model": "no name/"},
        {"version": "1"},
        {"digest": None},
        {"contract_hash": 5},
        {"confidence_threshold": [1]},
        {"features": {1: 0.5}},
    ],
    ids=str,
)
def test_metadata_that_only_looks_like_an_answer_is_written_as_it_is(tmp_path, wrong):
    """A user's own processor may put anything under these names, and its log can be read all the same."""
    given = answered("HOLD", **{**MODEL, "features": {"a": 0.5}, "probabilities": {"0": 1.0}, **wrong})
    with AuditLog(tmp_path, executors(), options=QUICK) as log:
        log.took(ProcessedTick(0, walk_ticks(1)[0], [given], 0))
    (record,) = records(tmp_path, "tick")
    assert "digest" in record["said"]["s"]["more"]
    assert records(tmp_path, "model") == []
    assert log.counts.dropped == 0
