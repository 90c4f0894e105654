"""docs/operating.md: its commands, taken out of it and run in their order in a fresh clone's folder."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "operating.md"
BIN = Path(sys.executable).parent
# An alert alone takes its time, and every command is a process of its own.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
BLOCK = re.compile(r"^```sh run(?: (\w+))?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
HEADING = re.compile(r"^## (\d+)", re.MULTILINE)


def blocks() -> list[tuple[str, str, str]]:
    """Each block that is to be run: its section, the program that it needs beside ours, its commands."""
    text = PAGE.read_text(encoding="utf-8")
    return [(HEADING.findall(text[: it.start()])[-1], it[1] or "", it[2]) for it in BLOCK.finditer(text)]


def free_ports(count: int) -> list[int]:
    """Ports that nobody has now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [it.getsockname()[1] for it in sockets]
    for it in sockets:
        it.close()
    return ports


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the commands of each section print, run in one shell with ports of their own."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("models", "examples", "deploy"):
        shutil.copytree(ROOT / name, folder / name)
    script = ["set -eu"]
    for section, needed, commands in blocks():
        if not needed or shutil.which(needed):
            script += [f"echo '@@@ {section}'", commands]
    text = "\n".join(script)
    config = folder / "deploy" / "prometheus" / "prometheus.yml"
    rules = config.with_name("tickserve.rules.yml")
    rules.write_text(rules.read_text().replace("for: 1m", "for: 1s"))
    configured = config.read_text().replace(": 15s", ": 1s")
    for port, free in zip(("8001", "8002", "9090"), free_ports(3), strict=True):
        text = text.replace(f":{port}", f":{free}")
        configured = configured.replace(f":{port}", f":{free}")
    config.write_text(configured)
    shell = subprocess.Popen(
        ["bash", "-c", text],
        cwd=folder,
        env={**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "COLUMNS": "120"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = shell.communicate(timeout=280)
    except subprocess.TimeoutExpired:
        os.killpg(shell.pid, signal.SIGKILL)
        output, _ = shell.communicate()
        pytest.fail(f"the commands do not end:\n{output}")
    finally:
        # Whatever a failed command has left running; the group is this shell's own.
        if shell.returncode:
            os.killpg(shell.pid, signal.SIGKILL)
    log = folder / "live.log"
    assert shell.returncode == 0, output + (log.read_text() if log.exists() else "")
    sections: dict[str, str] = {}
    for part in output.split("@@@ ")[1:]:
        section, _, told = part.partition("\n")
        sections[section] = sections.get(section, "") + told
    return sections


def test_every_section_is_run(printed: dict[str, str]) -> None:
    """Sections 2 to 9 have commands, and all of them succeed one after the other."""
    assert {section for section, _, _ in blocks()} == set("23456789")
    assert set(printed) >= set("2345679")


def test_it_is_configured_and_started(printed: dict[str, str]) -> None:
    """What is in effect is shown with its origin; then it is ready and predicts (F1)."""
    assert "model.es_momentum.required = true  # live.toml" in printed["2"]
    assert printed["3"].startswith("yes\n")
    assert "live.sock: ready" in printed["3"]
    assert "es_reversion:1 " in printed["3"]


def test_a_model_is_replaced_refused_and_rolled_back(printed: dict[str, str]) -> None:
    """The new version answers, the bad file does not and is told, and the old version comes back."""
    assert "examples/next/es_momentum.onnx" in printed["4"]
    assert re.search(r"es_momentum +2 \* +AVAILABLE", printed["4"])
    assert "the file is cut off" in printed["5"]
    assert "es_reversion:1 " in printed["5"]
    assert 'tickserve_model_problem{model="es_reversion"} 1' in printed["5"]
    assert "es_momentum: back from version 2" in printed["6"]
    assert re.search(r"es_momentum +1 \* +AVAILABLE", printed["6"])


def test_a_reload_takes_a_label_over(printed: dict[str, str]) -> None:
    """The label of the edited file names a version that answers, and the log says so."""
    assert "es_momentum:2 " in printed["7"]
    assert "SIGHUP: took over what the configuration says of the models" in printed["7"]


def test_it_stops_in_order_and_starts_with_what_it_kept(printed: dict[str, str]) -> None:
    """F3: the last line of its log says stopped, and the next one is ready, with the version of before."""
    assert "stopped" in printed["9"]
    assert re.search(r"es_momentum +2 \* +AVAILABLE", printed["9"])


@pytest.mark.skipif(not shutil.which("prometheus"), reason="prometheus is not here")
def test_an_alert_fires(printed: dict[str, str]) -> None:
    """A refused file becomes a firing alert of a real Prometheus that names the model."""
    assert "SUCCESS" in printed["8"]
    assert "A file of es_reversion on 127.0.0.1:" in printed["8"]
    assert '"state":"firing"' in printed["8"]


@pytest.mark.parametrize("page", [PAGE, ROOT / "README.md"], ids=lambda page: page.name)
def test_its_links_lead_somewhere(page: Path) -> None:
    """Each file that the page links to is in the repository."""
    linked = re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
    assert len(linked) > 8
    assert [name for name in linked if not (page.parent / name).exists()] == []
