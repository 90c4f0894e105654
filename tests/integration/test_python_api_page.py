"""The code of docs/python-api.md, taken out of it and run."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from readme_blocks import page_block
from sidecars import thread_sidecar

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "python-api.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository as the page sees it, with 600 ticks in place of the real ones."""
    folder = tmp_path_factory.mktemp("page")
    for name in ("models", "examples"):
        (folder / name).symlink_to(ROOT / name)
    prices = [1640 + 0.25 * ((index * 7) % 5) for index in range(600)]
    lines = [
        f"2013-09-02 09:{30 + index // 60}:{index % 60:02},{price},1" for index, price in enumerate(prices)
    ]
    (folder / ".cache").mkdir()
    (folder / ".cache" / "es_ticks.csv").write_text("DateTime,Price,Volume\n" + "\n".join(lines) + "\n")
    return folder


def run(folder: Path, *arguments: str) -> str:
    """What a program of the page prints; it is to end well and to complain of nothing."""
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout


def test_the_page_replays(folder: Path) -> None:
    """The first example goes over a session and counts what came of it."""
    assert "Counter({" in run(folder, "-c", page_block(PAGE, "replay_it.py"))


def test_the_page_makes_arrays_and_a_frame(folder: Path) -> None:
    """The second one sums signals up in arrays, and outcomes in a frame."""
    printed = run(folder, "-c", page_block(PAGE, "arrays.py"))
    assert re.search(r"^\d+ of \d+ signals buy, at a mean of 16\d\d", printed, re.MULTILINE)
    assert "mean_reversion" in printed


def test_the_page_tests_without_a_sidecar(folder: Path) -> None:
    """The tests of the page are tests, and pass."""
    (folder / "test_my_strategy.py").write_text(page_block(PAGE, "test_my_strategy.py"))
    printed = run(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_my_strategy.py")
    assert "2 passed" in printed


def test_the_page_asks_a_model(folder: Path) -> None:
    """The last example asks a sidecar that runs, and prints which bytes answered."""
    with thread_sidecar(ROOT / "models") as sidecar:
        code = page_block(PAGE, "ask.py").replace("127.0.0.1:8001", sidecar.tcp)
        assert re.search(r"^\[\[.*\]\] 1 [0-9a-f]{64}$", run(folder, "-c", code), re.MULTILINE | re.DOTALL)
