"""Configuration by file, variables and flags, as a user of `inference-server serve` meets it."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path


def command(*arguments: object, environ: Mapping[str, str] = {}) -> subprocess.CompletedProcess[str]:
    """Run `inference-server` with these arguments and variables."""
    return subprocess.run(
        [sys.executable, "-m", "inference_server", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
        env={**os.environ, **environ},
    )


def test_what_is_configured_is_shown_with_its_origin(tmp_path: Path) -> None:
    """`serve --show-config` prints a file that says the same, and what said each of it."""
    (tmp_path / "serve.toml").write_text("http = 'off'\n[model.'a.b']\nversions = 'latest 2'\n")
    variables = {"TICKSERVE_CONFIG": str(tmp_path / "serve.toml"), "TICKSERVE_MAX_MEMORY": "1 GiB"}
    models = str(tmp_path / ("x" * 250))  # a line that is longer than a terminal
    arguments = ("serve", "--show-config", "--models", models)
    first = command(*arguments, environ=variables)
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout.startswith(f'models = "{models}"  # --models\n')
    assert "\nmax_memory = 1073741824  # TICKSERVE_MAX_MEMORY\n" in first.stdout
    assert f"""\nmodel."a.b".versions = "latest 2"  # {tmp_path}/serve.toml\n""" in first.stdout
    (tmp_path / "again.toml").write_text(first.stdout)
    again = command("serve", "--show-config", "--config", tmp_path / "again.toml")
    assert [line.partition("  # ")[0] for line in again.stdout.splitlines()] == [
        line.partition("  # ")[0] for line in first.stdout.splitlines()
    ]


def test_a_wrong_variable_stops_the_start(tmp_path: Path) -> None:
    """A variable that is none of the sidecar's is refused before anything is served."""
    done = command("serve", "--models", tmp_path, environ={"TICKSERVE_MAX_MEMROY": "1 GiB"})
    told = "TICKSERVE_MAX_MEMROY: unknown key; did you mean 'TICKSERVE_MAX_MEMORY'?"
    assert (done.returncode, done.stderr) == (2, f"inference-server: {told}\n")
