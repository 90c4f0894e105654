"""Deadlines and cancellation against a real sidecar, on TCP and on a Unix socket (E1 to E5)."""

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from onnx_files import endless_model, score_model
from open_inference.v2 import inference_pb2 as oip
from sidecars import PATIENCE_S, ThreadSidecar, eventually, put, stub, thread_sidecar
from tickserve.v1 import predictor_pb2 as wire

from inference_server.rpc.method import Method
from inference_server.rpc.status import Code

ROW = np.array([1, 2, 3], dtype="<f4").tobytes()
ENDLESS = np.full(3, 2**62, dtype="<f4").tobytes()
INFER = "/inference.GRPCInferenceService/ModelInfer"
# Short, and far beyond what a call takes here; a test only fails if what takes for ever ends in less.
SHORT_S = 0.3
HUGE_S = 10**9


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory, served_transport: str) -> Iterator[ThreadSidecar]:
    """Serve a quick model and one that takes as long as it is asked to."""
    models = tmp_path_factory.mktemp("models")
    put(models / "one.onnx", score_model("one"))
    put(models / "loops.onnx", endless_model(turns=None))
    with thread_sidecar(models) as running:
        yield running


@pytest.fixture(params=["unix", "tcp"])
def channel(request: pytest.FixtureRequest, sidecar: ThreadSidecar) -> Iterator[grpc.Channel]:
    """A channel that gets an answer after whatever the test did, of which the sidecar has nothing left."""
    with grpc.insecure_channel(getattr(sidecar, request.param)) as made:
        yield made
        nothing_left(sidecar)
        assert predict(made)(asking("one"), timeout=PATIENCE_S).parts[0].status.code == 0


def asking(model: str, features: bytes = ROW, **fields: Any) -> wire.PredictRequest:
    """A question to one model for one row."""
    return wire.PredictRequest(
        parts=[wire.PredictPart(model=model, rows=1, features=features)], **({"id": "1"} | fields)
    )


def infer(model: str, features: bytes = ROW) -> oip.ModelInferRequest:
    """The same by the standard protocol."""
    tensor = oip.ModelInferRequest.InferInputTensor(name="features", datatype="FP32", shape=(1, 3))
    return oip.ModelInferRequest(model_name=model, inputs=[tensor], raw_input_contents=[features])


def predict(channel: grpc.Channel) -> Any:
    """The unary call."""
    return stub(channel, "Predict", wire.PredictResponse)


def in_flight(sidecar: ThreadSidecar) -> dict[str, int]:
    """Everything that counts what is under way, by its name, where it is not 0."""
    parts = sidecar.sidecar
    counts = {f"rpc {path}": count for path, count in parts.statistics.rpcs_in_flight.items()}
    counts["calls"] = parts.data_plane.calls_in_flight
    for model in parts.registry.describe():
        for version in model.versions:
            counts[str(version.id)] = version.in_flight
    return {name: count for name, count in counts.items() if count}


def nothing_left(sidecar: ThreadSidecar) -> None:
    """Wait until nothing is under way."""
    eventually(lambda: not in_flight(sidecar), f"nothing is left, there is {in_flight(sidecar)}")


def tasks(sidecar: ThreadSidecar) -> int:
    """Count the tasks on the sidecar's loop."""

    async def count() -> int:
        return len(asyncio.all_tasks())

    return int(sidecar.run(count()))


@contextlib.contextmanager
def held_up(sidecar: ThreadSidecar) -> Iterator[None]:
    """Let the sidecar's loop do nothing within this block."""
    begun, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        begun.set()
        go_on.wait(PATIENCE_S)

    sidecar.call_soon(hold)
    assert begun.wait(PATIENCE_S)
    try:
        yield
    finally:
        go_on.set()


def call_any(channel: grpc.Channel, method: Method, **how: Any) -> Any:
    """Begin a call of a row of the method table with an empty request; a stream's requests stay open."""
    request = method.request()
    if method.unary is not None:
        return channel.unary_unary(
            method.path, method.request.SerializeToString, method.response.FromString
        ).future(request, **how)
    if method.server_stream is not None:
        return channel.unary_stream(
            method.path, method.request.SerializeToString, method.response.FromString
        )(request, **how)
    requests: queue.Queue[Any] = queue.Queue()
    requests.put(request)
    call = channel.stream_stream(method.path, method.request.SerializeToString, method.response.FromString)(
        iter(requests.get, None), **how
    )
    call.add_callback(lambda: requests.put(None))
    return call


def ending(call: Any) -> grpc.StatusCode:
    """Wait for the end of a call or stream and return its status."""
    try:
        if hasattr(call, "result"):
            call.result(timeout=PATIENCE_S)
        for _ in call if hasattr(call, "__next__") else ():
            pass
    except grpc.RpcError:
        pass
    except grpc.FutureCancelledError:
        return grpc.StatusCode.CANCELLED
    code: grpc.StatusCode = call.code()
    return code


def test_every_rpc_of_the_table_honours_a_deadline(sidecar: ThreadSidecar, channel: grpc.Channel) -> None:
    """E2: what a loop that is held up comes to after the deadline is never done, whichever RPC it is."""
    methods = sidecar.sidecar.methods
    assert len(methods) >= 20
    before = dict.fromkeys((method.path for method in methods), 0)
    for path in before:
        before[path] = done_well(sidecar, path)
    with held_up(sidecar):
        calls = {method.path: call_any(channel, method, timeout=SHORT_S) for method in methods}
        codes = {path: ending(call) for path, call in calls.items()}
    assert codes == dict.fromkeys(codes, grpc.StatusCode.DEADLINE_EXCEEDED)
    nothing_left(sidecar)
    assert {path: done_well(sidecar, path) for path in before} == before


def done_well(sidecar: ThreadSidecar, path: str) -> int:
    """Count the RPCs of this path that the sidecar has ended with OK."""
    durations = sidecar.sidecar.statistics.rpcs.get((path, "OK"))
    return durations.count if durations else 0


def test_a_stream_that_is_open_ends_at_its_deadline(sidecar: ThreadSidecar, channel: grpc.Channel) -> None:
    """E2: every stream of the table that would stay open ends at its deadline, on both sides."""
    streams = [method for method in sidecar.sidecar.methods if method.unary is None]
    assert len(streams) >= 4
    calls = [(method.path, call_any(channel, method, timeout=SHORT_S)) for method in streams]
    assert {path: ending(call) for path, call in calls} == dict.fromkeys(
        (path for path, _ in calls), grpc.StatusCode.DEADLINE_EXCEEDED
    )


@pytest.mark.parametrize("ask", ["predict", "part", "infer", "stream", "infer stream"])
def test_a_deadline_shorter_than_the_model_is_told_and_its_run_is_stopped(
    sidecar: ThreadSidecar, channel: grpc.Channel, ask: str
) -> None:
    """E1: DEADLINE_EXCEEDED comes although the model would take for ever, and its run does not go on."""
    endless, standard = asking("loops", ENDLESS), infer("loops", ENDLESS)
    late = asking("loops", ENDLESS, timeout_us=int(SHORT_S * 1e6))
    standard_late = infer("loops", ENDLESS)
    standard_late.parameters["timeout"].int64_param = int(SHORT_S * 1e6)
    if ask == "predict":
        asked = predict(channel).future(endless, timeout=SHORT_S)
        # The sidecar may tell the part in time, just before the deadline of the whole call.
        if ending(asked) is grpc.StatusCode.OK:
            assert asked.result().parts[0].status.code == Code.DEADLINE_EXCEEDED
        else:
            assert asked.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    elif ask == "part":
        # Time enough for the quick one to be answered on a machine that is busy.
        both = wire.PredictRequest(parts=[*late.parts, *asking("one").parts], timeout_us=3_000_000)
        parts = predict(channel)(both, timeout=PATIENCE_S).parts
        assert [part.status.code for part in parts] == [Code.DEADLINE_EXCEEDED, Code.OK]
    elif ask == "infer":
        asked = stub(channel, INFER, oip.ModelInferResponse).future(standard, timeout=SHORT_S)
        assert ending(asked) is grpc.StatusCode.DEADLINE_EXCEEDED
    elif ask == "stream":
        stream = stub(channel, "PredictStream", wire.PredictResponse, kind="stream_stream")
        (answer,) = stream(iter([late]), timeout=PATIENCE_S)
        assert answer.parts[0].status.code == Code.DEADLINE_EXCEEDED
    else:
        path = "/inference.GRPCInferenceService/ModelStreamInfer"
        stream = stub(channel, path, oip.ModelStreamInferResponse, kind="stream_stream")
        (told,) = stream(iter([standard_late]), timeout=PATIENCE_S)
        assert "did not finish before the deadline" in told.error_message
    nothing_left(sidecar)


@pytest.mark.parametrize("timeout_s", [-1, -HUGE_S])
def test_a_deadline_that_has_passed_starts_nothing(
    sidecar: ThreadSidecar, channel: grpc.Channel, timeout_s: float
) -> None:
    """E3: with less than no time left the status is DEADLINE_EXCEEDED, and the model is not asked."""
    rows = rows_answered(sidecar, "one")
    asked = predict(channel).future(asking("one"), timeout=timeout_s)
    assert ending(asked) is grpc.StatusCode.DEADLINE_EXCEEDED
    nothing_left(sidecar)
    assert rows_answered(sidecar, "one") == rows


def test_a_deadline_of_now_is_an_answer_or_the_status(channel: grpc.Channel) -> None:
    """E3: gRPC rounds a deadline up to a millisecond; what comes of 0 is one or the other, never a fault."""
    asked = predict(channel).future(asking("one"), timeout=0)
    assert ending(asked) in {grpc.StatusCode.OK, grpc.StatusCode.DEADLINE_EXCEEDED}


@pytest.mark.parametrize("timeout_s", [None, HUGE_S])
@pytest.mark.parametrize("timeout_us", [0, 1 << 62])
@pytest.mark.parametrize("model", ["one", "loops"])
def test_no_deadline_and_a_huge_one_are_fine(
    channel: grpc.Channel, model: str, timeout_s: float | None, timeout_us: int
) -> None:
    """E3: without a deadline, and with one of decades, calls are answered, on the loop and in a thread."""
    request = asking(model, timeout_us=timeout_us)
    assert predict(channel)(request, timeout=timeout_s).parts[0].status.code == Code.OK


@pytest.mark.parametrize("value", [0, 2**63 - 1])
def test_the_standard_protocols_own_timeout_may_be_huge(channel: grpc.Channel, value: int) -> None:
    """E3: its parameter says nothing where it is 0, and a huge one is fine."""
    request = infer("loops")
    request.parameters["timeout"].int64_param = value
    assert stub(channel, INFER, oip.ModelInferResponse)(request, timeout=PATIENCE_S).model_name == "loops"


def rows_answered(sidecar: ThreadSidecar, model: str) -> int:
    """Count the rows that this model has answered."""
    return sidecar.sidecar.registry.resolve(model).rows_answered


def running(sidecar: ThreadSidecar) -> int:
    """Count the calls of the model that loops, those that wait among them."""
    return sidecar.sidecar.registry.resolve("loops").in_flight


def leave_before_the_start(sidecar: ThreadSidecar, begin: Callable[[], Any]) -> None:
    """Begin a call and leave while the sidecar has not come to it."""
    with held_up(sidecar):
        call = begin()
        assert call.cancel()


def leave_while_running(sidecar: ThreadSidecar, begin: Callable[[], Any]) -> None:
    """Begin a call and leave while its run goes on."""
    call = begin()
    eventually(lambda: running(sidecar) == 1, "it is there")
    assert call.cancel()


def leave_while_waiting(sidecar: ThreadSidecar, begin: Callable[[], Any]) -> None:
    """Begin more calls than the model has turns, and leave with the last one first."""
    calls = [begin() for _ in range(4)]
    eventually(lambda: running(sidecar) == 4, "all are there")
    assert calls.pop().cancel()
    eventually(lambda: running(sidecar) == 3, "one that waits leaves and the rest stay")
    for call in calls:
        assert call.cancel()


@pytest.mark.parametrize("leave", [leave_before_the_start, leave_while_waiting, leave_while_running])
@pytest.mark.parametrize("kind", ["Predict", "ModelInfer", "PredictStream"])
def test_a_caller_that_leaves_frees_its_place_and_leaves_nothing(
    sidecar: ThreadSidecar,
    channel: grpc.Channel,
    leave: Callable[[ThreadSidecar, Callable[[], Any]], None],
    kind: str,
) -> None:
    """E4, E5: whenever a caller leaves, places, tasks and threads are free, and the next call is answered."""
    nothing_left(sidecar)
    before, threads = tasks(sidecar), threading.active_count()
    calls = {
        "Predict": lambda: predict(channel).future(asking("loops", ENDLESS), timeout=PATIENCE_S),
        "ModelInfer": lambda: stub(channel, INFER, oip.ModelInferResponse).future(
            infer("loops", ENDLESS), timeout=PATIENCE_S
        ),
        "PredictStream": lambda: stub(channel, "PredictStream", wire.PredictResponse, kind="stream_stream")(
            iter([asking("loops", ENDLESS)]), timeout=PATIENCE_S
        ),
    }
    leave(sidecar, calls[kind])
    nothing_left(sidecar)
    eventually(lambda: tasks(sidecar) <= before, f"there are {before} tasks again")
    slow = predict(channel)(asking("loops"), timeout=PATIENCE_S).parts[0]
    assert slow.status.code == Code.OK
    # Those of gRPC's own come and go; a run that was not stopped would hold one for ever, for each test here.
    assert threading.active_count() <= threads + 8


def test_leaving_after_the_answer_changes_nothing(sidecar: ThreadSidecar, channel: grpc.Channel) -> None:
    """E4: a caller who cancels what is answered already has had his answer, and leaves nothing."""
    for model in ("one", "loops"):
        call = predict(channel).future(asking(model), timeout=PATIENCE_S)
        answer = call.result()
        call.cancel()
        assert answer.parts[0].status.code == Code.OK
    nothing_left(sidecar)


def test_a_caller_whose_connection_goes_frees_its_place(sidecar: ThreadSidecar) -> None:
    """E4: a channel that is closed in the middle of a run is as good as a call that is cancelled."""
    channel = grpc.insecure_channel(sidecar.unix)
    asked = predict(channel).future(asking("loops", ENDLESS), timeout=PATIENCE_S)
    eventually(lambda: running(sidecar) == 1, "it runs")
    channel.close()
    assert ending(asked) is grpc.StatusCode.CANCELLED
    nothing_left(sidecar)


def test_a_model_that_loops_runs_in_a_thread(sidecar: ThreadSidecar) -> None:
    """E8: what vetting saw in a graph reaches the registry: the loop is never trusted to a warm-up."""
    registry = sidecar.sidecar.registry
    verdicts = {name: registry.resolve(name).vetting for name in ("one", "loops")}
    assert {name: verdict.steady for name, verdict in verdicts.items() if verdict} == {
        "one": True,
        "loops": False,
    }
