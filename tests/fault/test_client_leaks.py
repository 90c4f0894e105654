"""Clients that come and go leave nothing behind."""

import subprocess
import sys
from pathlib import Path

import pytest
from sidecars import process_sidecar

TESTS = Path(__file__).parents[1]
MODELS = TESTS.parent / "models"


@pytest.mark.parametrize("transport", ["h2", "grpcio"])
def test_two_hundred_clients_leave_no_thread_and_no_file(transport: str) -> None:
    """E4: however a client is closed, its threads and file descriptors are gone.

    In a process of its own: what other tests leave to gRPC would be counted with it.
    """
    with process_sidecar(MODELS) as sidecar:
        done = subprocess.run(
            [sys.executable, str(TESTS / "come_and_go.py"), sidecar.target, transport],
            capture_output=True,
            text=True,
            check=False,
            timeout=200,
        )
    assert (done.returncode, done.stderr) == (0, "")
