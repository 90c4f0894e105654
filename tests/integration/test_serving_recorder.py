"""What outlives a restart is written when it changes, and what cannot be written is told."""

import asyncio
import shutil

import pytest

from inference_server.adapters.archive_folder import FolderArchive
from inference_server.core.servable import ServableId
from inference_server.serving.archive import Kept, Remembered
from inference_server.serving.lifecycle import Lifecycle
from inference_server.serving.recorder import Recorder
from inference_server.serving.repository import Candidate, Source


def swapped(*digests):
    """Return a life cycle whose model's file was replaced by these, one after another."""
    lifecycle = Lifecycle()
    for digest in digests:
        swap(lifecycle, digest)
    return lifecycle


def swap(lifecycle, digest):
    candidate = Candidate(ServableId("momentum", 1), digest, digest)
    lifecycle.found([candidate], {})
    while lifecycle.next_action():
        lifecycle.published(candidate)


@pytest.fixture
def archive(tmp_path):
    """An archive in a folder."""
    with FolderArchive(tmp_path / "state") as made:
        yield made


def run(scenario):
    """Run the scenario within a bound of time."""
    asyncio.run(asyncio.wait_for(scenario, 30))


def digest_of(letter):
    return letter * 64


def test_what_changed_is_written_and_nothing_else(archive):
    """One model's state is written when it differs from what was written; asked again, nothing is."""
    lifecycle = swapped(digest_of("a"))
    recorder = Recorder(archive, lifecycle, {})
    written = []
    remember = archive.remember
    archive.remember = lambda name, what: (written.append(what), remember(name, what))

    async def scenario():
        await recorder.write(["momentum", "unknown"])
        await recorder.write(["momentum"])
        swap(lifecycle, digest_of("b"))
        await recorder.write(["momentum"])

    run(scenario())
    assert [what.served for what in written] == [
        (Kept(1, digest_of("a")),),
        (Kept(1, digest_of("a")), Kept(1, digest_of("b"))),
    ]
    assert archive.load()["momentum"] == written[-1]


def test_bytes_that_no_rollback_can_want_any_more_are_dropped(archive, tmp_path):
    """As versions come, those beyond the last three go from the disk."""
    lifecycle = Lifecycle()
    recorder = Recorder(archive, lifecycle, {})

    async def scenario():
        for letter in "abcde":
            await recorder.keep("momentum", digest_of(letter), letter.encode())
            swap(lifecycle, digest_of(letter))
            await recorder.write(["momentum"])

    run(scenario())
    kept = sorted(path.name[0] for path in (tmp_path / "state" / "bytes").iterdir())
    assert kept == ["c", "d", "e"]


def test_an_archive_that_cannot_be_written_is_told_until_it_can(archive, tmp_path):
    """C8: the failure is told in words for a person and goes with the next success; nothing is raised."""
    lifecycle = swapped(digest_of("a"))
    recorder = Recorder(archive, lifecycle, {})
    state = tmp_path / "state"

    async def scenario():
        shutil.rmtree(state / "models")
        shutil.rmtree(state / "bytes")
        (state / "models").write_text("in the way")
        (state / "bytes").write_text("in the way")
        await recorder.keep("momentum", digest_of("a"), b"model")
        assert "a rollback to aaaaaaaaaaaa will not be possible" in recorder.failure("momentum")
        await recorder.write(["momentum"])
        assert "a restart will not know of rollbacks and labels" in recorder.failure("momentum")
        assert str(tmp_path) not in recorder.failure("momentum")
        assert "momentum" in repr(recorder)
        for name in ("models", "bytes"):
            (state / name).unlink()
            (state / name).mkdir()
        await recorder.write(["momentum"])
        assert "a restart" not in recorder.failure("momentum")
        assert "a rollback to aaaaaaaaaaaa" in recorder.failure("momentum"), "they are still not kept"
        await recorder.keep("momentum", digest_of("a"), b"model")
        assert recorder.failure("momentum") == ""

    run(scenario())


def test_bytes_that_could_not_be_kept_are_told_as_long_as_a_rollback_may_want_them(archive, tmp_path):
    """C8: that the small file can be written again does not bring back the big one."""
    lifecycle = swapped(digest_of("a"))
    recorder = Recorder(archive, lifecycle, {})
    bytes_folder = tmp_path / "state" / "bytes"

    async def scenario():
        shutil.rmtree(bytes_folder)
        bytes_folder.write_text("in the way")
        await recorder.keep("momentum", digest_of("a"), b"model")
        bytes_folder.unlink()
        bytes_folder.mkdir()
        for letter in "bcd":
            assert "a rollback to aaaaaaaaaaaa will not be possible" in recorder.failure("momentum")
            swap(lifecycle, digest_of(letter))
            await recorder.keep("momentum", digest_of(letter), b"model")
            await recorder.write(["momentum"])
        assert recorder.failure("momentum") == ""
        assert "failing" not in repr(recorder)

    run(scenario())


def test_a_decision_about_a_model_of_which_nothing_lies_there_is_written_too(archive):
    """Taken back while its files are gone, a rollback does not come back with the next restart."""
    pinned = Kept(1, digest_of("a"))
    before = Remembered(served=(pinned,), pinned=pinned, held=frozenset({Kept(1, digest_of("b"))}))
    archive.remember("momentum", before)
    lifecycle = Lifecycle(remembered={"momentum": before})
    recorder = Recorder(archive, lifecycle, {"momentum": before})

    async def scenario():
        lifecycle.next_action()
        lifecycle.refused(Candidate(ServableId("momentum", 1), digest_of("a"), "", Source.ARCHIVE), "lost")
        lifecycle.resume("momentum")
        assert lifecycle.next_action() is None
        assert lifecycle.model("momentum") is None
        await recorder.write(["momentum"])

    run(scenario())
    assert archive.load()["momentum"] == Remembered(served=(pinned,))
