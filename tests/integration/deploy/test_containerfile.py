"""The Containerfile: what it copies is what the package needs, and what it sets is what the sidecar takes."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "deploy" / "container"


def instructions() -> list[tuple[str, str]]:
    """Each instruction with its words, lines that go on joined, comments left out."""
    text = re.sub(r"^ *#.*\n", "", (FOLDER / "Containerfile").read_text(), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in lines if line.strip()]


def last_stage() -> list[tuple[str, str]]:
    """What the image that is run is made by."""
    every = instructions()
    return every[max(index for index, (name, _) in enumerate(every) if name == "FROM") :]


def test_only_what_the_package_is_built_of_goes_in() -> None:
    """Each folder of the wheel and each file of its build is copied and let through, and nothing else."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = {
        name.split("/")[0] for name in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    }
    files = {"pyproject.toml", "constraints.txt", project["project"]["readme"], "LICENSE"}
    copied: set[str] = set()
    for name, words in instructions():
        if name == "COPY" and not words.startswith("--from"):
            copied |= set(words.split()[:-1])
    assert copied == packages | files | {"deploy/container/tickserve.toml"}
    let_through = {
        line[1:] for line in (ROOT / ".containerignore").read_text().splitlines() if line[:1] == "!"
    }
    assert let_through == copied
    assert all((ROOT / name).exists() for name in copied)


def test_the_image_is_bound() -> None:
    """Not root, no build tool in the last stage, versions pinned, no command by a shell, a signal to stop."""
    every, last = instructions(), dict(last_stage())
    assert last["USER"] == "10001:10001"
    assert last["STOPSIGNAL"] == "SIGTERM"
    assert "pip" not in "".join(words for _, words in last_stage())
    assert all(words.startswith("[") for name, words in every if name in {"RUN", "CMD", "ENTRYPOINT"})
    assert 'CMD ["' in last["HEALTHCHECK"]
    (install,) = [words for name, words in every if name == "RUN" and '"install", "--no-cache-dir"' in words]
    assert '"--constraint", "source/constraints.txt"' in install
    bases = [words.split()[0] for name, words in every if name == "FROM"]
    assert bases == ["${BASE}", "${BASE}"]
    (base,) = [words for name, words in every if name == "ARG"]
    assert "/" not in base


def test_its_configuration_and_command_are_what_the_sidecar_takes() -> None:
    """The file and variables of the image are valid; the folders that it makes are those that they name."""
    last = dict(last_stage())
    variables = dict(word.split("=", 1) for word in shlex.split(last["ENV"]))
    assert variables.pop("TICKSERVE_CONFIG") == "/etc/tickserve/tickserve.toml"
    del variables["PATH"]
    program = [sys.executable if word == "python3" else word for word in json.loads(last["ENTRYPOINT"])]
    command = [*program, *json.loads(last["CMD"]), "--show-config"]
    environment = {**os.environ, **variables, "TICKSERVE_CONFIG": str(FOLDER / "tickserve.toml")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert f'"{variables["TICKSERVE_TARGET"]}"' in done.stdout
    made = " ".join(words for name, words in last_stage() if name == "RUN")
    for folder in ("/run/tickserve", "/var/lib/tickserve", "/models"):
        assert f'"{folder}"' in made
        assert folder in done.stdout


@pytest.mark.skipif(
    not shutil.which("buildah") or os.geteuid() != 0, reason="buildah is not here, or not for this user"
)
def test_buildah_understands_it(tmp_path: Path) -> None:
    """It is parsed and its stages are resolved; the build then ends for want of a Python in an empty base."""
    store = ["--root", str(tmp_path / "root"), "--runroot", str(tmp_path / "run"), "--storage-driver", "vfs"]
    made = subprocess.run(["buildah", *store, "from", "scratch"], capture_output=True, text=True, check=True)
    name = made.stdout.strip()
    subprocess.run(
        ["buildah", *store, "commit", "-q", name, "localhost/empty"], capture_output=True, check=True
    )
    build = ["build", "--isolation", "chroot", "--pull-never", "--build-arg", "BASE=localhost/empty"]
    done = subprocess.run(
        ["buildah", *store, *build, "-f", str(FOLDER / "Containerfile"), str(ROOT)],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    subprocess.run(["buildah", *store, "rm", "--all"], capture_output=True, check=False)
    assert 'RUN ["python3", "-m", "venv", "installer"]' in done.stdout
    assert "python3" in done.stderr.splitlines()[-1]
    assert done.returncode != 0
