"""The commands of docs/audit.md, taken out of it and run in their order."""

import os
import re
import shutil
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from strategy_client.audit.options import AuditOptions

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "audit.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with the sample models and strategies, and ticks in the columns of the real file."""
    folder = tmp_path_factory.mktemp("page")
    shutil.copytree(ROOT / "models", folder / "models")
    (folder / "examples").mkdir()
    shutil.copy(ROOT / "examples" / "strategies.yaml", folder / "examples")
    (folder / ".cache").mkdir()
    prices = 1640 + 0.25 * np.random.default_rng(2).integers(-2, 3, 600).cumsum()
    start = datetime(2013, 9, 1, 17, 0)  # noqa: DTZ001 - the file's times have no zone
    lines = [f"{start + timedelta(seconds=i)},{price},1" for i, price in enumerate(prices.tolist())]
    (folder / ".cache" / "es_ticks.csv").write_text("\n".join(["DateTime,Price,Volume", *lines]) + "\n")
    return folder


def run(folder: Path, command: str) -> tuple[int, str]:
    """Run a line as a user would; returns the exit code and what it printed."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    return done.returncode, done.stdout + done.stderr


# Five processes and four sidecars, one after the other, each of which a busy machine may take long to begin.
@pytest.mark.timeout(600)
def test_the_page_writes_verifies_forges_and_shows(folder):
    """Each command does what the page says, and a forged quantity is found in its line."""
    replay, verify, copy, forge, verify_forged, show, anchored = COMMANDS
    code, said = run(folder, replay)
    assert code == 0, said
    code, said = run(folder, verify)
    assert code == 0, said
    assert "VERIFIED: everything comes out as it was recorded" in said
    head = re.search(r"^head (\w{64})$", said, re.MULTILINE)
    assert head is not None
    assert run(folder, copy)[0] == 0
    signal = '"quantity":1,'
    lines = (folder / "forged" / "audit-000001.jsonl").read_text().splitlines()
    line = next(n for n, text in enumerate(lines, 1) if n >= 300 and signal in text)
    assert run(folder, forge.replace("1000s", f"{line}s"))[0] == 0
    code, said = run(folder, verify_forged)
    assert code == 1, said
    assert f"BROKEN  audit-000001.jsonl:{line}: it does not follow the line before it" in said
    assert f"DIFFERS audit-000001.jsonl:{line}: tick " in said
    assert "quantity: recorded 2, came 1" in said
    code, said = run(folder, show)
    assert code == 0
    assert re.search(r"^2013-09-01T22:01:24\S* +tick \d+ +13620 at \S+ +ml_momentum: ", said, re.MULTILINE)
    stated = re.search(r"--anchor (\w{64})$", anchored)
    assert stated is not None
    assert run(folder, anchored.replace(stated[1], head[1]))[0] == 0


def test_the_page_states_the_defaults_that_hold():
    """The table of bounds is that of the options."""
    options = AuditOptions()
    bounds = dict(re.findall(r"^\| `(\w+)`[^|]*\| ([\d,]+)", PAGE, re.MULTILINE))
    stated = {name: float(value.replace(",", "")) for name, value in bounds.items()}
    assert stated["max_queued"] == options.max_queued
    assert stated["flush_ms"] == options.flush_ms
    assert stated["sync_ms"] == options.sync_ms
    assert stated["keep_free_bytes"] * 2**20 == options.keep_free_bytes
    assert (options.segment_bytes, options.segment_s) == (256 * 2**20, 86_400)
    assert "`segment_bytes`, `segment_s` | 256 MiB, a day" in PAGE
