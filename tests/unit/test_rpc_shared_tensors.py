"""Inputs in shared memory are copied before anything is checked: a writer can change them, not the answer."""

import asyncio
import contextlib
import resource
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from manual_clock import ManualClock
from open_inference.v2 import inference_pb2 as oip
from servables import FunctionServable
from shared_objects import FOLDER, new_key

from inference_server.adapters.shared_memory import SharedMemory, SharedMemoryOptions
from inference_server.core.errors import InvalidRequestError, OverloadedError, RefusedError
from inference_server.rpc.accounting import Accounting
from inference_server.rpc.method import CallContext
from inference_server.rpc.open_inference import OpenInference
from inference_server.rpc.shared_tensors import SharedTensors
from inference_server.serving.data_plane import DataPlane, DataPlaneOptions
from inference_server.serving.registry import Registry
from inference_server.serving.run_threads import RunThreads
from inference_server.serving.statistics import Statistics

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="this system has no /dev/shm")

ROW = np.array([[1, 2, 3]], dtype=np.float32)


@pytest.fixture
def memory() -> Iterator[SharedMemory]:
    """Shared memory with one region, "region", that begins with the row."""
    file = FOLDER / new_key()
    file.write_bytes(ROW.tobytes() + bytes(52))
    with contextlib.closing(SharedMemory(SharedMemoryOptions())) as made:
        made.register("region", file.name, 0, 64)
        try:
            yield made
        finally:
            file.unlink()


def request_for(region: str) -> oip.ModelInferRequest:
    """A request for the row in this region."""
    request = oip.ModelInferRequest(model_name="momentum")
    tensor = request.inputs.add(name="features", datatype="FP32", shape=(1, 3))
    tensor.parameters["shared_memory_region"].string_param = region
    tensor.parameters["shared_memory_byte_size"].int64_param = 12
    return request


@contextlib.contextmanager
def serving(memory: SharedMemory, servable: FunctionServable) -> Iterator[OpenInference]:
    """Answer requests from this servable, one at a time where it is slow."""
    registry, clock = Registry(), ManualClock()
    registry.publish(servable, 1)
    with contextlib.closing(RunThreads()) as threads:
        plane = DataPlane(registry, clock, DataPlaneOptions(max_calls_in_flight=1), threads)
        accounting = Accounting(Statistics(), registry, clock)
        yield OpenInference(plane, clock, accounting, SharedTensors(memory))


def ask(memory: SharedMemory, servable: FunctionServable) -> oip.ModelInferResponse:
    """Ask for the row in the region."""
    with serving(memory, servable) as service:
        return asyncio.run(service.model_infer(request_for("region"), CallContext(None, "r-1")))


def test_a_writer_cannot_change_what_was_checked(memory: SharedMemory) -> None:
    """NaN written into the region when the checks are over does not reach the model (F7)."""
    path = FOLDER / memory.region("region").key

    def write_and_sum(features: np.ndarray) -> np.ndarray:
        with path.open("r+b") as writer:
            writer.write(np.full(3, np.nan, dtype=np.float32).tobytes())
        return features.sum(axis=1, keepdims=True)

    response = ask(memory, FunctionServable(function=write_and_sum))
    assert np.frombuffer(response.raw_output_contents[0], dtype=np.float32) == 6
    assert np.isnan(np.frombuffer(path.read_bytes()[:12], dtype=np.float32)).all()


def test_another_region_of_the_same_name_is_not_written_to(memory: SharedMemory) -> None:
    """Where the region is registered anew while the model runs, the call fails and the bytes stay (F7)."""
    key = memory.region("region").key

    def register_anew(features: np.ndarray) -> np.ndarray:
        memory.unregister("region")
        memory.register("region", key, 16, 32)
        return features[:, :1]

    request = request_for("region")
    parameters = request.outputs.add(name="score").parameters
    parameters["shared_memory_region"].string_param = "region"
    parameters["shared_memory_byte_size"].int64_param = 4
    with (
        serving(memory, FunctionServable(function=register_anew)) as service,
        pytest.raises(InvalidRequestError, match="region 'region' was registered anew meanwhile"),
    ):
        asyncio.run(service.model_infer(request, CallContext(None, "r-1")))
    assert (FOLDER / key).read_bytes() == ROW.tobytes() + bytes(52)


def test_nothing_is_read_for_a_call_that_has_no_room(memory: SharedMemory) -> None:
    """E6: beyond the bound a call is refused before a region is even looked up, so that it costs nothing."""
    running, go = threading.Event(), threading.Event()

    def wait(features: np.ndarray) -> np.ndarray:
        running.set()
        assert go.wait(30)
        return features[:, :1]

    async def ask_twice(service: OpenInference) -> None:
        first = asyncio.create_task(service.model_infer(request_for("region"), CallContext(None, "r-1")))
        try:
            assert await asyncio.to_thread(running.wait, 30)
            with pytest.raises(OverloadedError):
                await service.model_infer(request_for("nowhere"), CallContext(None, "r-2"))
        finally:
            go.set()
        await first
        with pytest.raises(InvalidRequestError, match="no shared memory region 'nowhere'"):
            await service.model_infer(request_for("nowhere"), CallContext(None, "r-3"))

    with serving(memory, FunctionServable(function=wait, contract=None)) as service:
        asyncio.run(ask_twice(service))


def test_more_tensors_than_may_be_are_not_looked_up(memory: SharedMemory) -> None:
    """D14: the bound on tensors comes before what is done for each of them."""
    request = oip.ModelInferRequest(model_name="momentum", inputs=[request_for("nowhere").inputs[0]] * 4097)
    with (
        serving(memory, FunctionServable()) as service,
        pytest.raises(InvalidRequestError, match="at most 4096 inputs and as many outputs, came 4097 inputs"),
    ):
        asyncio.run(service.model_infer(request, CallContext(None, "r-1")))


def test_a_region_that_cannot_be_written_is_told_of(memory: SharedMemory) -> None:
    """Where the system gives no room for the answer, the call is refused with the system's reason."""
    region = memory.region("region")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8, before[1]))
    try:
        region.write(0, b"within")
        with pytest.raises(RefusedError, match="region 'region' cannot be written: File too large"):
            region.write(8, b"beyond")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert region.read(0, 16) == b"within" + ROW.tobytes()[6:12] + bytes(4)


def test_other_bytes_of_the_same_object_are_not_the_same_region(memory: SharedMemory) -> None:
    """A window of the same size that begins elsewhere is refused under a name that is taken."""
    key = memory.region("region").key
    memory.register("half", key, 0, 32)
    memory.register("half", key, 0, 32)
    with pytest.raises(RefusedError, match="'half' is registered already"):
        memory.register("half", key, 32, 32)


def test_the_name_of_an_unlinked_object_is_free_at_once(memory: SharedMemory) -> None:
    """An owner who was started again need not wait until the server has looked for what is gone (F7)."""
    file = FOLDER / memory.region("region").key
    file.rename(file.with_suffix(".old"))
    try:
        file.write_bytes(bytes(64))
        with pytest.raises(RefusedError, match="'region' is registered already"):
            memory.register("region", file.name, 0, 64)
    finally:
        file.with_suffix(".old").unlink()
    memory.register("region", file.name, 0, 64)
    assert memory.region("region").read(0, 12) == bytes(12)


def test_a_region_tells_its_state(memory: SharedMemory) -> None:
    """The representation of a region says whether it is open, unlinked or closed."""
    region = memory.region("region")
    assert repr(region) == f"<Region 'region': 64 bytes of {region.key!r} from 0, open>"
    assert repr(memory) == "<SharedMemory of 1 regions, 64 bytes>"
    memory.unregister("region")
    assert repr(region).endswith("closed>")


@pytest.mark.parametrize(
    "wrong", [{"max_regions": 0}, {"max_region_bytes": 0}, {"max_total_bytes": 0}, {"sweep_s": 0.0}]
)
def test_bounds_are_checked_once(wrong: dict[str, float]) -> None:
    """A bound that would allow nothing is refused where it is said."""
    with pytest.raises(ValueError, match="expected bounds of at least 1 region and 1 byte"):
        SharedMemoryOptions(**wrong)
