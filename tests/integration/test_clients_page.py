"""The code and commands of docs/clients.md, taken out of it and run."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from ctypes.util import find_library
from pathlib import Path

import pytest
from fetched import CannotRunError, fetched
from grpcurl import grpcurl
from perf_analyzer import perf_analyzer
from shared_objects import FOLDER
from sidecars import ThreadSidecar, thread_sidecar

from inference_server.config import read_config
from inference_server.config_layers import file_layer

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, re.DOTALL)


def block(kind: str, words: str) -> str:
    """The one block of this kind that holds these words."""
    [found] = [text for of, text in BLOCKS if of == kind and words in text]
    return found


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThreadSidecar]:
    """Serve the sample models as the page configures it."""
    file = tmp_path_factory.mktemp("page") / "tickserve.toml"
    file.write_text(block("toml", "[shared_memory]"))
    options = read_config([file_layer(file)]).shared_memory.options
    with thread_sidecar(ROOT / "models", shared_memory=options) as running:
        yield running


def run(sidecar: ThreadSidecar, folder: Path, *command: str) -> str:
    """What the command prints; it is to end well and to complain of nothing."""
    command = tuple(word.replace("127.0.0.1:8001", sidecar.tcp) for word in command)
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_the_page_asks_from_python(sidecar: ThreadSidecar, tmp_path: Path) -> None:
    """The first example prints labels, probabilities, the version and the digest."""
    printed = run(sidecar, tmp_path, sys.executable, "-W", "error", "-c", block("python", "# ask.py"))
    assert re.search(r"^1 [0-9a-f]{64}$", printed, re.MULTILINE)


@pytest.mark.skipif(not FOLDER.is_dir(), reason="this system has no /dev/shm")
def test_the_page_uses_shared_memory(sidecar: ThreadSidecar, tmp_path: Path) -> None:
    """The second one finds the labels in its own memory."""
    printed = run(sidecar, tmp_path, sys.executable, "-W", "error", "-c", block("python", "# shared.py"))
    assert re.fullmatch(r"\[(\S+ ?){5}\]\n", printed)


def test_the_page_asks_from_the_command_line(sidecar: ThreadSidecar, tmp_path: Path) -> None:
    """Each call of grpcurl ends well, the last one with an answer."""
    try:
        program = grpcurl()
    except CannotRunError as error:
        pytest.skip(str(error))
    commands = block("sh", "grpcurl").replace("grpcurl", str(program.path))
    printed = run(sidecar, tmp_path, "sh", "-ec", commands)
    assert "rpc ModelInfer (" in printed
    assert '"raw_output_contents"' in printed


def test_the_page_measures(sidecar: ThreadSidecar, tmp_path: Path) -> None:
    """The run of perf_analyzer, with what was fetched before, tells of the server's part."""
    try:
        perf_analyzer()
    except CannotRunError as error:
        pytest.skip(str(error))
    if find_library("b64") is None:
        pytest.skip("libb64-0d is not installed")
    shutil.copytree(fetched("perf_analyzer", [], lambda _: None), tmp_path / "perf")
    commands = block("sh", "perf_analyzer -i").split("\n", 2)[2]  # without the download
    assert "Successful request count: " in run(sidecar, tmp_path, "sh", "-ec", commands)
