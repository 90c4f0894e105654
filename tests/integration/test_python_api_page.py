"""The code of docs/python-api.md, taken out of it and run."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from readme_blocks import page_block
from sidecars import thread_sidecar

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "python-api.md"

Run = Callable[[str], tuple[str, dict[str, Any]]]


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


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a program of the page in the page's folder: what it printed, and the names it left."""
    monkeypatch.chdir(folder)

    def one(code: str) -> tuple[str, dict[str, Any]]:
        names: dict[str, Any] = {}
        exec(code, names)  # noqa: S102 the page's own code
        printed = capsys.readouterr()
        assert printed.err == ""
        return printed.out, names

    return one


def test_the_page_replays(run: Run) -> None:
    """The first example goes over a session and counts what came of it."""
    assert "Counter({" in run(page_block(PAGE, "replay_it.py"))[0]


def test_the_page_makes_arrays_and_a_frame(run: Run) -> None:
    """The second one sums signals up in arrays, and outcomes in a frame."""
    printed, _ = run(page_block(PAGE, "arrays.py"))
    assert re.search(r"^\d+ of \d+ signals buy, at a mean of 16\d\d", printed, re.MULTILINE)
    assert "mean_reversion" in printed


def test_the_page_tests_without_a_sidecar(run: Run) -> None:
    """The tests of the page are tests, and pass."""
    _, names = run(page_block(PAGE, "test_my_strategy.py"))
    tests = [function for name, function in names.items() if name.startswith("test_")]
    assert len(tests) == 2
    for test in tests:
        test()


def test_the_page_asks_a_model(run: Run) -> None:
    """The last example asks a sidecar that runs, and prints which bytes answered."""
    with thread_sidecar(ROOT / "models") as sidecar:
        printed, _ = run(page_block(PAGE, "ask.py").replace("127.0.0.1:8001", sidecar.tcp))
    assert re.search(r"^\[\[.*\]\] 1 [0-9a-f]{64}$", printed, re.MULTILINE | re.DOTALL)
