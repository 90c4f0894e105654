"""Stopping a run of ONNX Runtime whose caller has gone."""

import hashlib
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from onnx_files import endless_model
from sidecars import PATIENCE_S

from inference_server.adapters.onnx_servable import OnnxLoader, OnnxLoaderOptions, OnnxServable
from inference_server.core.servable import Abort, AbortedError, ServableId

ROW = np.ones((1, 3), np.float32)
ENDLESS = np.full((1, 3), 2**62, np.float32)


@pytest.fixture
def servable() -> Iterator[OnnxServable]:
    """A model that loops as often as its largest input says."""
    model = endless_model(turns=None)
    loader = OnnxLoader(OnnxLoaderOptions(warm_up_runs=1))
    loaded = loader.load(ServableId("loops", 1), hashlib.sha256(model).hexdigest(), model, len(model))
    yield loaded
    loaded.close()


class Running:
    """An endless run in a thread; `ended` holds what it raised."""

    def __init__(self, servable: OnnxServable) -> None:
        self.abort = Abort()
        self.ended: list[BaseException] = []
        self._servable = servable
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    @property
    def goes_on(self) -> bool:
        return self._thread.is_alive()

    def wait(self) -> None:
        self._thread.join(PATIENCE_S)
        assert not self.goes_on

    def _run(self) -> None:
        try:
            self._servable.run({"features": ENDLESS}, ["score"], self.abort)
        except BaseException as error:  # noqa: BLE001 - whatever comes of it is looked at
            self.ended.append(error)


def test_a_run_that_is_stopped_ends_and_the_rest_goes_on(servable: OnnxServable) -> None:
    """E4, E5: one of two endless runs is stopped; the other goes on, and the next one is answered."""
    stopped, other = Running(servable), Running(servable)
    stopped.abort.abort()
    stopped.wait()
    assert [type(error) for error in stopped.ended] == [AbortedError]
    assert other.goes_on
    assert servable.run({"features": ROW}, ["score"], Abort())[0].shape == (1, 3)
    other.abort.abort()
    other.wait()


def test_a_run_that_was_stopped_before_it_began_never_does(servable: OnnxServable) -> None:
    """E4: a run whose caller left before the thread came to it ends at once."""
    abort = Abort()
    abort.abort()
    with pytest.raises(AbortedError):
        servable.run({"features": ENDLESS}, ["score"], abort)


def test_stopping_what_has_ended_does_no_harm(servable: OnnxServable) -> None:
    """E4: a caller who leaves after the answer stops nothing."""
    abort = Abort()
    first = servable.run({"features": ROW}, ["score"], abort)
    abort.abort()
    assert np.array_equal(first, servable.run({"features": ROW}, ["score"]))
