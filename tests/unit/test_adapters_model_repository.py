"""The model folder: what counts as a candidate, what is a problem, and when."""

import contextlib
import os
import socket
import tempfile
import types
from pathlib import Path

import pytest
from manual_clock import ManualClock
from onnx_files import score_model
from sidecar_inside import put

from inference_server.adapters import model_file
from inference_server.adapters.model_repository import FolderRepository, FolderRepositoryOptions
from inference_server.core.servable import ServableId
from inference_server.serving.repository import ChangedError

OPTIONS = FolderRepositoryOptions(quiet_s=0.1, settle_s=2.0, max_bytes=100_000)


class Watched:
    """A repository over a folder, with a clock that the test moves."""

    def __init__(self, folder, clock=None):
        self.clock = clock or ManualClock()
        self.repository = FolderRepository(folder, self.clock, OPTIONS)

    def scan(self):
        return self.repository.scan()

    def settle(self, seconds=2.5):
        """Scan, let time pass without a change, and scan until there is nothing to wait for."""
        scan = self.scan()
        self.clock.advance(seconds)
        scan = self.scan()
        if scan.again_s is not None:
            self.clock.advance(seconds)
            scan = self.scan()
        assert scan.again_s is None
        return scan


@pytest.fixture
def watched(tmp_path):
    return Watched(tmp_path)


def ids(scan):
    return [str(candidate.id) for candidate in scan.candidates]


def test_both_layouts_are_found(tmp_path, watched):
    """Files by name with their model_version, or 1; folders by number. Dots and other files are ignored."""
    put(tmp_path / "flat.onnx", score_model("flat"))
    put(tmp_path / "flat-3.onnx", score_model("flat-3", model_version=3))
    put(tmp_path / "nested" / "1" / "model.onnx", score_model("nested"))
    put(tmp_path / "nested" / "12" / "model.onnx", score_model("nested", model_version=5))
    (tmp_path / ".hidden.onnx").write_bytes(b"x")
    (tmp_path / "README.md").write_text("not a model")
    (tmp_path / "nested" / "README.md").write_text("not a version")
    scan = watched.settle()
    assert ids(scan) == ["flat:1", "flat-3:3", "nested:1", "nested:12"]
    assert scan.problems == {}
    assert scan.names == {"flat", "flat-3", "nested"}


def test_no_folder_is_an_empty_repository(tmp_path):
    """A1: a folder that does not exist holds nothing and is no error."""
    scan = Watched(tmp_path / "absent").scan()
    assert (scan.candidates, scan.problems, scan.again_s) == ((), {}, None)


def test_a_file_counts_once_it_was_quiet(tmp_path, watched):
    """C2: seen once it is no candidate yet, and the next look is due when it has been quiet."""
    put(tmp_path / "momentum.onnx", score_model())
    scan = watched.scan()
    assert (ids(scan), scan.again_s, scan.names) == ([], pytest.approx(0.1), {"momentum"})
    watched.clock.advance(0.06)
    assert watched.scan().again_s == pytest.approx(0.04)
    watched.clock.advance(0.05)
    scan = watched.scan()
    assert (ids(scan), scan.again_s) == (["momentum:1"], None)


def test_what_may_still_change_is_unsettled(tmp_path, watched):
    """A model is unsettled while a file of it is new, changing or half written, until that is told."""
    put(tmp_path / "whole.onnx", score_model("whole"))
    watched.settle()
    put(tmp_path / "momentum" / "1" / "model.onnx", score_model())
    (tmp_path / "cut.onnx").write_bytes(score_model("cut")[:300])
    assert watched.scan().unsettled == {"momentum", "cut"}
    watched.clock.advance(0.15)
    scan = watched.scan()
    assert (ids(scan), scan.unsettled) == (["momentum:1", "whole:1"], {"cut"})
    (tmp_path / "whole.onnx").touch()
    assert watched.scan().unsettled == {"cut", "whole"}
    watched.clock.advance(2.0)
    scan = watched.scan()
    assert (scan.unsettled, scan.again_s) == (frozenset(), None)
    assert "cut off" in scan.problems["cut"][0]


def test_a_half_written_file_keeps_the_candidate_before_it(tmp_path, watched):
    """C2: while a file is being written over a live one, the path's candidate stays and no problem shows."""
    file = tmp_path / "momentum.onnx"
    put(file, score_model())
    (before,) = watched.settle().candidates
    content = score_model(bias=1)
    file.write_bytes(content[:-50])
    for _ in range(3):
        scan = watched.scan()
        assert scan.candidates == (before,)
        assert scan.problems == {}
        assert scan.again_s is not None
        watched.clock.advance(0.3)
    with pytest.raises(ChangedError):
        watched.repository.read(before)
    file.write_bytes(content)
    (after,) = watched.settle(0.2).candidates
    assert after.digest != before.digest
    assert watched.repository.read(after) == content


def test_a_file_that_stays_half_written_gets_its_problem(tmp_path, watched):
    """C1: once a broken file has not changed for the settle time, its reason shows."""
    (tmp_path / "momentum.onnx").write_bytes(score_model()[:300])
    watched.scan()
    watched.clock.advance(1.9)
    assert watched.scan().problems == {}
    watched.clock.advance(0.2)
    scan = watched.scan()
    assert "momentum.onnx: the file is cut off" in scan.problems["momentum"][0]
    assert scan.again_s is None


@pytest.mark.parametrize("pause_s", [0.05, 0.5])
def test_a_file_that_is_written_to_without_end_holds_nobody_up(tmp_path, watched, pause_s):
    """C2: after half a minute a file that never comes to rest is told; it is served once it has."""
    file = tmp_path / "momentum.onnx"
    content = score_model()
    for step in range(int(30 / pause_s)):
        file.write_bytes(content[: 300 + step % 7])
        scan = watched.scan()
        assert (scan.problems, scan.unsettled) == ({}, {"momentum"})
        watched.clock.advance(pause_s)
    for _ in range(3):
        file.touch()
        for _ in range(2):
            scan = watched.scan()
            told = {"momentum": ("momentum.onnx: is still being written after 30 s",)}
            assert (scan.problems, scan.unsettled, scan.names) == (told, frozenset(), {"momentum"})
            assert scan.again_s is not None, "it is looked at again"
        watched.clock.advance(pause_s)
    file.write_bytes(content)
    assert ids(watched.settle(0.2)) == ["momentum:1"]
    file.write_bytes(content[:300])
    scan = watched.scan()
    assert (scan.problems, scan.unsettled) == ({}, {"momentum"}), "it has been at rest: another half a minute"


@pytest.mark.parametrize("name", ["03", "0", "-1", "v2", "1.0", "9" * 19, "²"])
def test_folders_that_are_no_versions_are_told(tmp_path, watched, name):
    """A3: not an integer, 0, leading zeros or beyond 63 bits: a problem, while its neighbours are found."""
    put(tmp_path / "momentum" / name / "model.onnx", score_model())
    put(tmp_path / "momentum" / "2" / "model.onnx", score_model())
    scan = watched.settle()
    assert ids(scan) == ["momentum:2"]
    assert f"folder {name!r} is no version" in scan.problems["momentum"][0]


def test_a_version_folder_without_a_model_is_told(tmp_path, watched):
    """A version folder whose file has another name is a problem that names the file expected."""
    put(tmp_path / "momentum" / "2" / "momentum.onnx", score_model())
    assert watched.settle().problems == {"momentum": ("version 2: holds no model.onnx",)}


def test_writing_under_a_hidden_name_is_no_problem_anywhere(tmp_path, watched):
    """C2: a file written beside its place, in a new version's folder too, is neither found nor missed."""
    put(tmp_path / "momentum" / "1" / "model.onnx", score_model())
    put(tmp_path / "flat.onnx", score_model("flat"))
    before = watched.settle().candidates
    pending = [
        tmp_path / ".flat.onnx.part",
        tmp_path / "momentum" / ".staging" / "model.onnx",
        tmp_path / "momentum" / "1" / ".model.onnx.part",
        tmp_path / "momentum" / "2" / ".model.onnx.part",
    ]
    content = score_model(bias=1)
    for size in (0, 100, len(content)):
        for path in pending:
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content[:size])
        scan = watched.scan()
        assert (scan.candidates, scan.problems) == (before, {})
        watched.clock.advance(0.5)
    scan = watched.scan()
    assert (scan.problems, scan.unsettled) == ({}, {"momentum"}), "version 2 is awaited"
    pending[-1].rename(tmp_path / "momentum" / "2" / "model.onnx")
    scan = watched.settle(0.2)
    assert ids(scan) == ["flat:1", "momentum:1", "momentum:2"]
    assert scan.problems == {}


def test_an_empty_version_folder_takes_nothing_from_the_file_beside_it(tmp_path, watched):
    """A folder made for a first version makes the flat file of that name no less a candidate."""
    put(tmp_path / "momentum.onnx", score_model())
    (tmp_path / "momentum" / "2").mkdir(parents=True)
    scan = watched.settle()
    assert ids(scan) == ["momentum:1"]
    assert scan.problems == {"momentum": ("version 2: holds no model.onnx",)}


def test_a_version_whose_file_was_removed_is_no_candidate(tmp_path, watched):
    """A9: what is kept through writing is not kept through deleting: the empty folder is a problem."""
    file = tmp_path / "momentum" / "2" / "model.onnx"
    put(file, score_model())
    assert ids(watched.settle()) == ["momentum:2"]
    file.unlink()
    assert watched.scan().candidates == ()
    assert watched.settle().problems == {"momentum": ("version 2: holds no model.onnx",)}


def test_names_that_no_model_can_have_are_told(tmp_path, watched):
    """D13: blanks, control characters and bytes that are no text are told, quoted, and are no models."""
    put(tmp_path / "my model.onnx", score_model())
    put(tmp_path / os.fsdecode(b"bad\xff\n") / "1" / "model.onnx", score_model())
    scan = watched.settle()
    assert (scan.candidates, scan.names) == ((), frozenset())
    assert "model name 'my model'" in scan.problems["'my model'"][0]
    assert "model name 'bad\\udcff\\n'" in scan.problems["'bad\\udcff\\n'"][0]


def test_both_layouts_for_one_name_are_refused(tmp_path, watched):
    """A name that lies there twice is ambiguous: neither is taken until one is removed."""
    put(tmp_path / "momentum.onnx", score_model())
    put(tmp_path / "momentum" / "2" / "model.onnx", score_model())
    scan = watched.settle()
    assert scan.candidates == ()
    assert "lies here twice" in scan.problems["momentum"][0]
    (tmp_path / "momentum.onnx").unlink()
    assert ids(watched.settle()) == ["momentum:2"]


def make_fifo(path):
    os.mkfifo(path)


def make_sparse(path):
    with path.open("wb") as file:
        file.truncate(10 * 2**30)


def make_socket(path):
    with contextlib.chdir(path.parent), socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path.name)  # by its short name, for a socket's path has a bound


ODD = {
    "empty": (lambda path: path.write_bytes(b""), "the file is empty"),
    "socket": (make_socket, "is a socket, not a file"),
    "endless device": (lambda path: path.symlink_to("/dev/zero"), "is a device, not a file"),
    "sizeless": (lambda path: path.symlink_to("/proc/self/environ"), "says that it has 0 bytes, and has not"),
    "changing": (lambda path: path.symlink_to("/proc/uptime"), "says that it has 0 bytes, and has not"),
    "memory": (lambda path: path.symlink_to("/proc/self/mem"), "cannot be read: Input/output error"),
    "folder": (lambda path: path.mkdir(), "is a folder, not a file"),
    "pipe": (make_fifo, "is a pipe, not a file"),
    "dangling": (lambda path: path.symlink_to("nowhere"), "is a link to nothing"),
    "loop": (lambda path: path.symlink_to(path.name), "is a link that leads to itself"),
    "sparse": (make_sparse, "has 10737418240 bytes, the bound is 100000"),
}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("place", ["momentum.onnx", "momentum/3/model.onnx"])
def test_what_is_no_file_is_told_and_read_never(tmp_path, watched, odd, place):
    """C3: each odd thing is a problem with its reason; none blocks, none raises, and the others are found."""
    make, reason = ODD[odd]
    path = tmp_path / place
    path.parent.mkdir(parents=True, exist_ok=True)
    make(path)
    put(tmp_path / "good.onnx", score_model("good"))
    scan = watched.settle()
    assert ids(scan) == ["good:1"]
    (text,) = scan.problems["momentum"]
    assert reason in text
    assert str(tmp_path) not in text


@pytest.fixture
def nobody():
    """Be a user whom permissions bind, for root is not."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_file_without_permission_is_told(nobody):
    """C3: a file that may not be read is a problem, and is found once it may."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "momentum.onnx"
        put(file, score_model())
        file.chmod(0)
        watched = Watched(Path(folder))
        refused = {"momentum": ("momentum.onnx: may not be read: no permission",)}
        assert watched.settle().problems == refused
        scan = watched.scan()
        assert (scan.problems, scan.again_s) == (refused, None), "it stays told, at every look"
        file.chmod(0o600)
        assert ids(watched.settle()) == ["momentum:1"]


def test_a_folder_without_permission_hides_no_other_model(nobody):
    """C3: a model's folder that may not be listed is that model's problem; others are still seen."""
    with tempfile.TemporaryDirectory() as folder:
        put(Path(folder) / "closed" / "1" / "model.onnx", score_model("closed"))
        watched = Watched(Path(folder))
        (Path(folder) / "closed").chmod(0)
        put(Path(folder) / "momentum.onnx", score_model())
        scan = watched.settle()
        assert ids(scan) == ["momentum:1"]
        assert scan.problems == {"closed": ("folder closed: cannot be listed: Permission denied",)}
        (Path(folder) / "closed").chmod(0o700)
        assert ids(watched.settle()) == ["closed:1", "momentum:1"]


def test_a_version_folder_without_permission_hides_nothing_beside_it(nobody):
    """C3: a version's folder that is closed keeps its candidate and is told; other files are still found."""
    with tempfile.TemporaryDirectory() as folder:
        put(Path(folder) / "momentum" / "1" / "model.onnx", score_model())
        watched = Watched(Path(folder))
        (before,) = watched.settle().candidates
        (Path(folder) / "momentum" / "1").chmod(0)
        put(Path(folder) / "momentum" / "2" / "model.onnx", score_model(bias=1))
        scan = watched.settle()
        assert (ids(scan), scan.candidates[0]) == (["momentum:1", "momentum:2"], before)
        assert scan.problems == {"momentum": ("version 1: may not be read: no permission",)}
        (Path(folder) / "momentum" / "1").chmod(0o700)


@pytest.mark.parametrize("link", ["elsewhere", "momentum/0"])
def test_a_link_to_where_nobody_may_look_hides_nothing_beside_it(nobody, link):
    """C3: beside a link to a closed folder other models, and its model's versions, are found as before."""
    with tempfile.TemporaryDirectory() as folder:
        models, closed = Path(folder) / "models", Path(folder) / "closed"
        (closed / "inner").mkdir(parents=True)
        put(models / "momentum" / "1" / "model.onnx", score_model())
        (models / link).symlink_to(closed / "inner")
        closed.chmod(0)
        watched = Watched(models)
        scan = watched.settle()
        assert ids(scan) == ["momentum:1"]
        if link == "elsewhere":
            assert scan.problems == {"elsewhere": ("folder elsewhere: cannot be listed: Permission denied",)}
        put(models / "late.onnx", score_model("late"))
        assert ids(watched.settle()) == ["late:1", "momentum:1"]
        closed.chmod(0o700)


def test_a_version_behind_a_link_stays_while_nobody_may_look_there(nobody):
    """C3: while a version's link leads to a closed folder its candidate stays, and it is told."""
    with tempfile.TemporaryDirectory() as folder:
        models, away = Path(folder) / "models", Path(folder) / "away"
        put(away / "2" / "model.onnx", score_model(bias=2))
        put(models / "momentum" / "3" / "model.onnx", score_model(bias=3))
        (models / "momentum" / "2").symlink_to(away / "2")
        watched = Watched(models)
        assert ids(watched.settle()) == ["momentum:2", "momentum:3"]
        away.chmod(0)
        scan = watched.settle()
        assert ids(scan) == ["momentum:2", "momentum:3"]
        assert scan.problems == {"momentum": ("version 2: may not be read: no permission",)}
        away.chmod(0o700)


def test_a_folder_that_cannot_be_listed_counts_as_it_was(nobody, caplog):
    """C3: while the model folder may not be listed its candidates stay, nobody waits; it is logged once."""
    with tempfile.TemporaryDirectory() as folder:
        put(Path(folder) / "momentum.onnx", score_model())
        watched = Watched(Path(folder))
        before = watched.settle()
        put(Path(folder) / "momentum.onnx", score_model(bias=1))
        assert watched.scan().unsettled == {"momentum"}
        Path(folder).chmod(0)
        for _ in range(2):
            scan = watched.scan()
            assert (scan.candidates, scan.unsettled, scan.again_s) == (before.candidates, frozenset(), None)
        Path(folder).chmod(0o700)
        assert watched.settle().candidates[0].digest != before.candidates[0].digest
        Path(folder).chmod(0)
        watched.scan()
        Path(folder).chmod(0o700)
    assert caplog.messages == ["the model folder cannot be listed: Permission denied"] * 2


def test_a_pipe_in_place_of_a_live_file_keeps_its_candidate(tmp_path, watched):
    """C3: what is odd over a live file is a problem; the candidate of the path stays."""
    file = tmp_path / "momentum.onnx"
    put(file, score_model())
    (before,) = watched.settle().candidates
    file.unlink()
    os.mkfifo(file)
    scan = watched.settle()
    assert scan.candidates == (before,)
    assert "is a pipe" in scan.problems["momentum"][0]
    with pytest.raises(ChangedError):
        watched.repository.read(before)


def test_other_bytes_of_the_same_size_and_time_are_noticed(tmp_path, watched):
    """C7: mtime set back to what it was, the same size, other bytes: another digest all the same."""
    file = tmp_path / "momentum.onnx"
    file.write_bytes(score_model(None, bias=1))
    (before,) = watched.settle().candidates
    times = (file.stat().st_atime_ns, file.stat().st_mtime_ns)
    file.write_bytes(score_model(None, bias=2))
    os.utime(file, ns=times)
    (after,) = watched.settle().candidates
    assert after.digest != before.digest


@pytest.mark.parametrize("moment", ["open", "read"])
def test_a_file_that_changes_while_it_is_looked_at_is_not_judged(tmp_path, watched, monkeypatch, moment):
    """C2: written between the look and the opening, or while it is read: it has to be quiet first."""
    file = tmp_path / "momentum.onnx"
    put(file, score_model())
    watched.scan()
    watched.clock.advance(0.2)
    real_open, real_fstat, looks = os.open, os.fstat, []

    def write_then_open(*arguments):
        if moment == "open":
            put(file, score_model(bias=1))
        return real_open(*arguments)

    def write_then_look(descriptor):
        looks.append(descriptor)
        if moment == "read" and len(looks) == 2:
            file.touch()
        return real_fstat(descriptor)

    with monkeypatch.context() as patched:
        patched.setattr(model_file, "os", types.SimpleNamespace(**vars(os)))
        patched.setattr(model_file.os, "open", write_then_open)
        patched.setattr(model_file.os, "fstat", write_then_look)
        scan = watched.scan()
    assert (scan.candidates, scan.again_s) == ((), pytest.approx(0.1))
    assert ids(watched.settle()) == ["momentum:1"]


def test_mtime_may_go_back(tmp_path, watched):
    """C7: an older file renamed over a newer one is a change like any other."""
    put(tmp_path / "momentum.onnx", score_model(bias=1))
    (before,) = watched.settle().candidates
    older = tmp_path / ".older"
    older.write_bytes(score_model(bias=2))
    os.utime(older, (1, 1))
    older.rename(tmp_path / "momentum.onnx")
    (after,) = watched.settle().candidates
    assert after.digest != before.digest


def test_no_wall_clock_is_read(tmp_path):
    """C7: how long a file was quiet is counted by the monotonic clock alone, whatever a clock steps by."""

    class Stepping(ManualClock):
        def wall_ns(self):
            raise AssertionError("the wall clock was read")

    watched = Watched(tmp_path, Stepping())
    put(tmp_path / "momentum.onnx", score_model())
    for step_s in (-(10**9), 10**9, 0):
        # The file's times are of a wall clock that stood elsewhere when it was written.
        os.utime(tmp_path / "momentum.onnx", (10**9 + step_s, 10**9 + step_s))
        assert (watched.scan().unsettled, watched.scan().again_s) == ({"momentum"}, pytest.approx(0.1))
        watched.clock.advance(0.11)
        assert ids(watched.scan()) == ["momentum:1"]


def test_an_unchanged_file_is_read_once(tmp_path, watched):
    """A13: later scans look at the file's stamp only; a touch reads it again and finds the same digest."""
    file = tmp_path / "momentum.onnx"
    put(file, score_model())
    (before,) = watched.settle().candidates
    judged = watched.repository._seen[file]
    assert watched.settle().candidates == (before,)
    assert watched.repository._seen[file] is judged
    file.touch()
    (after,) = watched.settle().candidates
    assert (after.digest, after.stamp == before.stamp) == (before.digest, False)


def test_a_version_below_1_in_the_file_is_told(tmp_path, watched):
    """A flat file whose model_version is negative has no version that could be served."""
    put(tmp_path / "momentum.onnx", score_model(model_version=-3))
    assert "model_version is -3" in watched.settle().problems["momentum"][0]


def test_reading_gives_the_digested_bytes_or_nothing(tmp_path, watched):
    """What is read is what was digested: a file replaced after the scan is ChangedError."""
    file = tmp_path / "momentum.onnx"
    put(file, score_model())
    (candidate,) = watched.settle().candidates
    assert candidate.id == ServableId("momentum", 1)
    assert watched.repository.read(candidate) == score_model()
    put(file, score_model(bias=1))
    with pytest.raises(ChangedError):
        watched.repository.read(candidate)
    file.unlink()
    with pytest.raises(ChangedError):
        watched.repository.read(candidate)
    watched.scan()
    with pytest.raises(ChangedError, match="not in the repository any more"):
        watched.repository.read(candidate)
