"""C2: each way in which an operator may put a new file in place; callers get the old or the new one."""

import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from asking import ROW_SUM, Asking, asking
from onnx_files import score_model
from sidecars import put, thread_sidecar

# The new file's size, and how it is written slowly: about two seconds in all.
PADDING = 40_000
CHUNK_BYTES = 1024
PACE_S = 0.05


@dataclass(frozen=True, slots=True)
class Place:
    """Where a model's file lies, a folder outside the repository, and a client that asks meanwhile."""

    name: str
    file: Path
    outside: Path
    client: Asking

    def arrived(self, bias: float) -> None:
        """Wait until the file of this bias answers, with no problem left."""
        self.client.eventually_score(self.name, ROW_SUM + bias)
        assert self.client.problem(self.name) == ""

    def still(self, bias: float) -> None:
        """Assert that the file of this bias answers."""
        assert self.client.ask(self.name).score == ROW_SUM + bias


def rename(place: Place, content: bytes) -> None:
    put(place.file, content)


def copy_over(place: Place, content: bytes) -> None:
    inode = place.file.stat().st_ino
    place.file.write_bytes(content)
    assert place.file.stat().st_ino == inode


def paced(place: Place, content: bytes) -> Iterator[bytes]:
    """Give the content bit by bit; before each next bit the old file still answers."""
    pace = threading.Event()
    for start in range(0, len(content), CHUNK_BYTES):
        yield content[start : start + CHUNK_BYTES]
        if start + CHUNK_BYTES < len(content):
            pace.wait(PACE_S)
            place.still(1)


def write_slowly(place: Place, content: bytes) -> None:
    """Over the live file, 1 kB every 50 ms; meanwhile the old one answers."""
    with place.file.open("wb", buffering=0) as out:
        for chunk in paced(place, content):
            out.write(chunk)


def append_slowly(place: Place, content: bytes) -> None:
    """The same with the file opened anew for each piece, as some uploads do."""
    os.truncate(place.file, 0)
    for chunk in paced(place, content):
        with place.file.open("ab") as out:
            out.write(chunk)


def write_then_close(place: Place, content: bytes) -> None:
    """The file's last bytes come long after the others: a writer that hangs, and wakes."""
    with place.file.open("wb", buffering=0) as out:
        out.write(content[:-10])
        threading.Event().wait(0.5)
        place.still(1)
        out.write(content[-10:])


def flip_link(place: Place, content: bytes) -> None:
    """The file is a link, turned to another file outside the repository."""
    for number, bytes_ in enumerate((place.file.read_bytes(), content)):
        target = place.outside / f"{place.name}-{number}"
        target.write_bytes(bytes_)
        link = place.file.with_name(f".{place.file.name}.link")
        link.symlink_to(target)
        link.replace(place.file)
        if number == 0:
            place.arrived(1)


def link_hard(place: Place, content: bytes) -> None:
    """The file is put in place as one more name of a file that lies elsewhere."""
    beside = place.file.with_name(".hard")
    beside.write_bytes(content)
    place.file.unlink()
    os.link(beside, place.file)
    beside.unlink()


def move_across(place: Place, content: bytes) -> None:
    """The file comes from another file system, so that moving it is copying it and removing the other."""
    memory = Path("/dev/shm")  # noqa: S108 - another file system is what is wanted
    if not memory.is_dir() or memory.stat().st_dev == place.file.parent.stat().st_dev:
        pytest.skip("no second file system here")
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        part = Path(folder) / "new.onnx"
        part.write_bytes(content)
        shutil.move(part, place.file)
        assert not part.exists()


def remove_and_write(place: Place, content: bytes) -> None:
    """The old file is removed first, and missed; the old bytes answer until the new ones are there."""
    place.file.unlink()
    place.client.eventually_problem(place.name, "its file is gone")
    place.file.write_bytes(content)


WAYS: dict[str, Callable[[Place, bytes], None]] = {
    way.__name__: way
    for way in (
        rename,
        copy_over,
        write_slowly,
        append_slowly,
        write_then_close,
        flip_link,
        link_hard,
        move_across,
        remove_and_write,
    )
}
LAYOUTS = {"flat": "{}.onnx", "nested": "{}/3/model.onnx"}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Asking]]:
    """One sidecar with a model for each way and layout."""
    folder = tmp_path_factory.mktemp("arriving")
    for way in WAYS:
        for layout, place in LAYOUTS.items():
            name = f"{way}-{layout}"
            put(folder / "models" / place.format(name), score_model(name, bias=1))
    with thread_sidecar(folder / "models") as sidecar, asking(sidecar) as client:
        yield folder, client


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("way", WAYS)
def test_a_file_arrives(repository: tuple[Path, Asking], way: str, layout: str) -> None:
    """C2: until the new file is whole the old one answers, and no call fails; then the new one does."""
    folder, client = repository
    name = f"{way}-{layout}"
    place = Place(name, folder / "models" / LAYOUTS[layout].format(name), folder, client)
    place.still(1)
    WAYS[way](place, score_model(name, bias=2, padding=PADDING))
    place.arrived(2)


@pytest.mark.parametrize("linked", ["models", "models/one", "models/one/3"])
def test_a_folder_that_is_a_link_is_flipped(tmp_path: Path, linked: str) -> None:
    """C2: the repository, a model's folder or a version's is a link: its flip swaps, as does what follows."""
    for number in (1, 2):
        release = tmp_path / f"release-{number}"
        put(release / "models" / "one" / "3" / "model.onnx", score_model("one", bias=number))
    link = tmp_path / linked
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(tmp_path / "release-1" / linked)
    with thread_sidecar(tmp_path / "models") as sidecar, asking(sidecar) as client:
        assert client.ask("one").score == ROW_SUM + 1
        beside = link.with_name(f".{link.name}.new")
        beside.symlink_to(tmp_path / "release-2" / linked)
        beside.replace(link)
        client.eventually_score("one", ROW_SUM + 2)
        target = tmp_path / "release-2" / "models" / "one" / "3" / "model.onnx"
        put(target, score_model("one", bias=3))
        client.eventually_score("one", ROW_SUM + 3)
        target.write_bytes(score_model("one", bias=4))
        client.eventually_score("one", ROW_SUM + 4)
        assert client.problem("one") == ""


def test_a_repository_in_a_mounted_folder_of_links_is_flipped(tmp_path: Path) -> None:
    """C2: files that are links through one hidden link, turned for all at once, as mounted configuration."""
    models = tmp_path / "models"
    for number in (1, 2):
        for name in ("one", "two"):
            put(models / f"..{number}" / f"{name}.onnx", score_model(name, bias=number))
    (models / "..data").symlink_to("..1")
    for name in ("one", "two"):
        (models / f"{name}.onnx").symlink_to(f"..data/{name}.onnx")
    with thread_sidecar(models) as sidecar, asking(sidecar) as client:
        assert {answer.score for answer in client.ask_all(["one", "two"])} == {ROW_SUM + 1}
        (models / "..new").symlink_to("..2")
        (models / "..new").replace(models / "..data")
        for name in ("one", "two"):
            client.eventually_score(name, ROW_SUM + 2)
        assert not any(client.problems().values())
