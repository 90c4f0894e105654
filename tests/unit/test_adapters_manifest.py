"""C6: a digest beside a model's file decides which bytes are a candidate."""

import hashlib
import os
from pathlib import Path

import pytest
from manual_clock import ManualClock
from onnx_files import score_model
from sidecar_inside import put

from inference_server.adapters import model_repository
from inference_server.adapters.manifest import check_manifest
from inference_server.adapters.model_file import IncompleteError, UnfitError
from inference_server.adapters.model_repository import FolderRepository, FolderRepositoryOptions

OLD, NEW = score_model(bias=1), score_model(bias=2)
FLAT, NESTED = "momentum.onnx", "momentum/3/model.onnx"


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def manifest_of(file):
    return file.with_name(f"{file.name}.sha256")


def vouch(file, content):
    """Put the manifest of these bytes beside the file, as `sha256sum FILE > FILE.sha256` would."""
    put(manifest_of(file), f"{sha256(content)}  {file.name}\n".encode())


class Repository:
    """A repository whose time the test moves."""

    def __init__(self, folder):
        self.clock = ManualClock()
        self.repository = FolderRepository(folder, self.clock, FolderRepositoryOptions())

    def scan(self):
        return self.repository.scan()

    def digests(self, seconds=0.2):
        """Look, let this time pass, look again; return the candidates' digests."""
        self.scan()
        self.clock.advance(seconds)
        return [candidate.digest for candidate in self.scan().candidates]

    def problems(self):
        """Let all settle and return what is wrong with the model."""
        for _ in range(3):
            self.digests(2.5)
        scan = self.scan()
        assert scan.unsettled == frozenset()
        return scan.problems.get("momentum", ())


@pytest.fixture(params=[FLAT, NESTED])
def file(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """The place of a model's file, in either layout."""
    return tmp_path / request.param


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A repository over the folder that `file` lies in."""
    return Repository(tmp_path)


@pytest.mark.parametrize(
    "line",
    ["{0}  momentum.onnx\n", "{0} *momentum.onnx\n", "{0}", "{1} elsewhere/other name.onnx\r\nmore\n"],
    ids=["sha256sum", "binary", "bare", "upper case, renamed, more lines"],
)
def test_a_file_that_fits_its_manifest_is_a_candidate(file, repository, line):
    """C6: in every form that sha256sum writes, the first word decides; names behind it do not matter."""
    put(file, NEW)
    put(manifest_of(file), line.format(sha256(NEW), sha256(NEW).upper()).encode())
    assert repository.digests() == [sha256(NEW)]
    assert repository.problems() == ()


def test_other_bytes_than_the_manifests_are_no_candidate(file, repository):
    """C6: at the start, nothing is a candidate, and the reason holds both digests once it has settled."""
    put(file, NEW)
    vouch(file, OLD)
    assert repository.digests() == []
    scan = repository.scan()
    assert (scan.problems, scan.unsettled) == ({}, {"momentum"}), "the other half may be on its way"
    (problem,) = repository.problems()
    assert f"the manifest says {sha256(OLD)[:12]}…, the file is {sha256(NEW)[:12]}…" in problem
    assert repository.digests() == []


@pytest.mark.parametrize("pause_s", [0.2, 5.0], ids=["soon", "after its reason was told"])
@pytest.mark.parametrize("first", ["file", "manifest"])
def test_both_may_be_replaced_in_either_order(file, repository, first, pause_s):
    """C6: with one of the two replaced the old candidate stays; with the other, the new one takes over."""
    put(file, OLD)
    vouch(file, OLD)
    assert repository.digests() == [sha256(OLD)]
    steps = [lambda: put(file, NEW), lambda: vouch(file, NEW)]
    one, other = steps if first == "file" else steps[::-1]
    one()
    assert repository.digests(pause_s) == [sha256(OLD)]
    assert repository.digests(pause_s) == [sha256(OLD)]
    other()
    assert repository.digests() == [sha256(NEW)]
    assert repository.problems() == ()


def test_a_wrong_file_is_mended_by_the_right_one_or_by_its_manifest(file, repository):
    """C6: after a mismatch either half can be put right: the old file back, or the new one's manifest."""
    put(file, OLD)
    vouch(file, OLD)
    assert repository.digests() == [sha256(OLD)]
    put(file, NEW)
    assert len(repository.problems()) == 1
    put(file, OLD)
    assert repository.problems() == ()
    put(file, NEW)
    assert repository.digests() == [sha256(OLD)]
    vouch(file, NEW)
    assert repository.digests() == [sha256(NEW)]


def test_a_manifest_written_bit_by_bit_must_be_whole_and_quiet(file, repository):
    """C6: half a manifest is half a file: the old candidate stays, no problem shows, until it is complete."""
    put(file, OLD)
    assert repository.digests() == [sha256(OLD)]
    put(file, NEW)
    digest = sha256(NEW).encode()
    for size in (0, 20, 63):
        manifest_of(file).write_bytes(digest[:size])
        assert repository.digests() == [sha256(OLD)]
        assert repository.scan().problems == {}
    manifest_of(file).write_bytes(digest)
    assert repository.scan().candidates[0].digest == sha256(OLD), "it was not quiet yet"
    assert repository.digests() == [sha256(NEW)]


def test_a_manifest_that_is_gone_for_a_moment_lets_nothing_through(file, repository, monkeypatch):
    """C6: removed between the look and the reading, to be written anew, it is waited for."""
    put(file, OLD)
    vouch(file, OLD)
    assert repository.digests() == [sha256(OLD)]
    put(file, NEW)

    def remove_then_check(path, digest):
        manifest_of(file).unlink()
        check_manifest(path, digest)

    with monkeypatch.context() as patched:
        patched.setattr(model_repository, "check_manifest", remove_then_check)
        assert repository.digests() == [sha256(OLD)]
    vouch(file, OLD)
    assert repository.digests() == [sha256(OLD)]
    assert len(repository.problems()) == 1


BAD = {
    "empty": b"",
    "half": b"5ed2" * 15,
    "too long": b"5ed2" * 17,
    "not hex": b"x" * 64,
    "another tool's": f"SHA256 (momentum.onnx) = {sha256(NEW)}\n".encode(),
    "second line": f"\n{sha256(NEW)}\n".encode(),
    "not text": b"\xff\x00" * 40,
}


@pytest.mark.parametrize("bad", BAD)
def test_a_manifest_without_a_digest_is_a_problem(file, repository, bad):
    """C6: what holds no digest is never taken as no manifest: the old candidate stays, the reason shows."""
    put(file, OLD)
    assert repository.digests() == [sha256(OLD)]
    put(manifest_of(file), BAD[bad])
    put(file, NEW)
    (problem,) = repository.problems()
    assert "the manifest holds no digest: expected 64 hex digits" in problem
    assert repository.digests() == [sha256(OLD)]
    manifest_of(file).unlink()
    assert repository.digests() == [sha256(NEW)]


ODD = {
    "folder": (lambda path: path.mkdir(), "the manifest is a folder, not a file"),
    "pipe": (os.mkfifo, "the manifest is a pipe, not a file"),
    "dangling": (lambda path: path.symlink_to("nowhere"), "the manifest is a link to nothing"),
    "huge": (
        lambda path: path.write_bytes(b"0" * 65_537),
        "the manifest has 65537 bytes, the bound is 65536",
    ),
}


@pytest.mark.parametrize("odd", ODD)
def test_a_manifest_that_is_no_file_is_a_problem(tmp_path, file, repository, odd):
    """C3, C6: what cannot be read as a manifest is told, never waited for and never ignored."""
    make, reason = ODD[odd]
    put(file, NEW)
    make(manifest_of(file))
    (problem,) = repository.problems()
    assert reason in problem
    assert str(tmp_path) not in problem
    assert repository.digests() == []


def test_a_manifest_that_appears_is_looked_at(file, repository):
    """C6: a manifest put beside a candidate changes nothing where it fits, and is told where it does not."""
    put(file, NEW)
    (before,) = (repository.digests(), repository.scan().candidates)[1]
    vouch(file, NEW)
    assert repository.problems() == ()
    assert repository.scan().candidates == (before,)
    vouch(file, OLD)
    assert len(repository.problems()) == 1
    assert repository.scan().candidates == (before,)


def test_a_manifest_alone_is_no_model(tmp_path, repository):
    """C6: a manifest that came before its file is nothing yet, and no problem."""
    vouch(tmp_path / FLAT, NEW)
    scan = repository.scan()
    assert (scan.names, scan.problems, scan.again_s) == (frozenset(), {}, None)


def test_checking_by_hand_says_the_same(tmp_path):
    """C6: the check that `inference-server check` can make: no manifest, a good one, each kind of bad one."""
    file = tmp_path / FLAT
    check_manifest(file, sha256(NEW))
    vouch(file, NEW)
    check_manifest(file, sha256(NEW))
    with pytest.raises(IncompleteError, match="the manifest says"):
        check_manifest(file, sha256(OLD))
    manifest_of(file).unlink()
    manifest_of(file).mkdir()
    with pytest.raises(UnfitError, match="the manifest is a folder"):
        check_manifest(file, sha256(NEW))
