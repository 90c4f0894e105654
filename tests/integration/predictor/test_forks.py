"""A process that is forked while it has a client."""

import subprocess
import sys
from collections.abc import Iterator

import pytest
from fake_sidecar import FakeModel, FakeSidecar

FORKING = """
import os, sys, time, numpy as np
from strategy_client.predictor.client import InferenceClient
from strategy_client.predictor.port import Question

def ask(value):
    question = Question("echo", np.array([[value]], np.float32))
    (answer,) = client.submit([question], time.monotonic_ns() + 20 * 10**9).result()
    return answer.outputs["y"].item() if hasattr(answer, "outputs") else answer.reason.value

with InferenceClient(sys.argv[1], transport="h2") as client:
    client.wait_ready(20)
    said = [ask(1.0)]
    if not os.fork():
        told = ask(2.0)
        told += "" if client.predict("echo", [5.0], timeout_s=20).outputs["y"].item() == 5.0 else " no answer"
        client.close()
        os._exit({"UNAVAILABLE": 7}.get(told, 1))
    said += [os.waitstatus_to_exitcode(os.wait()[1]), ask(3.0), client.counts.streams, client.counts.late]
    print(said)
"""


@pytest.fixture
def sidecar() -> Iterator[FakeSidecar]:
    """Serve a model that says the row itself."""
    with FakeSidecar({"echo": FakeModel(["x"], 1, lambda rows: {"y": rows.copy()})}) as fake:
        yield fake


def test_a_child_leaves_the_connection_of_its_parent_alone(sidecar: FakeSidecar) -> None:
    """What a child asks over an inherited stream is refused, and its closing ends nothing of the parent's.

    Both count requests by the same numbers: an answer to the child's could be taken for the parent's.
    """
    told = subprocess.run(
        [sys.executable, "-c", FORKING, sidecar.target],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert told.stdout.strip() == "[1.0, 7, 3.0, 1, 0]", told.stderr
