"""A sidecar with shared memory turned on, its clients, and objects that lie in shared memory."""

import contextlib
from collections.abc import Iterator

import pytest
import tritonclient.grpc as triton
from onnx_files import endless_model, score_model
from plain_models import mixed_model
from shared_objects import OPTIONS, Objects
from sidecars import ThreadSidecar, put, thread_sidecar


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThreadSidecar]:
    """Serve with shared memory turned on, within small bounds."""
    models = tmp_path_factory.mktemp("models")
    put(models / "plain.onnx", score_model(None))
    put(models / "mixed.onnx", mixed_model())
    put(models / "turns.onnx", endless_model(turns=None))
    with thread_sidecar(models, shared_memory=OPTIONS) as running:
        yield running


@pytest.fixture(params=["unix", "tcp"])
def client(sidecar: ThreadSidecar, request: pytest.FixtureRequest) -> Iterator[triton.InferenceServerClient]:
    """A client on each address; what it registered is taken back after the test."""
    with triton.InferenceServerClient(getattr(sidecar, request.param)) as made:
        yield made
        made.unregister_system_shared_memory()


@pytest.fixture
def made(client: triton.InferenceServerClient) -> Iterator[Objects]:
    """Shared memory objects of the test, all gone after it."""
    with contextlib.closing(Objects(client)) as objects:
        yield objects
