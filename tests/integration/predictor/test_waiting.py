"""Waiting, or not, for answers: the same over each transport."""

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from fake_sidecar import FakeModel, FakeSidecar
from sidecars import eventually

from strategy_client.predictor.backoff import BackoffOptions
from strategy_client.predictor.client import InferenceClient
from strategy_client.predictor.connection import ConnectionOptions, PredictorCounts
from strategy_client.predictor.h2 import channel
from strategy_client.predictor.port import Prediction, Question
from strategy_client.predictor.transport import Transport

PATIENCE_S = 20.0
QUESTION = Question("echo", np.ones((1, 1), np.float32))


@pytest.fixture
def sidecar() -> Iterator[FakeSidecar]:
    """Serve a model that says the row itself, by grpcio."""
    with FakeSidecar({"echo": FakeModel(["x"], 1, lambda rows: {"y": rows.copy()})}) as fake:
        yield fake


@pytest.fixture(params=["h2", "grpcio"])
def client(sidecar: FakeSidecar, request: pytest.FixtureRequest) -> Iterator[InferenceClient]:
    """Connect by each transport."""
    with InferenceClient(sidecar.target, transport=request.param) as connected:
        connected.wait_ready(PATIENCE_S)
        yield connected


def test_an_answer_that_came_in_time_is_in_time_whenever_it_is_looked_at(client: InferenceClient) -> None:
    """A caller that does something else until after the deadline has the answer, and no breaker opens.

    So it is for shadows, which are looked at with the next tick, and where other strategies take long.
    """
    for _ in range(3):
        deadline_ns = time.monotonic_ns() + 300_000_000
        pending = client.submit([QUESTION], deadline_ns)
        eventually(lambda until_ns=deadline_ns: time.monotonic_ns() > until_ns, "the deadline has passed")
        assert isinstance(pending.result()[0], Prediction)
    assert client.counts == PredictorCounts(requests=3, answered=3, streams=1)


@pytest.mark.parametrize("timeout_ns", [30 * 86_400 * 10**9, 2**64])
def test_a_deadline_far_away_is_waited_for(
    sidecar: FakeSidecar, client: InferenceClient, timeout_ns: int
) -> None:
    """A month, or centuries: nothing raises for it, and the answer is taken when it comes."""
    sidecar.hold()
    pending = client.submit([QUESTION], time.monotonic_ns() + timeout_ns)
    held = sidecar.held.get(timeout=PATIENCE_S)
    came: list[object] = []
    waiting = threading.Thread(target=lambda: came.extend(pending.result()))
    waiting.start()
    sidecar.send(sidecar.answer(held))
    waiting.join(PATIENCE_S)
    assert [type(answer) for answer in came] == [Prediction]


@pytest.mark.parametrize("transport", ["h2", "grpcio"])
def test_closing_does_not_wait_for_a_pause(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that waits between attempts to reach a sidecar that is not there is closed at once."""
    monkeypatch.setattr(channel, "RECONNECT", BackoffOptions(30_000, 60_000, 1.6))
    paused = threading.Event()
    monkeypatch.setattr(channel.Channel, "pause", _told(channel.Channel.pause, paused))
    client = InferenceClient(
        "unix:/nowhere/s", ConnectionOptions(probe_timeout_ms=3 * PATIENCE_S * 1e3), transport=transport
    )
    assert transport == "grpcio" or paused.wait(PATIENCE_S)
    began_s = time.monotonic()
    client.close()
    assert time.monotonic() - began_s < PATIENCE_S / 2


def _told(pause, begun):
    def told(self, pause_s, over):
        begun.set()
        return pause(self, pause_s, over)

    return told
