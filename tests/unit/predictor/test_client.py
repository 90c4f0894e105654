"""The client for people: what waiting and asking for one answer come to when something is wrong."""

import threading
from collections.abc import Callable

import numpy as np
import pytest
from fake_sidecar import FakeModel, FakeSidecar

from strategy_client.predictor.client import InferenceClient
from strategy_client.predictor.endpoints import Endpoints
from strategy_client.predictor.status import InferenceError, SidecarUnavailableError

HOUR_S = 3_600.0
Client = InferenceClient | Endpoints


@pytest.mark.parametrize(
    "open_client", [InferenceClient, lambda target: Endpoints([target, target + "2"])], ids=["one", "several"]
)
@pytest.mark.parametrize("running", [True, False])
def test_closing_ends_a_wait_for_readiness(open_client: Callable[[str], Client], running: bool) -> None:
    """A wait of an hour, for a sidecar that is not there or not ready, is over when the client is closed."""
    fake = FakeSidecar(ready=False)
    if running:
        fake.start()
    client = open_client(fake.target)
    told: list[InferenceError] = []

    def wait() -> None:
        try:
            client.wait_ready(HOUR_S)
        except InferenceError as error:
            told.append(error)

    waiting = threading.Thread(target=wait, daemon=True)
    waiting.start()
    if running:
        assert client.wait_connected(30)
    client.close()
    waiting.join(30)
    fake.__exit__()
    assert not waiting.is_alive()
    assert len(told) == 1


def test_an_answer_of_another_form_is_an_error() -> None:
    """An answer with other rows than were asked is no prediction: whoever asks for one gets an error."""
    two = FakeModel(("price",), 1, answer=lambda _rows: {"value": np.ones((2, 1), np.float32)})
    with FakeSidecar({"m": two}) as fake, InferenceClient(fake.target) as client:
        assert client.wait_connected(30)
        with pytest.raises(SidecarUnavailableError, match="output 'value' has shape \\(2, 1\\) for 1 rows"):
            client.predict("m", [1.0], timeout_s=30)
        assert client.predict("m", [[1.0], [2.0]], timeout_s=30).outputs["value"].tolist() == [[1.0], [1.0]]
