"""H10: an audit sink that is full, slow or gone drops and counts, and never holds a tick up."""

import contextlib
import errno
import fcntl
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fixtures_audit import (
    BOUND_S,
    executors,
    findings,
    processed,
    records,
    segment_of,
    wait_until,
    walk_ticks,
    write_log,
)

from strategy_client.audit import AuditLog, AuditOptions
from strategy_client.audit.log import AuditCounts
from strategy_client.audit.reader import LogReader
from strategy_client.audit.writer import BATCH_LINES

ROOM = 50
OPTIONS = AuditOptions(max_queued=ROOM, flush_ms=1.0, keep_free_bytes=0)
PAGE = 4_096
# The queue, and a batch of lines that the writer has taken out of it.
MORE_THAN_FITS = ROOM + BATCH_LINES + 100


class Device:
    """What a segment writes to, put in its place under the same descriptor: the kernel's own, no fake."""

    def __init__(self, log: AuditLog) -> None:
        self._descriptor = segment_of(log)._descriptor
        self._file = os.dup(self._descriptor)

    def become(self, other: int) -> None:
        """Have the segment write to another open file from now on."""
        os.dup2(other, self._descriptor, inheritable=False)

    def heal(self) -> None:
        """Have it write to its own file again."""
        os.dup2(self._file, self._descriptor, inheritable=False)

    def write(self, content: bytes) -> None:
        """Bring to the file what a slow device took."""
        os.write(self._file, content)

    def close(self) -> None:
        """Let the file go."""
        os.close(self._file)


@contextlib.contextmanager
def device_of(log: AuditLog) -> Iterator[Device]:
    """Yield what a log's segment writes to, once all before it is written."""
    wait_until(lambda: not segment_of(log).unwritten)
    device = Device(log)
    try:
        yield device
    finally:
        device.close()


def test_h10_a_sink_that_nobody_reads_holds_no_tick_up(tmp_path):
    """H10: while a write hangs in the kernel every tick is taken; what has no room is dropped and counted.

    The sink is a FIFO that nobody reads. When it is read again, the log goes on, and tells the gap.
    """
    line_up = executors()
    given = processed(line_up, walk_ticks(1_000))
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reading = os.open(fifo, os.O_RDWR)
    fcntl.fcntl(reading, fcntl.F_SETPIPE_SZ, PAGE)
    folder = tmp_path / "log"
    log = AuditLog(folder, line_up, options=replace(OPTIONS, sync_ms=3_600_000.0))
    with log, device_of(log) as device:
        device.become(reading)
        # More than the pipe, one batch and the queue hold together; none of them waits.
        for each in given:
            log.took(each)
        assert log.counts.dropped >= len(given) - ROOM - BATCH_LINES - PAGE // 100
        wait_until(lambda: log.counts.written + len(log._queue) + log.counts.dropped >= len(given))

        def drain() -> None:
            ended = False
            while not ended:
                content = os.read(reading, PAGE)
                ended = content.endswith(b"\0")  # which is in no line
                device.write(content.removesuffix(b"\0"))

        slow = threading.Thread(target=drain)
        slow.start()
        wait_until(lambda: not log._queue and log._gap is None and not segment_of(log).unwritten)
        os.write(reading, b"\0")
        slow.join()
        os.close(reading)
        device.heal()
    gaps = records(folder, "gap")
    assert sum(gap["gap"] for gap in gaps) == log.counts.dropped
    kept = {record["tick"] for record in records(folder, "tick")}
    lost = {index for gap in gaps for index in range(gap["first"], gap["last"] + 1)}
    assert kept.isdisjoint(lost)
    assert kept | lost == set(range(len(given)))
    found = findings(folder)
    assert all(each.startswith("missing") and "gap:" in each for each in found)
    assert len(found) == len(gaps) > 0


def test_h10_a_full_sink_drops_and_counts_and_goes_on_when_there_is_room(tmp_path, caplog):
    """H10: ENOSPC costs no tick, is told once, and what waited is written, whole, when there is room."""
    line_up = executors()
    given = processed(line_up, walk_ticks(MORE_THAN_FITS + 100))
    full = os.open("/dev/full", os.O_WRONLY)
    log = AuditLog(tmp_path, line_up, options=OPTIONS)
    with log, device_of(log) as device:
        device.become(full)
        for each in given[:MORE_THAN_FITS]:
            log.took(each)
        wait_until(lambda: log.counts.failures >= 2)
        assert log.counts.dropped > 0
        device.heal()
        wait_until(lambda: not log._queue and log._gap is None and not segment_of(log).unwritten)
        for each in given[MORE_THAN_FITS:]:
            log.took(each)
    os.close(full)
    dropped = log.counts.dropped
    gaps = records(tmp_path, "gap")
    assert sum(gap["gap"] for gap in gaps) == dropped
    assert len(records(tmp_path, "tick")) == len(given) - dropped
    assert len(list(tmp_path.glob("audit-*.jsonl"))) == 1
    assert all(each.startswith("missing") for each in findings(tmp_path))
    assert caplog.text.count("cannot be written") == 1
    assert caplog.text.count("is written again") == 1


def test_h10_a_gap_is_told_though_no_tick_follows(tmp_path):
    """H10: what was dropped is in the log as soon as there is room, or at the close at the latest."""
    line_up = executors()
    given = processed(line_up, walk_ticks(MORE_THAN_FITS))
    full = os.open("/dev/full", os.O_WRONLY)
    log = AuditLog(tmp_path, line_up, options=OPTIONS)
    with log, device_of(log) as device:
        device.become(full)
        for each in given:
            log.took(each)
        dropped = log.counts.dropped
        assert dropped
        device.heal()
        wait_until(lambda: records(tmp_path, "gap"))
    os.close(full)
    (gap,) = records(tmp_path, "gap")
    assert (gap["gap"], gap["last"]) == (dropped, MORE_THAN_FITS - 1)


def test_h10_a_log_that_was_never_written_again_has_no_end(tmp_path, caplog):
    """H10: closed while the disk is full, it says what is missing in the program's log, and looks cut off."""
    line_up = executors()
    given = processed(line_up, walk_ticks(100))
    full = os.open("/dev/full", os.O_WRONLY)
    log = AuditLog(tmp_path, line_up, options=OPTIONS)
    with log, device_of(log) as device:
        device.become(full)
        for each in given:
            log.took(each)
    os.close(full)
    assert any("it has no end" in each for each in findings(tmp_path))
    assert "it has no end" in caplog.text
    assert records(tmp_path, "end") == []
    # The folder is free for the next run.
    write_log(tmp_path, 3)
    assert len(records(tmp_path, "tick")) == 3


def test_h10_a_broken_file_is_left_for_another_segment(tmp_path, caplog):
    """H10: what a file does not take for an error that no room mends is written to another segment."""
    line_up = executors()
    given = processed(line_up, walk_ticks(60))
    log = AuditLog(tmp_path, line_up, options=OPTIONS)
    unwritable = os.open(tmp_path, os.O_RDONLY)
    with log, device_of(log) as device:
        for each in given[:20]:
            log.took(each)
        wait_until(lambda: len(records(tmp_path, "tick")) == 20)
        device.become(unwritable)  # EBADF, as a device that is gone
        for each in given[20:40]:
            log.took(each)
        wait_until(lambda: len(records(tmp_path, "tick")) == 40)
    os.close(unwritable)
    assert len(list(tmp_path.glob("audit-*.jsonl"))) == 2
    assert findings(tmp_path) == []
    assert "trying another segment" in caplog.text


def test_h10_a_folder_that_is_removed_is_made_anew_and_the_loss_shows(tmp_path, caplog):
    """H10: what was in it is lost; the log goes on in a new folder, and says that segments are missing."""
    folder = tmp_path / "log"
    line_up = executors()
    given = processed(line_up, walk_ticks(40))
    with AuditLog(folder, line_up, options=replace(OPTIONS, sync_ms=1.0)) as log:
        for each in given[:20]:
            log.took(each)
        wait_until(lambda: len(records(folder, "tick")) == 20)
        # At once: what is removed file by file the log may find half gone, and write into before it is.
        folder.rename(tmp_path / "removed")
        shutil.rmtree(tmp_path / "removed")
        wait_until((folder / "audit-000002.jsonl").exists)
        for each in given[20:]:
            log.took(each)
    assert [record["tick"] for record in records(folder, "tick")] == list(range(20, 40))
    assert findings(folder) == ["missing audit-000002.jsonl: the segment before it is not here"]
    assert "is gone" in caplog.text


def test_h10_writing_stops_while_too_little_is_free(tmp_path, caplog):
    """H10: an audit log does not fill the disk for whatever else is on it."""
    line_up = executors()
    given = processed(line_up, walk_ticks(200))
    with AuditLog(tmp_path / "log", line_up, options=OPTIONS) as log:
        wait_until(lambda: not segment_of(log).unwritten)
        assert log._writer is not None
        log._writer._options = replace(OPTIONS, keep_free_bytes=1 << 60)
        log._writer._looked_s = 0.0
        for each in given:
            log.took(each)
        wait_until(lambda: log.counts.failures)
        assert log.counts.dropped >= len(given) - ROOM - BATCH_LINES
        assert "are to be kept free" in caplog.text
        log._writer._options = OPTIONS
        wait_until(lambda: not log._queue and log._gap is None)
    assert all(each.startswith("missing") for each in findings(tmp_path / "log"))
    with pytest.raises(OSError, match="are to be kept free") as error:
        AuditLog(tmp_path / "other", line_up, options=AuditOptions(keep_free_bytes=1 << 60)).__enter__()
    assert error.value.errno == errno.ENOSPC


def test_h10_a_replay_waits_for_the_disk_rather_than_drop(tmp_path):
    """H10: nobody waits for a replay, so its log has no gap, however small its queue is."""
    log = write_log(tmp_path, 2_000, AuditOptions(patient=True, max_queued=3))
    assert log.counts == AuditCounts(written=2_000)
    assert findings(tmp_path) == []


def test_h10_a_replay_does_not_wait_for_a_disk_that_is_full(tmp_path):
    """H10: patience ends where writing fails: the replay goes on, and drops and counts."""
    line_up = executors()
    given = processed(line_up, walk_ticks(MORE_THAN_FITS))
    full = os.open("/dev/full", os.O_WRONLY)
    log = AuditLog(tmp_path, line_up, options=replace(OPTIONS, patient=True))
    with log, device_of(log) as device:
        device.become(full)
        for each in given:
            log.took(each)
        assert log.counts.dropped
        device.heal()
        wait_until(lambda: not log._queue)
    os.close(full)


CHILD = """
import os, resource, signal, sys
sys.path[:0] = {paths!r}
from pathlib import Path
from fixtures_audit import executors, processed, walk_ticks, wait_until
from strategy_client.audit import AuditLog, AuditOptions
line_up = executors()
options = AuditOptions(max_queued=100_000, flush_ms=1.0, keep_free_bytes=0)
"""


def run_child(code: str, *arguments: str, wait: bool = True) -> "subprocess.Popen[str]":
    """Run a script in a process of its own."""
    paths = [str(Path(__file__).parents[1]), *sys.path]
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD.format(paths=paths) + code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    if wait:
        _, errors = process.communicate(timeout=BOUND_S)
        assert process.returncode == 0, errors
    return process


def test_h10_a_limit_on_the_size_of_files_begins_new_segments(tmp_path):
    """H10: EFBIG of the kernel's own is met by further segments, and no tick is lost."""
    run_child(
        """
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
with AuditLog(Path(sys.argv[1]), line_up, options=options) as log:
    for each in processed(line_up, walk_ticks(300)):
        log.took(each)
assert log.counts.dropped == 0, log
""",
        str(tmp_path),
    )
    assert len(list(tmp_path.glob("audit-*.jsonl"))) > 1
    assert [record["tick"] for record in records(tmp_path, "tick")] == list(range(300))
    # Each ends in a torn line, which the next one begins with: nothing is missing.
    assert findings(tmp_path) == []


def test_h10_a_process_that_is_killed_loses_no_more_than_it_said(tmp_path):
    """H10: after kill -9 every tick that was flushed is there, and the log says that it was cut off."""
    process = run_child(
        """
with AuditLog(Path(sys.argv[1]), line_up, options=options) as log:
    for each in processed(line_up, walk_ticks(50)):
        log.took(each)
    path = Path(sys.argv[1]) / "audit-000001.jsonl"
    wait_until(lambda: b'"tick":49,' in path.read_bytes())
    print("written", flush=True)
    signal.pause()
""",
        str(tmp_path),
        wait=False,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "written\n"
    while_it_writes = LogReader(tmp_path)
    assert len(list(while_it_writes)) == 51
    assert while_it_writes.being_written
    assert while_it_writes.findings == []
    process.kill()
    process.communicate(timeout=BOUND_S)
    assert len(records(tmp_path, "tick")) == 50
    (found,) = findings(tmp_path)
    assert "it has no end: the process was cut off" in found


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a file system")
def test_h10_a_file_system_that_is_full_costs_no_tick(tmp_path):
    """H10: on a real, full tmpfs ticks are dropped and counted, and all of it is told when room is made."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        line_up = executors()
        given = processed(line_up, walk_ticks(600))
        ballast = place / "ballast"
        with AuditLog(place / "log", line_up, options=OPTIONS) as log:
            wait_until(lambda: not segment_of(log).unwritten)
            with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
                while file.write(bytes(PAGE)):
                    pass
            for each in given[:500]:
                log.took(each)
            wait_until(lambda: log.counts.failures)
            assert log.counts.dropped
            ballast.unlink()
            wait_until(lambda: not log._queue and log._gap is None and not segment_of(log).unwritten)
            for each in given[500:520]:
                log.took(each)
        dropped = log.counts.dropped
        assert sum(gap["gap"] for gap in records(place / "log", "gap")) == dropped
        assert len(records(place / "log", "tick")) == 520 - dropped
        assert not any(each.startswith("broken") for each in findings(place / "log"))
    finally:
        subprocess.run(["umount", str(place)], check=True)
