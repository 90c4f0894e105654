"""Logs of traditional strategies, verified without any sidecar."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from fixtures_audit import config, executors, findings, processed, rechain, records, walk_ticks, write_log
from fixtures_ticks import tick

from strategy_client.audit import AuditLog, AuditOptions
from strategy_client.audit.rerun import AHEAD, RECEIVED
from strategy_client.audit.verdict import DIFFERS, UNVERIFIED, VERIFIED, Verdict
from strategy_client.audit.verification import Verification, VerificationOptions
from strategy_client.configuration import EmissionConfig, StrategyConfig
from strategy_client.events import MarketTick, NoSignal, ProcessedTick, Reason
from strategy_client.factory import StrategyFactory
from strategy_client.lineup import renew
from strategy_client.runner import RunnerOptions, StrategyRunner

PATIENT = AuditOptions(patient=True)
NS_PER_S = 1_000_000_000


def verify(folder: Path) -> Verdict:
    """Verify a log."""
    return Verification(VerificationOptions(folder)).run()


def write(
    folder: Path,
    configs: Sequence[StrategyConfig],
    given: Sequence[MarketTick],
    at: dict[int, Callable[[StrategyRunner, AuditLog], None]] | None = None,
    **runner_options: object,
) -> list[ProcessedTick]:
    """Run ticks and write their log; `at` does something just before a tick."""
    line_up = executors(*configs)
    runner = StrategyRunner(line_up, **runner_options)  # type: ignore[arg-type]
    done = []
    with AuditLog(folder, line_up, options=PATIENT) as log:
        for index, each in enumerate(given):
            if at and index in at:
                at[index](runner, log)
            done.append(ProcessedTick(index, each, runner.process(each), 0))
            log.took(done[-1])
    return done


def test_all_outcomes_of_a_whole_log_are_verified(tmp_path):
    """Every outcome of every run in a folder stands in exactly one number, and comes out as it was."""
    write_log(tmp_path, 60)
    write_log(tmp_path, 40)
    verdict = verify(tmp_path)
    assert verdict.code == VERIFIED
    assert (verdict.segments, verdict.ticks) == (2, 100)
    assert verdict.outcomes.verified == verdict.outcomes.total == 100
    assert verdict.signals.verified == verdict.signals.total > 20


def test_an_edge_trigger_and_a_cooldown_are_run_again(tmp_path):
    """What emission held back comes out held back, and what it let through comes out."""
    rules = EmissionConfig(edge_trigger=True, cooldown_s=3.0)
    done = write(tmp_path, [replace(config(), emission=rules)], walk_ticks(300))
    outcomes = [each.outcomes[0] for each in done]
    assert any(isinstance(each, NoSignal) and "held_back" in each.metadata for each in outcomes)
    verdict = verify(tmp_path)
    assert verdict.differences == []
    assert (verdict.code, verdict.outcomes.verified) == (VERIFIED, 300)

    def shorten(record: dict) -> None:
        for each in record.get("strategies", ()):
            each["configuration"]["emission"]["cooldown_s"] = 0.0

    rechain(tmp_path, shorten)
    assert verify(tmp_path).difference_count > 0


def test_a_tick_that_was_too_old_changes_no_edge_trigger_the_second_time_either(tmp_path):
    """What a strategy would have said on an aged tick went nowhere, and the next one of its kind went out."""
    given = walk_ticks(200)
    given = [replace(each, received_ns=0) if index % 3 else each for index, each in enumerate(given)]
    write(
        tmp_path,
        [replace(config(), emission=EmissionConfig(edge_trigger=True))],
        given,
        options=RunnerOptions(max_tick_age_ms=1.0, max_ahead_s=None),
        now_ns=lambda: NS_PER_S,
    )
    verdict = verify(tmp_path)
    assert verdict.differences == []
    assert verdict.signals.verified == verdict.signals.total > 10
    assert verdict.outcomes.of_the_moment == 133


def test_limits_are_run_again(tmp_path):
    """Quantity is held to the recorded limits."""
    limited = replace(config(), max_position_size=3)
    write(tmp_path, [limited], walk_ticks(60))

    def widen(record: dict) -> None:
        for each in record.get("strategies", ()):
            each["configuration"]["max_position_size"] = 4

    assert verify(tmp_path).code == VERIFIED
    rechain(tmp_path, widen)
    verdict = verify(tmp_path)
    assert {each.field for each in verdict.differences} == {"quantity"}
    assert verdict.differences[0].recorded == "3"


def test_a_change_of_the_line_up_is_followed_with_the_histories_that_stayed(tmp_path):
    """A strategy that stays keeps its history, one that is new warms up, and one that is disabled says so."""
    first, second = config("a"), config("b", lookback_periods=9)

    def change(runner: StrategyRunner, log: AuditLog) -> None:
        wanted = [replace(first, max_position_size=2), config("c", momentum_threshold="0.001")]
        line_up = renew(runner.executors, wanted, StrategyFactory())
        runner.change(line_up)
        log.changed(line_up)

    def stop(runner: StrategyRunner, log: AuditLog) -> None:
        wanted = [replace(each.config, enabled=False) for each in runner.executors]
        line_up = renew(runner.executors, wanted, StrategyFactory())
        runner.change(line_up)
        log.changed(line_up)

    done = write(tmp_path, [first, second], walk_ticks(90), {30: change, 80: stop})
    assert done[30].outcomes[0] != done[30].outcomes[1]
    verdict = verify(tmp_path)
    assert verdict.differences == []
    assert verdict.notes == []
    assert (verdict.code, verdict.outcomes.verified) == (VERIFIED, 180)


def test_ticks_that_the_edge_refused_leave_no_trace_the_second_time_either(tmp_path):
    """Whatever is wrong with a tick does to histories what it did; a clock's word is counted apart."""
    given = walk_ticks(80)
    clock = {"now": 10 * NS_PER_S, "wall": int(given[0].timestamp.timestamp()) * NS_PER_S}
    received = clock["now"]
    for index in (20, 21):
        given[index] = replace(given[index], received_ns=received - 5 * NS_PER_S)  # aged
    given[30] = replace(tick(150, second=10_000), received_ns=received)  # ahead
    given[40] = replace(given[3], last_price=given[3].last_price * 2)  # out of order
    given[50] = tick("NaN", second=50)
    given[51] = tick("-1", second=51)
    given[52] = tick("100", token=99, second=52)
    done = write(
        tmp_path,
        [config()],
        given,
        options=RunnerOptions(max_tick_age_ms=1_000.0, max_ahead_s=60.0),
        now_ns=lambda: clock["now"],
        wall_ns=lambda: clock["wall"],
    )
    said = {i: done[i].outcomes[0] for i in (20, 30, 40, 50, 51)}
    assert [each.reason.value for each in said.values() if isinstance(each, NoSignal)] == [
        "STALE_TICK",
        "STALE_TICK",
        "STALE_TICK",
        "NON_FINITE",
        "OUT_OF_RANGE",
    ]
    # What verify tells the two of the clock by.
    assert isinstance(said[20], NoSignal)
    assert said[20].detail.startswith(RECEIVED)
    assert isinstance(said[30], NoSignal)
    assert AHEAD in said[30].detail
    verdict = verify(tmp_path)
    assert verdict.differences == []
    assert verdict.code == VERIFIED
    assert verdict.outcomes.of_the_moment == 3
    assert verdict.outcomes.verified == 79 - 3


def test_a_gap_makes_what_follows_unverified_until_the_window_is_full(tmp_path):
    """Five ticks of history after the gap are needed, and the current one; then it is verified again."""
    line_up = executors()
    given = processed(line_up, walk_ticks(60))
    with AuditLog(tmp_path, line_up, options=PATIENT) as log:
        for each in given:
            if each.index == 30:
                # As when there was no room for it.
                log._options = AuditOptions()
                log._max_queued = 0
            log.took(each)
            log._max_queued = PATIENT.max_queued
    verdict = verify(tmp_path)
    assert verdict.differences == []
    assert verdict.code == UNVERIFIED
    assert verdict.dropped == 1
    assert records(tmp_path, "gap")[0]["first"] == 30
    window = line_up[0].required_history
    assert verdict.outcomes.unverified == {"after a gap": window - 1}
    assert verdict.outcomes.verified == 59 - (window - 1)


def test_a_log_that_was_cut_off_or_begins_late_is_verified_as_far_as_it_goes(tmp_path):
    """Without its end, and without its first segment, what is there is run again; exit 3."""
    write_log(tmp_path, 120, AuditOptions(patient=True, segment_bytes=8_000))
    paths = sorted(tmp_path.glob("audit-*.jsonl"))
    paths[0].unlink()
    last = paths[-1].read_bytes().splitlines(keepends=True)
    paths[-1].write_bytes(b"".join(last[:-1]) + last[-1][:20])
    verdict = verify(tmp_path)
    assert verdict.code == UNVERIFIED
    assert verdict.differences == []
    assert {each.text.split(":")[0] for each in verdict.findings} == {
        "the segment before it is not here",
        "torn end",
        "it has no end",
    }
    assert verdict.outcomes.unverified["after a gap"] == executors()[0].required_history - 1
    assert verdict.outcomes.verified > 20


def test_a_header_that_disagrees_with_the_segment_before_it_is_found(tmp_path):
    """Within a run a segment's strategies are those of the one before, or a record says otherwise."""
    write_log(tmp_path, 60, AuditOptions(patient=True, segment_bytes=8_000))
    from strategy_client.audit.lineup import digest_of

    def change(record: dict) -> None:
        if record.get("segment") == 2:
            record["strategies"][0]["configuration"]["max_position_size"] = 5
            record["configuration_sha256"] = digest_of(record["strategies"])

    assert verify(tmp_path).code == VERIFIED
    rechain(tmp_path, change)
    verdict = verify(tmp_path)
    assert verdict.code == DIFFERS
    assert any("not those of the segment before it" in each.text for each in verdict.findings)


def test_a_strategy_that_cannot_be_made_is_named_and_not_verified(tmp_path):
    """Code that is not there any more leaves its outcomes unverified, and the others verified."""
    write(tmp_path, [config("a"), config("b")], walk_ticks(40))

    def lose(record: dict) -> None:
        from strategy_client.audit.lineup import digest_of

        if "strategies" in record:
            record["strategies"][1]["configuration"]["strategy_type"] = "gone.create"
            record["configuration_sha256"] = digest_of(record["strategies"])

    rechain(tmp_path, lose)
    verdict = verify(tmp_path)
    assert verdict.code == UNVERIFIED
    assert verdict.outcomes.unverified == {"the strategy cannot be made": 40}
    assert verdict.outcomes.verified == 40
    assert any(note.startswith("strategy b cannot be made") for note in verdict.notes)


def test_other_code_and_other_versions_are_noted(tmp_path):
    """A log that was written by another file of code, or another release, says so beside the verdict."""
    write_log(tmp_path, 5)

    def change(record: dict) -> None:
        from strategy_client.audit.lineup import digest_of

        if "strategies" in record:
            record["strategies"][0]["code_sha256"] = "0" * 64
            record["configuration_sha256"] = digest_of(record["strategies"])
            record["software"]["numpy"] = "1.0"

    assert verify(tmp_path).notes == []
    rechain(tmp_path, change)
    first, second = verify(tmp_path).notes
    assert first.startswith("written with numpy 1.0, verified with ")
    assert "MomentumProcessor is not the one that wrote the log" in second


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        ({"price": "ten"}, "price 'ten': expected a number"),
        ({"time": 5}, "a tick that cannot be read"),
        ({"said": {"momentum": {"is": "BUY", "model": 4}}}, "model 4 has not been named"),
    ],
)
def test_a_record_that_holds_nonsense_is_found_and_the_rest_is_read(tmp_path, wrong, found):
    """With its chain worked out again it is told with its line, and costs what a gap costs."""
    write_log(tmp_path, 40)

    def change(record: dict) -> None:
        if record.get("tick") == 20:
            record.update(wrong)

    rechain(tmp_path, change)
    verdict = verify(tmp_path)
    assert verdict.code == DIFFERS
    assert [found in each.text for each in verdict.findings] == [True]
    assert verdict.findings[0].line == 22
    assert verdict.differences == []
    assert verdict.outcomes.unverified["after a gap"] > 0
    assert findings(tmp_path) == []


def test_a_traditional_strategys_reason_that_no_tick_gives_is_a_difference(tmp_path):
    """A reason of the sidecar's hides no signal of a strategy that asks none."""
    write_log(tmp_path, 40)

    def hide(record: dict) -> None:
        said = record.get("said", {})
        if isinstance(said.get("momentum"), dict) and record["tick"] > 20:
            said["momentum"] = Reason.DEADLINE_EXCEEDED.value

    rechain(tmp_path, hide)
    verdict = verify(tmp_path)
    assert verdict.difference_count > 0
    assert {each.recorded for each in verdict.differences} == {"DEADLINE_EXCEEDED"}
    assert verdict.outcomes.differs == verdict.difference_count
    assert verdict.outcomes.verified == 40 - verdict.difference_count
    assert verdict.outcomes.of_the_moment == 0
