"""The files of a live run, and the disk under them."""

import threading
from pathlib import Path

import pytest
from fixtures_ticks import tick
from sidecars import eventually

from strategy_client.events import NoSignal, ProcessedTick, Reason, ShadowComparison
from strategy_client.live.journal import Journal
from strategy_client.live.recorder import Recorder, make_room
from strategy_client.live.run_files import RunFiles
from strategy_client.live.session import FILES

OUTCOME = NoSignal("s", 1, tick(1).timestamp, Reason.HOLD)
TICK = ProcessedTick(0, tick(1), [OUTCOME], 1)


class Files:
    """Files that a test fills, blocks or breaks."""

    def __init__(self) -> None:
        self.records: list[object] = []
        self.free = threading.Event()
        self.free.set()
        self.problem = ""
        self.size = 0
        self.closed = False

    def took(self, processed: ProcessedTick) -> None:
        """Write, or wait."""
        self.free.wait()
        self.records.append(processed)

    def compared(self, comparison: ShadowComparison) -> None:
        """Write."""
        self.records.append(comparison)

    def flush(self) -> int:
        """Reach the disk, or not."""
        if self.problem:
            raise OSError(self.problem)
        return self.size

    def close(self) -> None:
        """Write the rest, or not."""
        self.closed = True
        if self.problem:
            raise OSError(self.problem)


def test_everything_is_written_in_order_by_the_end() -> None:
    """What waits when the run ends is written, comparisons among the ticks."""
    files = Files()
    recorder = Recorder(files, Journal())
    recorder.start()
    comparison = ShadowComparison(0, tick(1), OUTCOME, OUTCOME)
    for record in (TICK, comparison, TICK):
        (recorder.took if record is TICK else recorder.compared)(record)
    recorder.close()
    assert files.records == [TICK, comparison, TICK]
    assert files.closed
    assert (recorder.written, recorder.dropped) == (3, 0)


def test_slow_disk_drops_and_counts_and_never_blocks() -> None:
    """A disk that hangs costs records, told once, and no tick any time."""
    files, journal = Files(), Journal()
    files.free.clear()
    recorder = Recorder(files, journal, max_waiting=5)
    recorder.start()
    for _ in range(5):
        recorder.took(TICK)
    eventually(lambda: len(recorder._waiting) < 5, "the first record is being written")
    for _ in range(20):
        recorder.took(TICK)
    assert recorder.dropped == 19
    assert journal.counts == {"recording": 1}
    files.free.set()
    recorder.close()
    assert recorder.written == 6


def test_full_disk_ends_the_record_and_is_told_once() -> None:
    """The first refusal ends the record; what comes is counted, the run goes on."""
    files, journal = Files(), Journal()
    files.problem = "No space left on device"
    recorder = Recorder(files, journal)
    recorder.start()
    recorder.took(TICK)
    eventually(lambda: recorder.problem, "the disk refused")
    assert recorder.problem == "nothing more is recorded: No space left on device"
    recorder.took(TICK)
    recorder.close()
    assert recorder.dropped == 1
    assert journal.counts["recording"] == 2  # and that the files could not be closed


def test_disk_that_refuses_in_the_middle_leaves_nothing_uncounted() -> None:
    """What was taken is written or dropped: also the tick in hand, and those that waited behind it."""

    class Filling(Files):
        def took(self, processed: ProcessedTick) -> None:
            if processed.index == 1:
                raise OSError("No space left on device")
            super().took(processed)

    files, journal = Filling(), Journal()
    recorder = Recorder(files, journal)
    for index in range(5):
        recorder.took(ProcessedTick(index, tick(1), [OUTCOME], 1))
    recorder.start()
    recorder.close()
    assert (recorder.written, recorder.dropped, files.closed) == (1, 4, True)
    assert recorder.problem == "nothing more is recorded: No space left on device"
    assert journal.counts == {"recording": 1}


def test_files_have_a_bound() -> None:
    """A run of weeks fills no disk: from the bound on nothing more is written, and that is told."""
    files, journal = Files(), Journal()
    files.size = 2 * 1024**2
    recorder = Recorder(files, journal, max_bytes=2 * 1024**2)
    recorder.start()
    recorder.took(TICK)
    eventually(lambda: recorder.problem, "the bound is reached")
    assert recorder.problem == "nothing more is recorded: the files have their 2 MiB"
    recorder.took(TICK)
    recorder.close()
    assert (recorder.written, recorder.dropped, files.closed) == (1, 1, True)


def test_disk_that_hangs_holds_up_no_end() -> None:
    """Closing gives the disk its time, and no more."""
    files, journal = Files(), Journal()
    files.free.clear()
    recorder = Recorder(files, journal)
    recorder.start()
    recorder.took(TICK)
    recorder.close(timeout_s=0.01)
    assert journal.last is not None
    assert journal.last.text == "the files were not written within 0.01 s"
    files.free.set()


def test_run_before_is_kept_and_the_one_before_that_not(tmp_path: Path) -> None:
    """A restart loses nothing of the run before; the folder holds two runs at most, and other files stay."""
    (tmp_path / "mine.txt").write_text("mine")
    for content in ("first", "second", "third"):
        make_room(tmp_path, ["signals.jsonl", "summary.json"])
        (tmp_path / "signals.jsonl").write_text(content)
        if content == "first":
            (tmp_path / "summary.json").write_text(content)
    assert (tmp_path / "signals.jsonl").read_text() == "third"
    assert (tmp_path / "before" / "signals.jsonl").read_text() == "second"
    # That of the first run would tell of other signals than those that lie beside it.
    assert not (tmp_path / "before" / "summary.json").exists()
    assert not (tmp_path / "summary.json").exists()
    assert (tmp_path / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize("names", [[], ["signals.jsonl"]])
def test_new_folder_is_made_and_nothing_else(tmp_path: Path, names: list[str]) -> None:
    """Where no run was before there is no folder of the run before."""
    make_room(tmp_path / "new", names)
    assert list((tmp_path / "new").iterdir()) == []


def test_folder_that_is_being_written_is_left_alone(tmp_path: Path) -> None:
    """A second run, or a run into the folder of a replay, moves nothing away from whoever writes there."""
    make_room(tmp_path, FILES)
    with RunFiles(tmp_path):
        with pytest.raises(OSError, match=r"signals\.jsonl: another process is writing it"):
            make_room(tmp_path, FILES)
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            "latency.npy",
            "outcomes.jsonl",
            "signals.jsonl",
        ]
    make_room(tmp_path, FILES)
    assert [path.name for path in tmp_path.iterdir()] == ["before"]


@pytest.mark.parametrize("error", [TypeError("no text"), SystemExit(3)], ids=["error", "exit"])
def test_record_that_cannot_be_written_is_left_out_and_told(error: BaseException) -> None:
    """What a user's processor put into metadata may raise anything: it costs its own tick, and is told."""

    class Refusing(Files):
        def took(self, processed: ProcessedTick) -> None:
            if processed.index == 1:
                raise error
            super().took(processed)

    files, journal = Refusing(), Journal()
    recorder = Recorder(files, journal)
    for index in range(3):
        recorder.took(ProcessedTick(index, tick(1), [OUTCOME], 1))
    recorder.start()
    recorder.close()
    assert [record.index for record in files.records] == [0, 2]
    assert (recorder.written, recorder.dropped, recorder.problem, files.closed) == (2, 1, "", True)
    assert journal.counts == {"recording": 1}
    assert journal.last is not None
    assert journal.last.text == f"tick 1 is not recorded: {type(error).__name__}: {error}"
