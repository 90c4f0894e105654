"""The archive in a folder: what is kept outlives a restart, and what is broken is never guessed."""

import contextlib
import hashlib
import json
import logging
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from inference_server.adapters.archive_folder import FolderArchive, default_state_folder, open_archive
from inference_server.adapters.archive_text import MAX_STATE_BYTES, state_text
from inference_server.serving.archive import Archive, ArchiveError, Kept, Remembered

BYTES = b"some model" * 1000
DIGEST = hashlib.sha256(BYTES).hexdigest()
OTHER_BYTES = b"another" * 1000
OTHER = hashlib.sha256(OTHER_BYTES).hexdigest()
STATE = Remembered(
    served=(Kept(3, DIGEST), Kept(2**63 - 1, OTHER)),
    pinned=Kept(3, DIGEST),
    held=frozenset({Kept(4, OTHER), Kept(2**63 - 1, OTHER)}),
    labels={"stable": 3, "canary": 4},
)
TEXT = state_text("momentum", STATE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where an archive may come to be; nothing of it is there."""
    return tmp_path / "not" / "there" / "yet"


@pytest.fixture
def archive(folder: Path) -> Iterator[Archive]:
    """An archive in that folder."""
    with FolderArchive(folder) as opened:
        yield opened


def reopened(archive: Archive, folder: Path) -> FolderArchive:
    """Close an archive and open it again, as a restart does."""
    archive.close()
    return FolderArchive(folder)


def open_files() -> int:
    """Count the files that this process has open; its sockets come and go with what other tests left."""
    count = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the one that the folder was read by
            count += str(descriptor.readlink()).startswith("/")
    return count


def spoil(folder: Path, content: bytes) -> Path:
    """Put something else in the place of a model's state."""
    path = folder / "models" / "momentum.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_what_is_kept_outlives_a_restart(archive: FolderArchive, folder: Path) -> None:
    """A10: every field of the state, and the bytes, are there again after a restart."""
    archive.remember("momentum", STATE)
    archive.remember("empty", Remembered())
    archive.keep(DIGEST, BYTES)
    with reopened(archive, folder) as again:
        assert again.load() == {"momentum": STATE, "empty": Remembered()}
        assert again.read(DIGEST) == BYTES


def test_the_last_state_is_the_one_remembered(archive: FolderArchive, folder: Path) -> None:
    """What is remembered of a model replaces what was, and that of others stays."""
    archive.remember("momentum", STATE)
    archive.remember("other", STATE)
    archive.remember("momentum", Remembered())
    with reopened(archive, folder) as again:
        assert again.load() == {"momentum": Remembered(), "other": STATE}


def test_names_that_differ_little_are_apart(archive: FolderArchive, folder: Path) -> None:
    """D13: names that differ in case alone, or look like files of ours, have files of their own."""
    names = ("a", "A", "a.json", "a.json.broken", "lock", DIGEST, f"{DIGEST}.onnx", "x" * 128, "X" * 128)
    states = {name: Remembered(labels={"stable": number + 1}) for number, name in enumerate(names)}
    for name, state in states.items():
        archive.remember(name, state)
    files = [path.name.lower() for path in (folder / "models").iterdir()]
    assert len(set(files)) == len(names)
    with reopened(archive, folder) as again:
        assert again.load() == states


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "a\n", "x" * 129])
def test_a_name_that_is_no_models_is_refused(archive: FolderArchive, folder: Path, name: str) -> None:
    """D13: no name leads out of the folder."""
    with pytest.raises(ArchiveError, match="model name"):
        archive.remember(name, STATE)
    assert list((folder / "models").iterdir()) == []


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (Remembered(served=(Kept(0, DIGEST),)), "version: expected an integer above 0, came 0"),
        (Remembered(held=frozenset({Kept(1, "../../x")})), "digest: expected 64 lower-case"),
        (Remembered(labels={"Stable": 1}), "label 'Stable': expected"),
        (Remembered(labels={"stable": 2**63}), "version: expected an integer above 0"),
        (Remembered(served=(Kept(1, DIGEST),) * 20_000), "bytes, the bound is 1048576"),
    ],
)
def test_nothing_is_written_that_a_start_would_refuse(
    archive: FolderArchive, state: Remembered, told: str
) -> None:
    """C8: a state that could not be read again is refused when it is written; the one before stays."""
    archive.remember("momentum", STATE)
    with pytest.raises(ArchiveError, match=f"the state of model 'momentum' cannot be written: .*{told}"):
        archive.remember("momentum", state)
    assert archive.load() == {"momentum": STATE}


@pytest.mark.parametrize("digest", ["", "..", "A" * 64, "a" * 63, f"{DIGEST}/x", f"{DIGEST}\n"])
def test_what_is_no_digest_is_no_file(archive: FolderArchive, digest: str) -> None:
    """C10: only 64 hexadecimal digits become a file's name."""
    with pytest.raises(ArchiveError, match="64 lower-case hexadecimal digits"):
        archive.keep(digest, BYTES)
    with pytest.raises(ArchiveError, match="64 lower-case hexadecimal digits"):
        archive.read(digest)


def test_bytes_that_were_never_kept_are_told(archive: FolderArchive) -> None:
    """A digest that is not there is told by its beginning, without a path."""
    with pytest.raises(ArchiveError, match=f"^the kept file of {DIGEST[:12]} is not there$"):
        archive.read(DIGEST)


def test_bytes_kept_already_are_not_written_again(archive: FolderArchive, folder: Path) -> None:
    """A13: what is there in full is left as it is, and what was cut short is written again."""
    archive.keep(DIGEST, BYTES)
    path = folder / "bytes" / f"{DIGEST}.onnx"
    before = path.stat()
    archive.keep(DIGEST, BYTES)
    assert path.stat() == before
    path.write_bytes(BYTES[:-1])
    archive.keep(DIGEST, BYTES)
    assert archive.read(DIGEST) == BYTES


@pytest.mark.parametrize("broken", [b"", BYTES[:-1], BYTES + b"x", b"X" + BYTES[1:]])
def test_broken_bytes_are_never_returned(archive: FolderArchive, folder: Path, broken: bytes) -> None:
    """C6: bytes that do not have the digest of their name are told and removed, and can be kept anew."""
    archive.keep(DIGEST, BYTES)
    path = folder / "bytes" / f"{DIGEST}.onnx"
    path.write_bytes(broken)
    with pytest.raises(ArchiveError, match="was broken; it is removed"):
        archive.read(DIGEST)
    assert not path.exists()
    archive.keep(DIGEST, BYTES)
    assert archive.read(DIGEST) == BYTES


def test_what_took_the_place_of_a_kept_file_holds_nobody_up(archive: FolderArchive, folder: Path) -> None:
    """C3: a pipe or a sparse giant in the place of kept bytes is told at once, and read into no memory."""
    os.mkfifo(folder / "bytes" / f"{DIGEST}.onnx")
    with (folder / "bytes" / f"{OTHER}.onnx").open("wb") as giant:
        giant.truncate(10 * 2**30)
    with pytest.raises(ArchiveError, match="is a pipe, not a file"):
        archive.read(DIGEST)
    with pytest.raises(ArchiveError, match=r"has 10737418240 bytes, the bound is"):
        archive.read(OTHER)


def test_a_sweep_drops_what_is_not_named(archive: FolderArchive, folder: Path) -> None:
    """Bytes that nobody needs any more go; the others stay, and so does what is no file of ours."""
    archive.keep(DIGEST, BYTES)
    archive.keep(OTHER, OTHER_BYTES)
    stranger = folder / "bytes" / "stranger.onnx"
    stranger.write_bytes(b"")
    archive.sweep({DIGEST})
    assert archive.read(DIGEST) == BYTES
    assert sorted(path.name for path in (folder / "bytes").iterdir()) == sorted(
        [stranger.name, f"{DIGEST}.onnx"]
    )


def documents() -> dict[str, object]:
    """Return what may stand in a state file by mistake, each wrong in one way."""
    good = json.loads(TEXT)
    kept = {"version": 1, "digest": DIGEST}
    wrong: dict[str, object] = {
        "another format": good | {"format": 2},
        "a format that is no integer": good | {"format": True},
        "a key more": good | {"more": "x" * 100_000},
        "another model's": good | {"model": "other"},
        "a path for a name": good | {"model": "../momentum"},
        "a number for a name": good | {"model": 3},
        "served is no list": good | {"served": {}},
        "served is a number": good | {"served": 3},
        "served holds a number": good | {"served": [1]},
        "served holds a key more": good | {"served": [kept | {"more": 1}]},
        "a version of 0": good | {"served": [kept | {"version": 0}]},
        "a version of 1.0": good | {"served": [kept | {"version": 1.0}]},
        "a version that is true": good | {"served": [kept | {"version": True}]},
        "a digest in capitals": good | {"pinned": kept | {"digest": "A" * 64}},
        "a digest that is a path": good | {"held": [kept | {"digest": "../x"}]},
        "a digest that is a number": good | {"held": [kept | {"digest": 3}]},
        "pinned is a list": good | {"pinned": []},
        "labels are a list": good | {"labels": ["stable"]},
        "a label in capitals": good | {"labels": {"Stable": 1}},
        "a label of no version": good | {"labels": {"stable": None}},
        "a list": [good],
        "nothing": None,
    }
    for key in good:
        wrong[f"no {key}"] = {name: value for name, value in good.items() if name != key}
    return wrong


@pytest.mark.parametrize(
    "content",
    [
        *(pytest.param(json.dumps(document).encode(), id=what) for what, document in documents().items()),
        pytest.param(b"", id="empty"),
        pytest.param(b"\xff\xfe{", id="no text"),
        pytest.param(b"[" * 500_000, id="deep"),
        pytest.param(b'{"format": 1' + b"0" * 500_000 + b"}", id="endless number"),
        pytest.param(TEXT + b" " * MAX_STATE_BYTES, id="good, but longer than the bound"),
        *(pytest.param(TEXT[: len(TEXT) * n // 16], id=f"cut {n}") for n in range(16)),
    ],
)
def test_a_state_that_cannot_be_read_is_set_aside(
    folder: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    """C1, C8: a state cut short, of another format or wrong in a field: logged, kept aside, not guessed."""
    with FolderArchive(folder) as archive:
        archive.remember("healthy", STATE)
        path = spoil(folder, content)
        with caplog.at_level(logging.ERROR):
            assert archive.load() == {"healthy": STATE}
        (record,) = caplog.records
        assert str(path) in record.getMessage()
        assert len(record.getMessage()) < 1000
        assert not path.exists()
        assert path.with_name("momentum.json.broken").read_bytes() == content
        archive.remember("momentum", STATE)
        assert archive.load() == {"healthy": STATE, "momentum": STATE}


def test_a_second_broken_state_takes_the_place_of_the_first(folder: Path) -> None:
    """What is set aside does not grow: one file a model."""
    with FolderArchive(folder) as archive:
        for content in (b"first", b"second"):
            spoil(folder, content)
            assert archive.load() == {}
        assert [path.name for path in (folder / "models").iterdir()] == ["momentum.json.broken"]


def test_strange_things_among_the_states_harm_nothing(folder: Path) -> None:
    """C3: a folder, a pipe or a dangling link in the place of a state keeps no other from being read."""
    with FolderArchive(folder) as archive:
        archive.remember("momentum", STATE)
        (folder / "models" / "a.json").mkdir()
        os.mkfifo(folder / "models" / "b.json")
        (folder / "models" / "c.json").symlink_to("nowhere")
        assert archive.load() == {"momentum": STATE}


def test_it_is_for_its_user_alone(archive: FolderArchive, folder: Path) -> None:
    """F10: the folder, those made above it, and all files in it can be seen by nobody else."""
    archive.keep(DIGEST, BYTES)
    archive.remember("momentum", STATE)
    for path in (folder.parent.parent, folder.parent, folder, *folder.rglob("*")):
        expected = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == expected, path


def test_a_second_sidecar_on_the_folder_is_told(archive: FolderArchive, folder: Path) -> None:
    """F4: a folder belongs to one archive at a time, and to the next as soon as the first is closed."""
    with pytest.raises(ArchiveError, match=r"^the state folder is used by another sidecar$"):
        FolderArchive(folder)
    archive.remember("momentum", STATE)
    with reopened(archive, folder) as again:
        assert again.load() == {"momentum": STATE}
    archive.close()


def test_a_forked_child_does_not_hold_the_folder(archive: FolderArchive, folder: Path) -> None:
    """F4: closing lets the folder go though the lock's descriptor lives on elsewhere."""
    held = os.dup(archive._lock)
    try:
        reopened(archive, folder).close()
    finally:
        os.close(held)


def test_opening_and_closing_leaves_no_file_open(folder: Path) -> None:
    """B3: neither an archive that is closed, nor one that is refused, leaves a descriptor behind."""
    with FolderArchive(folder):
        before = open_files()
        with pytest.raises(ArchiveError):
            FolderArchive(folder)
        assert open_files() == before
    assert open_files() == before - 1


def test_a_write_that_outlives_its_archive_harms_no_other(
    archive: FolderArchive, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F3: a thread that still writes for an archive that is closed fails alone; the next one is whole."""
    fsync, told = os.fsync, []
    begun, go_on = threading.Event(), threading.Event()

    def write_late() -> None:
        with pytest.raises(ArchiveError) as caught:
            archive.remember("momentum", STATE)
        told.append(str(caught.value))

    def held_up(descriptor: int) -> None:
        if threading.current_thread() is late:
            begun.set()
            assert go_on.wait(60)
        elif not go_on.is_set():  # the successor is in the middle of its write
            go_on.set()
            late.join(60)
        fsync(descriptor)

    late = threading.Thread(target=write_late)
    monkeypatch.setattr(os, "fsync", held_up)
    late.start()
    assert begun.wait(60)
    with reopened(archive, folder) as successor:
        successor.remember("momentum", Remembered())
        assert told == ["the state of model momentum cannot be written: No such file or directory"]
        assert successor.load() == {"momentum": Remembered()}


def test_what_a_write_leaves_behind_is_swept(archive: FolderArchive, folder: Path) -> None:
    """F3: unfinished writes of any process before are gone after the next start, and nothing else is."""
    archive.remember("momentum", STATE)
    for part in ("models/.momentum.json.part", "bytes/.abc.onnx.0123.part"):
        (folder / part).write_bytes(b"x" * 1000)
    with reopened(archive, folder) as again:
        assert not list(folder.glob("*/.*"))
        assert again.load() == {"momentum": STATE}


def test_what_was_written_reaches_the_disk_in_order(
    archive: FolderArchive, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C8: a file is on the disk before it gets its name, and its name is before the call returns."""
    done: list[str] = []
    fsync, replace = os.fsync, os.replace

    def flush(descriptor: int) -> None:
        kind = "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        done.append(f"{kind} of {os.fstat(descriptor).st_size} bytes" if kind == "file" else kind)
        fsync(descriptor)

    def rename(source: str, target: str) -> None:
        done.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", flush)
    monkeypatch.setattr(os, "replace", rename)
    archive.keep(DIGEST, BYTES)
    archive.remember("momentum", STATE)
    assert done == [
        *(f"file of {len(BYTES)} bytes", "rename", "folder"),
        *(f"file of {len(TEXT)} bytes", "rename", "folder"),
    ]


@pytest.mark.parametrize("taken", ["", "lock", "models", "bytes"])
def test_a_folder_that_cannot_be_used_is_told_without_its_path(tmp_path: Path, taken: str) -> None:
    """F10: where something else stands in the way, the text has the system's reason and no path."""
    folder = tmp_path / "state"
    way = folder / taken
    if taken == "lock":
        way.mkdir(parents=True)
    else:
        way.parent.mkdir(exist_ok=True)
        way.write_bytes(b"")
    before = open_files()
    with pytest.raises(ArchiveError, match=r"^the state folder cannot be used: [^/]*$"):
        FolderArchive(folder)
    assert open_files() == before


def test_without_its_folder_it_goes_on_with_a_warning(
    archive: FolderArchive, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """F4: a locked folder costs the restart's memory alone; the warning says so and why."""
    archive.remember("momentum", STATE)
    with open_archive(folder) as other:
        (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
        assert "rollbacks will not outlive this process" in record.getMessage()
        assert "used by another sidecar" in record.getMessage()
        assert str(folder) in record.getMessage()
        other.keep(OTHER, OTHER_BYTES)
        other.remember("other", STATE)
        assert other.load() == {"momentum": STATE, "other": STATE}
        assert archive.load() == {"momentum": STATE}
        assert [path.name for path in (folder / "bytes").iterdir()] == []


def test_decisions_hold_though_their_folder_cannot_be_had(archive: FolderArchive, folder: Path) -> None:
    """F4: beside a sidecar that has not ended, what was rolled back stays so, and its folder as it is."""
    archive.remember("momentum", STATE)
    archive.keep(DIGEST, BYTES)
    archive.keep(OTHER, OTHER_BYTES)
    broken = spoil(folder, b"{").rename(folder / "models" / "broken.json")
    archive.remember("momentum", STATE)
    with open_archive(folder) as other:
        assert other.load() == {"momentum": STATE}
        assert other.read(DIGEST) == BYTES
        other.remember("momentum", Remembered())
        other.keep(DIGEST, BYTES)
        other.sweep({DIGEST})
        assert broken.read_bytes() == b"{"
        archive.sweep({OTHER})
        with pytest.raises(ArchiveError, match="is a link to nothing"):
            other.read(DIGEST)
        other.keep(DIGEST, BYTES)
        assert other.read(DIGEST) == BYTES
    assert archive.read(OTHER) == OTHER_BYTES
    assert archive.load() == {"momentum": STATE}
    with pytest.raises(ArchiveError, match="is not there"):
        archive.read(DIGEST)


def test_a_temporary_archive_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where no folder is known a private temporary one is used, and removed at the end."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with open_archive(None) as archive:
        assert "rollbacks will not outlive this process: no folder" in caplog.text
        archive.keep(DIGEST, BYTES)
        (made,) = tmp_path.iterdir()
        assert stat.S_IMODE(made.stat().st_mode) == 0o700
        assert repr(archive) == f"<FolderArchive {made}, temporary>"
    assert list(tmp_path.iterdir()) == []
    assert repr(archive) == f"<FolderArchive {made}, closed>"


def test_what_a_killed_sidecar_left_is_removed_by_the_next_temporary_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C8: what kill -9 leaves cannot fill the disk; whatever lives, is new, or is somebody's stays."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    left, living, fresh = (tmp_path / f"tickserve-temporary-{name}" for name in ("left", "living", "fresh"))
    state, link = tmp_path / "tickserve-state", tmp_path / "tickserve-temporary-link"
    for path in (left, fresh, state):
        with FolderArchive(path) as one:
            one.keep(DIGEST, BYTES)
    link.symlink_to(state)
    with FolderArchive(living, temporary=True):
        for path in (left, living, state):
            os.utime(path, (1, 1))
        os.utime(link, (1, 1), follow_symlinks=False)
        before = open_files()
        with open_archive(None):
            assert set(tmp_path.iterdir()) >= {living, fresh, state, link}
            assert not left.exists()
        assert open_files() == before


def test_with_its_folder_it_says_nothing_to_worry_about(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A folder that can be used is used, without a warning, and stays."""
    with open_archive(folder) as archive:
        archive.remember("momentum", STATE)
    with open_archive(folder) as archive:
        assert archive.load() == {"momentum": STATE}
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_where_nothing_can_be_written_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """C8: not even a temporary folder: an error with the system's reason, for the start to fail on."""
    monkeypatch.setattr("tempfile.tempdir", "/proc/nowhere")
    with pytest.raises(ArchiveError, match=r"^no temporary folder can be made: [^/]+$"):
        open_archive(None)


@pytest.mark.parametrize(
    ("environ", "base"),
    [
        ({"STATE_DIRECTORY": "/var/lib/a:/var/lib/b", "XDG_STATE_HOME": "/x", "HOME": "/h"}, "/var/lib/a"),
        ({"STATE_DIRECTORY": "", "XDG_STATE_HOME": "/x", "HOME": "/h"}, "/x/tickserve"),
        (
            {"STATE_DIRECTORY": "relative", "XDG_STATE_HOME": "relative", "HOME": "/h"},
            "/h/.local/state/tickserve",
        ),
        ({"HOME": "/h"}, "/h/.local/state/tickserve"),
    ],
)
def test_the_state_has_its_place(environ: dict[str, str], base: str) -> None:
    """Systemd's folder comes first, then the user's as the XDG specification says."""
    folder = default_state_folder(Path("/srv/my models"), environ)
    assert folder is not None
    assert str(folder.parent) == base
    digest = hashlib.sha256(b"/srv/my models").hexdigest()
    assert folder.name == f"my_models-{digest[:12]}"


@pytest.mark.parametrize("environ", [{}, {"HOME": ""}, {"HOME": "relative"}])
def test_where_nothing_says_where_there_is_no_place(environ: dict[str, str]) -> None:
    """Nothing is ever kept in a folder that merely happens to be the current one."""
    assert default_state_folder(Path("models"), environ) is None


def test_each_models_folder_has_a_state_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """C2: the state goes by the path as configured: a flipped link keeps it, another path has another."""
    monkeypatch.chdir(tmp_path)
    environ = {"HOME": "/h"}
    link = tmp_path / "models"
    link.symlink_to("release-1")
    before = default_state_folder(link, environ)
    link.unlink()
    link.symlink_to("release-2")
    assert default_state_folder(link, environ) == before
    assert default_state_folder(Path("models"), environ) == before
    assert default_state_folder(Path("elsewhere/../models/"), environ) == before
    others = [tmp_path / "release-2", tmp_path / "deeper" / "models", Path("/")]
    assert len({before, *(default_state_folder(other, environ) for other in others)}) == 4
    root = default_state_folder(Path("/"), environ)
    assert root is not None
    assert root.name.startswith("root-")
    long = default_state_folder(Path("/" + "x" * 255), environ)
    assert long is not None
    assert len(long.name) == 64 + 1 + 12
