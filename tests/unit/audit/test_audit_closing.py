"""The end of a log, and of each of its segments, on a disk that does not take it at once."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from fixtures_audit import executors, findings, processed, records, segment_of, wait_until, walk_ticks

from strategy_client.audit import AuditLog, AuditOptions, log
from strategy_client.audit.log import CLOSE_TRIES

TICKS = 20
# The thread writes when it starts and when the log is closed.
AT_THE_END = AuditOptions(flush_ms=3_600_000.0, sync_ms=3_600_000.0)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again at once."""
    monkeypatch.setattr(log, "RETRY_S", 0.0)


class Disk:
    """Stands before `os.write`: what `fails` says of a segment's lines raises that error, so often."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, often: int, error: int) -> None:
        self.left = often
        self.fails: Callable[[bytes], bool] = lambda _lines: False
        self._write = os.write

        def write(descriptor: int, lines: bytes) -> int:
            if self.left and self.fails(bytes(lines)):
                self.left -= 1
                raise OSError(error, "of the disk")
            return self._write(descriptor, lines)

        monkeypatch.setattr(os, "write", write)


def close_on(disk: Disk, folder: Path) -> AuditLog:
    """Write a log whose disk fails as soon as it is closed."""
    line_up = executors()
    with AuditLog(folder, line_up, options=AT_THE_END) as written:
        for each in processed(line_up, walk_ticks(TICKS)):
            written.took(each)
        disk.fails = lambda _lines: written._stopping.is_set()
    return written


@pytest.mark.parametrize("often", [1, CLOSE_TRIES - 1])
def test_h10_what_is_queued_is_tried_again_when_the_log_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, often: int
) -> None:
    """H10: a disk that fails and recovers within the tries of the close has everything, and one end."""
    written = close_on(Disk(monkeypatch, often, errno.ENOSPC), tmp_path)
    assert written.counts.failures == often
    assert [each["tick"] for each in records(tmp_path, "tick")] == list(range(TICKS))
    assert len(records(tmp_path, "end")) == 1
    assert findings(tmp_path) == []


def test_h10_the_tries_of_a_close_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """H10: a disk that never recovers holds up no end; the log has none, and the next run may write there."""
    disk = Disk(monkeypatch, 1_000_000, errno.ENOSPC)
    written = close_on(disk, tmp_path)
    assert written.counts.failures == CLOSE_TRIES
    assert disk.left == 1_000_000 - CLOSE_TRIES
    assert "it has no end" in caplog.text
    assert records(tmp_path, "end") == []
    assert not written._thread.is_alive()
    disk.left = 0
    with AuditLog(tmp_path, executors(), options=AT_THE_END):
        pass
    assert len(records(tmp_path, "end")) == 1


def test_h10_an_end_that_its_file_does_not_take_is_in_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """H10: closed on a file that is broken, the log ends in another segment, once, and the chain goes on."""
    disk = Disk(monkeypatch, 1, errno.EIO)
    line_up = executors()
    with AuditLog(tmp_path, line_up, options=AT_THE_END) as written:
        for each in processed(line_up, walk_ticks(TICKS)):
            written.took(each)
        disk.fails = lambda lines: b'"why":"closed"' in lines
    assert disk.left == 0
    assert [(each["why"]) for each in records(tmp_path, "end")] == ["closed"]
    assert len(list(tmp_path.glob("audit-*"))) == 2
    assert findings(tmp_path) == []
    assert written.head in (tmp_path / "audit-000002.jsonl").read_text().splitlines()[-1]
    assert written.counts.failures == 0


def test_h10_a_full_segment_whose_end_its_file_does_not_take_is_followed_in_one_chain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """H10: where a file breaks as its segment ends, the next but one follows the segment that has the end."""
    disk = Disk(monkeypatch, 1, errno.EIO)
    disk.fails = lambda lines: b'"why":"full"' in lines
    line_up = executors()
    given = processed(line_up, walk_ticks(60))
    with AuditLog(tmp_path, line_up, options=AuditOptions(patient=True, segment_bytes=8_000)) as written:
        for each in given:
            written.took(each)
    assert disk.left == 0
    assert [each["tick"] for each in records(tmp_path, "tick")] == list(range(len(given)))
    ends = [each["why"] for each in records(tmp_path, "end")]
    assert ends == ["full"] * (len(ends) - 1) + ["closed"]
    assert findings(tmp_path) == []


def test_h10_a_folder_that_is_gone_when_the_log_is_closed_has_its_end_all_the_same(tmp_path: Path) -> None:
    """H10: what was in it is missing by name; the segment that is made anew is whole and has its end."""
    folder = tmp_path / "log"
    line_up = executors()
    with AuditLog(folder, line_up, options=AT_THE_END) as written:
        for each in processed(line_up, walk_ticks(TICKS)):
            written.took(each)
        assert segment_of(written).is_there()
        shutil.rmtree(folder)
    assert findings(folder) == ["missing audit-000002.jsonl: the segment before it is not here"]
    assert [each["why"] for each in records(folder, "end")] == ["closed"]


def test_h10_while_the_log_is_open_its_tries_have_no_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """H10: a disk that fails longer than any close would wait is written to when it recovers."""
    disk = Disk(monkeypatch, 3 * CLOSE_TRIES, errno.ENOSPC)
    line_up = executors()
    options = AuditOptions(flush_ms=1.0)
    with AuditLog(tmp_path, line_up, options=options) as written:
        disk.fails = lambda lines: b'"tick":' in lines
        for each in processed(line_up, walk_ticks(TICKS)):
            written.took(each)
        wait_until(lambda: len(records(tmp_path, "tick")) == TICKS)
    assert written.counts.failures == 3 * CLOSE_TRIES
    assert findings(tmp_path) == []
