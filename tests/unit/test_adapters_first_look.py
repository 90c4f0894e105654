"""The look at the model folder before a start's libraries are there: what it spares, and what it must not."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from manual_clock import ManualClock
from onnx_files import score_model
from sidecar_inside import put

from inference_server.adapters import first_look
from inference_server.adapters.first_look import FirstLook, look_at
from inference_server.adapters.model_repository import FolderRepository
from inference_server.serving.repository import Scan


class Started:
    """A repository that was looked at first, with a clock that the test moves."""

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock()
        look = replace(look_at(folder), at_ns=self.clock.monotonic_ns())
        self.repository = FolderRepository(folder, self.clock, first_look=look)

    def scan(self, after_s: float = 0.0) -> Scan:
        """Scan when so much time has passed."""
        self.clock.advance(after_s)
        return self.repository.scan()


def ids(scan: Scan) -> list[str]:
    """Return what was found."""
    return [str(candidate.id) for candidate in scan.candidates]


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A folder in both layouts."""
    put(tmp_path / "flat.onnx", score_model("flat"))
    put(tmp_path / "nested" / "2" / "model.onnx", score_model("nested"))
    return tmp_path


def test_a_file_that_was_looked_at_first_has_been_quiet_since(models: Path) -> None:
    """What is the same a tenth of a second after the first look counts at the first scan."""
    scan = Started(models).scan(after_s=0.11)
    assert (ids(scan), scan.unsettled, scan.again_s) == (["flat:1", "nested:2"], frozenset(), None)


def test_a_scan_too_soon_after_the_first_look_waits_for_the_rest(models: Path) -> None:
    """The time of quiet is as long as without a first look."""
    started = Started(models)
    scan = started.scan(after_s=0.06)
    assert (ids(scan), scan.again_s) == ([], pytest.approx(0.04))
    assert ids(started.scan(after_s=0.05)) == ["flat:1", "nested:2"]


def test_a_file_that_was_written_after_the_first_look_has_to_be_quiet_anew(models: Path) -> None:
    """Changed in place, even with its old times set again, replaced, come or got a manifest: it is new."""
    for name in ("changed", "replaced", "with_manifest"):
        put(models / f"{name}.onnx", score_model(name))
    started = Started(models)
    times = (models / "changed.onnx").stat()
    with (models / "changed.onnx").open("r+b") as file:
        file.write(score_model("changed")[:8])
    os.utime(models / "changed.onnx", ns=(times.st_atime_ns, times.st_mtime_ns))
    put(models / "replaced.onnx", score_model("replaced"))
    (models / "with_manifest.onnx.sha256").write_text("0" * 64)
    put(models / "come.onnx", score_model("come"))
    scan = started.scan(after_s=1.0)
    assert ids(scan) == ["flat:1", "nested:2"]
    assert scan.unsettled == {"changed", "replaced", "with_manifest", "come"}


def test_what_was_away_at_the_first_scan_is_new_when_it_comes_back(models: Path, tmp_path: Path) -> None:
    """The first look is of the first scan alone: later nothing is known of what lay there meanwhile."""
    started = Started(models)
    folder = models / "nested" / "2"
    folder.rename(models / "nested" / ".aside")
    assert ids(started.scan(after_s=1.0)) == ["flat:1"]
    (models / "nested" / ".aside").rename(folder)
    assert started.scan().unsettled == {"nested"}


def test_a_folder_that_is_not_there_or_holds_anything_is_looked_at(tmp_path: Path) -> None:
    """Nothing in a folder, and no folder, stops a start: what cannot be looked at is left out."""
    assert look_at(tmp_path / "absent").stamps == {}
    (tmp_path / "folder.onnx").mkdir()
    (tmp_path / "empty" / "1").mkdir(parents=True)
    (tmp_path / "file").write_text("x")
    (tmp_path / "to nothing.onnx").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.onnx")
    put(tmp_path / "good.onnx", score_model("good"))
    assert set(look_at(tmp_path).stamps) == {tmp_path / "good.onnx"}
    assert FirstLook().stamps == {}


@pytest.mark.parametrize(("name", "bound", "looked_at"), [("MAX_FILES", 1, 1), ("LONGEST_NS", 0, 0)])
def test_a_look_that_takes_long_is_ended(
    models: Path, monkeypatch: pytest.MonkeyPatch, name: str, bound: int, looked_at: int
) -> None:
    """All else waits for it, and files may be many, or far away: the others are looked at later."""
    monkeypatch.setattr(first_look, name, bound)
    assert len(look_at(models).stamps) == looked_at
