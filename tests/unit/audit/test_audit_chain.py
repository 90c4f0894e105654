"""What somebody does to the files of a log, and what reading it says then."""

import random
import shutil
from pathlib import Path

import pytest
from fixtures_audit import findings, rechain, records, write_log

from strategy_client.audit import AuditOptions, chain
from strategy_client.audit.folder import AuditError
from strategy_client.audit.reader import LogReader

SMALL = AuditOptions(patient=True, segment_bytes=6_000)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A log of a few segments that nobody has touched."""
    folder = tmp_path_factory.mktemp("whole") / "log"
    write_log(folder, 60, SMALL)
    assert len(list(folder.glob("*.jsonl"))) > 2
    assert findings(folder) == []
    return folder


@pytest.fixture
def log(whole, tmp_path) -> Path:
    """A copy of the log, to be touched."""
    return Path(shutil.copytree(whole, tmp_path / "log"))


def lines_of(log: Path, number: int = 1) -> list[bytes]:
    """Return the lines of a segment."""
    return (log / f"audit-{number:06}.jsonl").read_bytes().splitlines(keepends=True)


def write_lines(log: Path, lines: list[bytes], number: int = 1) -> None:
    """Write a segment's lines anew."""
    (log / f"audit-{number:06}.jsonl").write_bytes(b"".join(lines))


def test_a_byte_that_is_flipped_anywhere_is_found_in_its_line(whole, tmp_path):
    """One byte changed, in any place of any segment, is told with its segment and line."""
    chosen = random.Random(5)  # noqa: S311 no secret
    path = whole / "audit-000002.jsonl"
    content = path.read_bytes()
    ends = [i for i, byte in enumerate(content) if byte == ord("\n")]
    # Every kind of place: the first and last bytes, ends of lines, and many others.
    places = {0, 1, len(content) - 2, *ends[:3], *chosen.sample(range(len(content) - 1), 200)}
    for place in sorted(places):
        folder = tmp_path / str(place)
        shutil.copytree(whole, folder)
        flipped = bytearray(content)
        flipped[place] ^= 1 << chosen.randrange(8)
        (folder / "audit-000002.jsonl").write_bytes(flipped)
        line = content[:place].count(b"\n") + 1
        found = [each for each in findings(folder) if each.startswith("broken")]
        assert found, place
        # A line's end that is gone makes one line of two.
        near = {f"audit-000002.jsonl:{n}" for n in (line, line + 1)}
        assert any(each.split()[1].rstrip(":") in near for each in found), (place, line, found)
        shutil.rmtree(folder)


def test_a_flipped_last_byte_is_a_torn_end(log):
    """Without its end of line the last line is none, so the log has no end."""
    path = max(log.glob("*.jsonl"))
    path.write_bytes(path.read_bytes()[:-1] + b"\x0b")
    assert any("torn end" in each for each in findings(log))
    assert any("no end" in each for each in findings(log))


def test_two_lines_that_change_places_are_found(log):
    """The first of the two no longer follows what stands before it."""
    lines = lines_of(log)
    lines[5], lines[6] = lines[6], lines[5]
    write_lines(log, lines)
    found = findings(log)
    assert "broken audit-000001.jsonl:6: it does not follow the line before it" in found[0]
    assert any("expected tick 4, came 5" in each for each in found)


@pytest.mark.parametrize("line", [0, 1, 7])
def test_a_line_that_is_dropped_is_found_where_it_was(log, line):
    """What stands in its place does not follow."""
    lines = lines_of(log)
    del lines[line]
    write_lines(log, lines)
    assert any(each.startswith(f"broken audit-000001.jsonl:{line + 1}:") for each in findings(log))


def test_one_damaged_line_is_one_finding(log):
    """The lines behind it follow its hash as before, and are not called broken too."""
    lines = lines_of(log)
    lines[4] = lines[4].replace(b'"token":1', b'"token":2')
    write_lines(log, lines)
    assert [each.split(":")[1] for each in findings(log)] == ["5"]


def test_a_damaged_hash_is_one_finding(log):
    """The line behind follows what the hash ought to be."""
    lines = lines_of(log)
    at = lines[4].index(b'"hash":"') + 10
    lines[4] = lines[4][:at] + (b"0" if lines[4][at : at + 1] != b"0" else b"1") + lines[4][at + 1 :]
    write_lines(log, lines)
    assert [each.split(":")[1] for each in findings(log)] == ["5"]


def test_lines_that_are_cut_off_a_segment_are_found_by_the_next_one(log):
    """A segment's header states the hash of the last line before it."""
    write_lines(log, lines_of(log)[:-3])
    assert any(each.startswith("broken audit-000002.jsonl:1:") for each in findings(log))


def test_lines_that_are_cut_off_the_last_segment_leave_it_without_an_end(log):
    """Nothing follows that could tell, but for the end that is not there."""
    number = len(list(log.glob("*.jsonl")))
    write_lines(log, lines_of(log, number)[:-1], number)
    (found,) = findings(log)
    assert found.startswith("missing")
    assert "it has no end" in found


def test_a_segment_that_is_removed_is_found(log):
    """From the middle it breaks the chain, from the start it is missing, from the end there is no end."""
    middle = log.with_name("middle")
    shutil.copytree(log, middle)
    (middle / "audit-000002.jsonl").unlink()
    assert findings(middle)[0] == "broken audit-000003.jsonl: segment 2 before it is not here"
    start = log.with_name("start")
    shutil.copytree(log, start)
    (start / "audit-000001.jsonl").unlink()
    assert findings(start) == ["missing audit-000002.jsonl: the segment before it is not here"]
    (start / "audit-000002.jsonl").unlink()
    assert findings(start)[0] == "missing audit-000003.jsonl: 2 segments before it are not here"
    last = max(log.glob("*.jsonl"))
    last.unlink()
    assert any("it has no end" in each for each in findings(log))


def test_a_segment_of_another_log_is_found(log, tmp_path):
    """A whole and valid segment that was put in another's place does not follow."""
    write_log(tmp_path / "other", 60, SMALL)
    shutil.copy(tmp_path / "other" / "audit-000002.jsonl", log / "audit-000002.jsonl")
    found = [each.split(": ")[0] for each in findings(log)]
    assert "broken audit-000002.jsonl:1" in found
    assert "broken audit-000003.jsonl:1" in found


def test_a_segment_under_another_number_is_found(log):
    """The header says which one it is."""
    last = max(log.glob("*.jsonl"))
    last.rename(log / "audit-000044.jsonl")
    assert any("its header says that it is segment" in each for each in findings(log))


def test_ticks_that_a_forger_leaves_out_are_found_by_their_index(log):
    """A chain can be worked out again; a tick that no gap explains is still not there."""

    def number_again(record: dict) -> None:
        if record.get("tick", 0) >= 10:
            record["tick"] += 5

    rechain(log, number_again)
    (found,) = findings(log)
    assert "expected tick 10, came 15, and no gap says why" in found


def test_a_torn_last_line_spoils_nothing_before_it(log):
    """After a kill in the middle of a line all whole lines are read, and a restart goes on behind them."""
    number = len(list(log.glob("*.jsonl")))
    path = log / f"audit-{number:06}.jsonl"
    lines = lines_of(log, number)
    path.write_bytes(b"".join(lines[:-2]) + lines[-2][:40])
    ticks = len(records(log, "tick"))
    assert ticks == 59
    found = findings(log)
    assert any(f":{len(lines) - 1}: torn end: the last 40 bytes" in each for each in found)
    write_log(log, 5)
    assert records(log, "segment")[-1]["previous"]["hash"] == chain.split(lines[-3])[1].hex()
    found = findings(log)
    assert not any(each.startswith("broken") for each in found)
    assert any("cut off before this one" in each for each in found)
    assert len(records(log, "tick")) == ticks + 5


def test_a_restart_behind_a_segment_without_a_whole_line_begins_a_chain_and_says_so(tmp_path):
    """An empty or unreadable last segment does not keep the next run from writing."""
    tmp_path.joinpath("audit-000001.jsonl").write_bytes(b"{ nonsense")
    write_log(tmp_path, 3)
    found = findings(tmp_path)
    assert any("torn end" in each for each in found)
    assert any("begins a chain of its own" in each for each in found)
    assert not any("does not follow" in each for each in found)
    assert len(records(tmp_path, "tick")) == 3


def test_an_anchor_is_met_by_the_line_that_states_it(whole):
    """A hash that was noted when the log was closed is found in it, and one of another log is not."""
    reader = LogReader(whole)
    for _ in reader:
        pass
    anchors = frozenset({reader.head, bytes(32)})
    again = LogReader(whole, anchors)
    for _ in again:
        pass
    assert again.heads == {reader.head}


@pytest.mark.parametrize("content", [None, {}, {"other.txt": b""}])
def test_a_folder_without_a_log_is_an_error(tmp_path, content):
    """The folder and what was expected in it are named."""
    folder = tmp_path / "log"
    if content is not None:
        folder.mkdir()
        for name, text in content.items():
            (folder / name).write_bytes(text)
    with pytest.raises(AuditError, match=f"{folder}: expected"):
        LogReader(folder)
