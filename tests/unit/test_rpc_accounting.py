"""Every call of every message ends in the statistics once, under the model, version and reason it had."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from manual_clock import ManualClock
from servables import FunctionServable
from tickserve.v1 import predictor_pb2 as wire

from inference_server.rpc.accounting import Accounting
from inference_server.rpc.guard import Guard
from inference_server.rpc.method import CallContext
from inference_server.rpc.open_inference import OpenInference, oip
from inference_server.rpc.predictor import PAUSE_EVERY, Predictor, PredictorOptions
from inference_server.rpc.shared_tensors import SharedTensors
from inference_server.rpc.status import Code, StatusError
from inference_server.serving.data_plane import DataPlane, DataPlaneOptions
from inference_server.serving.registry import Registry
from inference_server.serving.run_threads import RunThreads
from inference_server.serving.statistics import NO_MODEL, Statistics

ROW = np.array([[1, 2, 3]], dtype="<f4").tobytes()
CALL = CallContext(None, "r-1")


class Counted:
    """Both services over one registry with momentum 3, and what was counted of their calls."""

    def __init__(self, threads: RunThreads, options: DataPlaneOptions) -> None:
        self.clock = ManualClock()
        self.statistics = Statistics()
        self.registry = Registry()
        plane = DataPlane(self.registry, self.clock, options, threads)
        accounting = Accounting(self.statistics, self.registry, self.clock)
        self.predictor = Predictor(
            plane, self.registry, self.clock, accounting=accounting, options=PredictorOptions()
        )
        self.open_inference = OpenInference(plane, self.clock, accounting, SharedTensors(None))

    def predict(self, *parts: wire.PredictPart, call: CallContext = CALL) -> None:
        """Ask for these parts."""
        asyncio.run(self.predictor.predict(wire.PredictRequest(parts=parts), call))

    def infer(self, raw: bytes, model: str = "momentum") -> None:
        """Ask by the standard protocol for what these bytes hold, whatever comes of it."""
        request = oip.ModelInferRequest(model_name=model)
        request.inputs.add(name="features", datatype="FP32", shape=(1, 3))
        request.raw_input_contents.append(raw)
        asyncio.run(self.open_inference.model_infer(request, CALL))

    def failures(self) -> dict[tuple[str, int, str, str], int]:
        """Return how often calls failed, by model, version, status and reason."""
        return {
            (model, version, *key): durations.count
            for model, versions in self.statistics.models.items()
            for version, counted in versions.items()
            for key, durations in counted.failed.items()
        }


@pytest.fixture
def counted() -> Iterator[Counted]:
    """Both services, whose clock stands still."""
    with contextlib.closing(RunThreads()) as threads:
        services = Counted(threads, DataPlaneOptions(max_calls_in_flight=1))
        services.registry.publish(FunctionServable(version=3), 1)
        yield services


def part(**fields: Any) -> wire.PredictPart:
    """Return a part for one row of momentum."""
    return wire.PredictPart(**({"model": "momentum", "rows": 1, "features": ROW} | fields))


def test_each_part_ends_once_under_its_own_name(counted: Counted) -> None:
    """Answered, malformed, unknown and refused parts of one message are counted apart (F5)."""
    counted.predict(
        part(rows=2, features=ROW * 2),
        part(features=ROW[:-1]),
        part(features=np.array([[1, np.nan, 3]], dtype="<f4").tobytes()),
        part(version=9),
        part(contract_hash="other"),
        part(model="made up"),
        part(model="another one"),
    )
    answered = counted.statistics.models["momentum"][3]
    assert (answered.answered, answered.rows) == (1, 2)
    assert counted.failures() == {
        ("momentum", 0, "INVALID_ARGUMENT", "invalid_request"): 1,
        ("momentum", 3, "INVALID_ARGUMENT", "non_finite"): 1,
        ("momentum", 0, "NOT_FOUND", "version_not_found"): 1,
        ("momentum", 3, "FAILED_PRECONDITION", "contract_mismatch"): 1,
        (NO_MODEL, 0, "NOT_FOUND", "model_not_found"): 2,
    }


def test_the_time_of_an_answer_is_divided_without_a_gap(counted: Counted) -> None:
    """Queue, input, run and output are together what the call took (F5)."""

    def run(rows: Any) -> Any:
        counted.clock.advance(1.0)
        return rows

    counted.registry.publish(FunctionServable(version=4, function=run), 1)
    counted.predict(part())
    version = counted.statistics.models["momentum"][4]
    parts = [version.queue, version.input, version.infer, version.output]
    assert version.infer.sum_ns == 10**9
    assert sum(durations.sum_ns for durations in parts) == version.total.sum_ns


def test_the_standard_call_is_counted_as_ours(counted: Counted) -> None:
    """ModelInfer adds to the same numbers, when it fails before the model too (F5)."""
    counted.infer(ROW)
    for raw, model in ((ROW[:-1], "momentum"), (ROW, "made up"), (ROW[:-1], "made up")):
        with pytest.raises(Exception, match=r"expected 12 bytes|no model"):
            counted.infer(raw, model)
    assert counted.statistics.models["momentum"][3].answered == 1
    assert counted.failures() == {
        ("momentum", 0, "INVALID_ARGUMENT", "invalid_request"): 1,
        (NO_MODEL, 0, "NOT_FOUND", "model_not_found"): 1,
        (NO_MODEL, 0, "INVALID_ARGUMENT", "invalid_request"): 1,
    }


@pytest.mark.parametrize(
    ("passed_s", "key"),
    [
        (0, ("momentum", 0, "CANCELLED", "cancelled")),
        (51, ("momentum", 0, "DEADLINE_EXCEEDED", "too_slow")),
    ],
)
def test_a_caller_who_leaves_is_told_from_one_whose_time_is_up(
    counted: Counted, passed_s: int, key: tuple[str, int, str, str]
) -> None:
    """Both come as a cancellation; the deadline says which it was (E4)."""
    counted.registry.publish(FunctionServable(version=3, contract=None), 1)  # runs in a thread

    async def leave() -> None:
        call = CallContext(counted.clock.monotonic_ns() + 50 * 10**9, "r-1")
        asking = asyncio.create_task(counted.predictor.predict(wire.PredictRequest(parts=[part()]), call))
        await asyncio.sleep(0)
        counted.clock.advance(passed_s)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

    asyncio.run(leave())
    assert counted.failures() == {key: 1}


def test_a_caller_who_leaves_while_answers_are_encoded(counted: Counted) -> None:
    """Of a message with many parts, those encoded count as answered and the others as cancelled (E4)."""

    async def leave() -> None:
        request = wire.PredictRequest(parts=[part()] * (PAUSE_EVERY + 8))
        asking = asyncio.create_task(counted.predictor.predict(request, CALL))
        for _ in range(10):
            if counted.statistics.models:
                break
            await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

    asyncio.run(leave())
    assert counted.statistics.models["momentum"][3].answered == PAUSE_EVERY
    assert counted.failures() == {("momentum", 0, "CANCELLED", "cancelled"): 8}


def test_calls_that_come_after_their_deadline_are_counted(counted: Counted) -> None:
    """An expired message runs nothing, and each of its calls ends under its model as expired (E1, F5)."""
    expired = CallContext(counted.clock.monotonic_ns(), "r-1")
    guard = Guard(counted.clock, counted.statistics)
    request = oip.ModelInferRequest(model_name="momentum")
    parts = wire.PredictRequest(parts=[part(), part(model="made up"), part()])
    for service, name, message in (
        (counted.open_inference, "ModelInfer", request),
        (counted.predictor, "Predict", parts),
    ):
        [method] = [each for each in service.methods() if each.path.endswith(f"/{name}")]
        guarded = guard.guard(method).unary
        assert guarded is not None
        with pytest.raises(StatusError, match="before the call was started") as caught:
            asyncio.run(guarded(message, expired))
        assert caught.value.code is Code.DEADLINE_EXCEEDED
        assert counted.statistics.rpcs[method.path, "DEADLINE_EXCEEDED"].count == 1
    assert counted.failures() == {
        ("momentum", 0, "DEADLINE_EXCEEDED", "expired"): 3,
        (NO_MODEL, 0, "DEADLINE_EXCEEDED", "expired"): 1,
    }
    assert counted.registry.resolve("momentum", 0).servable.runs == 0


def test_a_message_to_a_full_server_is_not_decoded(counted: Counted) -> None:
    """Where there is no room, that is what each part is told, whatever it holds (E6)."""
    begun, go_on = threading.Event(), threading.Event()

    def run(rows: Any) -> Any:
        begun.set()
        go_on.wait(60)
        return rows

    slow = FunctionServable("slow", function=run, warm_up_ns=10**9)
    counted.registry.publish(slow, 1)

    async def ask() -> list[int]:
        first = asyncio.create_task(
            counted.predictor.predict(wire.PredictRequest(parts=[part(model="slow")]), CALL)
        )
        try:
            await asyncio.to_thread(begun.wait, 60)
            request = wire.PredictRequest(parts=[part(), part(features=ROW[:-1])])
            response = await counted.predictor.predict(request, CALL)
        finally:
            go_on.set()
            await first
        return [result.status.code for result in response.parts]

    assert asyncio.run(ask()) == [int(Code.RESOURCE_EXHAUSTED)] * 2


def test_others_get_their_turn_while_many_parts_are_read_and_written(counted: Counted) -> None:
    """A message of many parts holds up the event loop for some of them at a time."""
    turns = 0

    async def take_turns(asking: asyncio.Task[Any]) -> None:
        nonlocal turns
        while not asking.done():
            turns += 1
            await asyncio.sleep(0)

    async def ask() -> None:
        request = wire.PredictRequest(parts=[part(features=ROW[:-1])] * (4 * PAUSE_EVERY))
        asking = asyncio.create_task(counted.predictor.predict(request, CALL))
        await asyncio.gather(asking, take_turns(asking))

    asyncio.run(ask())
    assert turns >= 8
