"""examples/replay.ipynb, run from its first cell to its last one."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "examples" / "replay.ipynb"
CELL_TIMEOUT_S = 60
# A Jupyter client closes neither its sockets nor its loop before the end of a process: it has one of its own.
CHILD = """
import asyncio, sys, nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], as_version=4)
client = NotebookClient(notebook, timeout=int(sys.argv[2]), kernel_name="python3")
client.execute(cwd=sys.argv[3])
nbformat.write(notebook, sys.argv[4])
"""


def outputs(notebook: Any) -> list[Any]:
    """Everything that the cells printed or showed."""
    return [output for cell in notebook.cells for output in cell.get("outputs", ())]


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path) -> None:
    """Every cell ends well, on ticks of a random walk as on a machine that fetched none; nothing is left."""
    for name in ("models", "examples"):
        (tmp_path / name).symlink_to(ROOT / name)
    executed = tmp_path / "executed.ipynb"
    done = subprocess.run(
        [sys.executable, "-c", CHILD, NOTEBOOK, str(CELL_TIMEOUT_S), tmp_path, executed],
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    shown = outputs(nbformat.read(executed, as_version=4))
    texts = [each.get("text", "") + each.get("data", {}).get("text/plain", "") for each in shown]
    assert "a random walk" in texts[0]
    assert any("digest" in text for text in texts)
    assert any("DEADLINE_EXCEEDED" in text for text in texts)
    assert texts[-1] == "True"
    assert any("application/vnd.plotly.v1+json" in each.get("data", {}) for each in shown)
    assert not any(each.get("name") == "stderr" for each in shown)


def test_the_notebook_is_kept_without_outputs() -> None:
    """What it shows is made by running it: no output, no count and no path of a machine lies in the file."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert cell.get("outputs", []) == []
        assert cell.get("execution_count") is None
