"""Real sidecars for callers that speak HTTP/2 by hand, and what has to be so after each of them."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from h2_served import Served
from onnx_files import endless_model, score_model
from sidecars import put, thread_sidecar


@pytest.fixture(scope="session")
def wire_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A quick model, and one that takes as long as it is asked to."""
    folder = tmp_path_factory.mktemp("models")
    put(folder / "one.onnx", score_model("one"))
    put(folder / "loops.onnx", endless_model(turns=None))
    return folder


@pytest.fixture(scope="module")
def sidecar_of_module(wire_models: Path) -> Iterator[Served]:
    """One sidecar for the tests of a module that need no options."""
    with thread_sidecar(wire_models) as sidecar:
        yield Served(sidecar)


@pytest.fixture
def served(sidecar_of_module: Served) -> Iterator[Served]:
    """The module's sidecar; after the test it answers another caller, and nothing of the test's is left."""
    yield sidecar_of_module
    sidecar_of_module.check_answers()
    sidecar_of_module.check_clean()


@pytest.fixture
def serve(wire_models: Path) -> Iterator[Callable[..., contextlib.AbstractContextManager[Served]]]:
    """Make a sidecar with options; when its block ends it answers still, and nothing is left in it."""

    @contextlib.contextmanager
    def make(**options: Any) -> Iterator[Served]:
        with thread_sidecar(wire_models, **options) as sidecar:
            made = Served(sidecar)
            yield made
            made.check_answers()
            made.check_clean()

    return make
