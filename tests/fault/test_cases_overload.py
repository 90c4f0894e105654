"""More than there is room for, models that hang, and what is left after a storm (E6, E8, F6)."""

import contextlib
import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2
from onnx_files import endless_model, score_model, stubborn_model
from open_inference.v2 import inference_pb2 as oip
from sidecars import (
    PATIENCE_S,
    ThreadSidecar,
    describe,
    eventually,
    process_sidecar,
    put,
    stub,
    thread_sidecar,
)
from tickserve.v1 import predictor_pb2 as wire

from inference_server.core.errors import Reason
from inference_server.rpc.guard import GuardOptions
from inference_server.rpc.listener import ListenerOptions
from inference_server.rpc.status import Code
from inference_server.serving.data_plane import DataPlaneOptions
from inference_server.serving.settings import ModelSettings

ROW = np.array([1, 2, 3], dtype="<f4").tobytes()
ENDLESS = np.full(3, 2**62, dtype="<f4").tobytes()
STUBBORN = np.full(3, 1e7, dtype="<f4").tobytes()  # a quarter of an hour in one node
INFER = "/inference.GRPCInferenceService/ModelInfer"
STREAM_INFER = "/inference.GRPCInferenceService/ModelStreamInfer"
HEALTH = "/grpc.health.v1.Health/Check"


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A quick model, and two that take as long as they are asked to."""
    folder = tmp_path / "models"
    put(folder / "one.onnx", score_model("one"))
    for name in ("loops", "other"):
        put(folder / f"{name}.onnx", endless_model(turns=None))
    return folder


def asking(*models: str, features: bytes = ROW, **fields: Any) -> wire.PredictRequest:
    """A question to each of these for one row."""
    parts = [wire.PredictPart(model=model, rows=1, features=features) for model in models]
    return wire.PredictRequest(parts=parts, **({"id": "1"} | fields))


def infer(model: str, features: bytes = ROW) -> oip.ModelInferRequest:
    """The same by the standard protocol."""
    tensor = oip.ModelInferRequest.InferInputTensor(name="features", datatype="FP32", shape=(1, 3))
    return oip.ModelInferRequest(model_name=model, inputs=[tensor], raw_input_contents=[features])


def predict(channel: grpc.Channel) -> Any:
    """The unary call."""
    return stub(channel, "Predict", wire.PredictResponse)


def calls_in_flight(sidecar: ThreadSidecar) -> int:
    """Count the calls that have their place."""
    return sidecar.sidecar.data_plane.calls_in_flight


def refused(sidecar: ThreadSidecar, model: str, reason: Reason) -> int:
    """Count the calls of this model that failed for this reason."""
    versions = sidecar.sidecar.statistics.models.get(model, {}).values()
    counts = [count for version in versions for (_, why), count in version.failed.items() if why is reason]
    return sum(durations.count for durations in counts)


@dataclass(frozen=True)
class Bound:
    """How a bound of five calls is set, and how it is told."""

    options: DataPlaneOptions
    settings: dict[str, ModelSettings]
    reason: Reason
    text: str


BOUNDS = {
    "server": Bound(
        DataPlaneOptions(max_calls_in_flight=5), {}, Reason.SERVER_FULL, "5 calls are in flight, which is"
    ),
    "every model": Bound(
        DataPlaneOptions(max_calls_per_model=5), {}, Reason.MODEL_FULL, "5 calls to model 'loops' are"
    ),
    "this model": Bound(
        DataPlaneOptions(),
        {"loops": ModelSettings(max_calls=5)},
        Reason.MODEL_FULL,
        "5 calls to model 'loops' are",
    ),
}


@pytest.mark.parametrize("address", ["unix", "tcp"])
@pytest.mark.parametrize("bound", BOUNDS.values(), ids=BOUNDS)
def test_over_the_bound_exactly_the_excess_is_refused(models: Path, address: str, bound: Bound) -> None:
    """E6: of 5 + 7 sent at once 7 are refused, with the bound in the text, on both protocols and streams."""
    served = thread_sidecar(models, data_plane=bound.options, settings=bound.settings)
    with served as sidecar, grpc.insecure_channel(getattr(sidecar, address)) as channel:
        unary = [
            predict(channel).future(asking("loops", features=ENDLESS), timeout=PATIENCE_S) for _ in range(12)
        ]
        eventually(lambda: sum(call.done() for call in unary) == 7, "seven are answered")
        assert calls_in_flight(sidecar) == 5
        told = [call.result().parts[0].status for call in unary if call.done()]
        assert {status.code for status in told} == {Code.RESOURCE_EXHAUSTED}
        assert all(bound.text in status.message for status in told)
        standard = stub(channel, INFER, oip.ModelInferResponse)
        with pytest.raises(grpc.RpcError, match=bound.text) as caught:
            standard(infer("loops"), timeout=PATIENCE_S)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        with pytest.raises(grpc.RpcError, match=bound.text):
            standard(infer("loops", features=b"no row, and nobody looks"), timeout=PATIENCE_S)
        (part,) = predict(channel)(asking("loops", features=b"nor here"), timeout=PATIENCE_S).parts
        assert part.status.code == Code.RESOURCE_EXHAUSTED
        stream = stub(channel, "PredictStream", wire.PredictResponse, kind="stream_stream")
        (streamed,) = stream(iter([asking("loops")]), timeout=PATIENCE_S)
        assert streamed.parts[0].status.code == Code.RESOURCE_EXHAUSTED
        stream = stub(channel, STREAM_INFER, oip.ModelStreamInferResponse, kind="stream_stream")
        (streamed,) = stream(iter([infer("loops")]), timeout=PATIENCE_S)
        assert bound.text in streamed.error_message
        assert refused(sidecar, "loops", bound.reason) == 12
        if bound.reason is Reason.MODEL_FULL:
            others = predict(channel)(asking("one", "other"), timeout=PATIENCE_S).parts
            assert [part.status.code for part in others] == [Code.OK] * 2
        for call in unary:
            call.cancel()
        eventually(lambda: calls_in_flight(sidecar) == 0, "the places are free")
        again = predict(channel)(asking(*["loops"] * 5), timeout=PATIENCE_S).parts
        assert [part.status.code for part in again] == [Code.OK] * 5


def test_a_bound_of_a_model_is_taken_over_while_serving(models: Path) -> None:
    """E6: new settings of a model hold for the next call, as at SIGHUP."""
    with thread_sidecar(models) as sidecar, grpc.insecure_channel(sidecar.unix) as channel:
        parts = asking("loops", "loops", "loops")
        for bound, codes in ((1, [Code.OK, *[Code.RESOURCE_EXHAUSTED] * 2]), (None, [Code.OK] * 3)):
            settings = {"loops": ModelSettings(max_calls=bound)}
            sidecar.run(told(sidecar, replace(sidecar.options, settings=settings)))
            answers = predict(channel)(parts, timeout=PATIENCE_S).parts
            assert [part.status.code for part in answers] == codes


def test_over_the_bound_on_streams_exactly_the_excess_is_refused(models: Path) -> None:
    """E6: of three streams to two places the third is refused; health and unary calls go on."""
    with (
        thread_sidecar(models, guard=GuardOptions(max_streams=2)) as sidecar,
        grpc.insecure_channel(sidecar.unix) as channel,
    ):
        open_stream = stub(channel, "PredictStream", wire.PredictResponse, kind="stream_stream")
        standard = stub(channel, STREAM_INFER, oip.ModelStreamInferResponse, kind="stream_stream")
        ends = threading.Event()

        def asked(request: Any) -> Iterator[Any]:
            yield request
            ends.wait(PATIENCE_S)

        first, second = open_stream(asked(asking("one"))), standard(asked(infer("one")))
        assert next(first).parts[0].status.code == Code.OK
        assert next(second).infer_response.model_name == "one"
        third = open_stream(asked(asking("one")))
        with pytest.raises(grpc.RpcError, match="2 streams are open, which is the server's bound") as caught:
            next(third)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert healthy(channel)
        assert predict(channel)(asking("one"), timeout=PATIENCE_S).parts[0].status.code == Code.OK
        first.cancel()
        eventually(lambda: gauges(sidecar) == {f"rpc {STREAM_INFER}": 1}, "a place is free")
        fourth = open_stream(asked(asking("one")))
        assert next(fourth).parts[0].status.code == Code.OK
        ends.set()


def test_quick_calls_that_the_loop_has_not_come_to_are_bounded_too(models: Path) -> None:
    """E6: with grpcio as many calls wait while the event loop is busy as may; only the excess is ended."""
    bound, more = 1500, 10
    begun, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        begun.set()
        go_on.wait(PATIENCE_S)

    with (
        thread_sidecar(
            models, listener=ListenerOptions(transport="grpcio", max_unread_calls=bound)
        ) as sidecar,
        grpc.insecure_channel(sidecar.unix) as channel,
    ):
        sidecar.call_soon(hold)
        assert begun.wait(PATIENCE_S)
        calls = [predict(channel).future(asking("one"), timeout=PATIENCE_S) for _ in range(bound + more)]
        # Besides those that wait the loop has been given one, or two.
        eventually(lambda: sum(call.done() for call in calls) >= more - 2, "the excess is told")
        go_on.set()
        refused = 0
        for call in calls:
            try:
                assert call.result(PATIENCE_S).parts[0].status.code == Code.OK
            except grpc.FutureCancelledError:
                refused += 1
            except grpc.RpcError:
                assert call.code() is grpc.StatusCode.CANCELLED
                refused += 1
        assert more - 2 <= refused <= more


async def told(sidecar: ThreadSidecar, options: Any) -> None:
    """Take options over on the sidecar's loop."""
    sidecar.sidecar.reload(options)


def healthy(channel: grpc.Channel) -> bool:
    """Ask for health, of the whole server."""
    check = stub(channel, HEALTH, health_pb2.HealthCheckResponse)
    answer = check(health_pb2.HealthCheckRequest(), timeout=PATIENCE_S)
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def test_models_that_hang_starve_neither_others_nor_health(tmp_path: Path) -> None:
    """E8: three models that cannot be stopped and three that loop hang in all their turns; the rest answers.

    Each of them is asked more than it has turns, with callers who wait, leave, or give up at a deadline. The
    others are asked in between, quick ones and slow ones, and have all answered before the callers who wait
    have heard anything.
    """
    folder = tmp_path / "models"
    hanging = [f"stubborn-{number}" for number in range(3)] + [f"loops-{number}" for number in range(3)]
    for name in hanging:
        put(folder / f"{name}.onnx", stubborn_model() if "stubborn" in name else endless_model(turns=None))
    put(folder / "quick.onnx", score_model("quick"))
    put(folder / "slow.onnx", endless_model(turns=2_000))
    with process_sidecar(folder) as sidecar, grpc.insecure_channel(sidecar.target) as channel:
        waiting = []
        for name in hanging:
            hard = STUBBORN if "stubborn" in name else ENDLESS
            ask = predict(channel)
            waiting += [ask.future(asking(name, features=hard)) for _ in range(4)]
            leaving = ask.future(asking(name, features=hard))
            late = ask(asking(name, features=hard, timeout_us=50_000), timeout=PATIENCE_S)
            assert late.parts[0].status.code == Code.DEADLINE_EXCEEDED
            leaving.cancel()
            for _ in range(3):
                answers = ask(asking("slow", "quick"), timeout=PATIENCE_S).parts
                assert [part.status.code for part in answers] == [Code.OK] * 2
                assert healthy(channel)
        flights = {model.name: model.versions[0] for model in describe(channel).models}
        assert set(flights) == {*hanging, "quick", "slow"}
        assert not any(call.done() for call in waiting)
        for call in waiting:
            call.cancel()
        # A loop is stopped, so its model answers again at once; what is in one node keeps its own model only.
        for name in hanging:
            if "loops" in name:
                assert predict(channel)(asking(name), timeout=PATIENCE_S).parts[0].status.code == Code.OK
        assert healthy(channel)
        assert sidecar.stop() == 0


def test_a_message_of_many_parts_does_not_keep_health_waiting(models: Path) -> None:
    """E8: while messages of a thousand parts are worked on one after the other, health is answered too."""
    with thread_sidecar(models) as sidecar, grpc.insecure_channel(sidecar.unix) as channel:
        ask = predict(channel)
        many = [ask.future(asking(*["one"] * 1000), timeout=PATIENCE_S) for _ in range(20)]
        assert healthy(channel)
        assert not many[-1].done(), "health waited for all of them"
        assert {part.status.code for call in many for part in call.result().parts} == {Code.OK}


def gauges(sidecar: ThreadSidecar) -> dict[str, int]:
    """Everything that counts what is under way, by its name, where it is not 0."""
    parts = sidecar.sidecar
    counts = {f"rpc {path}": count for path, count in parts.statistics.rpcs_in_flight.items()}
    counts["calls"] = parts.data_plane.calls_in_flight
    for model in parts.registry.describe():
        for version in model.versions:
            counts[str(version.id)] = version.in_flight
    return {name: count for name, count in counts.items() if count}


def storm(target: str, seed: int) -> None:
    """Call in every way, and end in every way, again and again."""
    chance = random.Random(seed)  # noqa: S311 - a repeatable mix
    for _ in range(6):
        with grpc.insecure_channel(target, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            stream = stub(channel, "PredictStream", wire.PredictResponse, kind="stream_stream")
            standard = stub(channel, STREAM_INFER, oip.ModelStreamInferResponse, kind="stream_stream")
            watch = stub(
                channel, "/grpc.health.v1.Health/Watch", health_pb2.HealthCheckResponse, kind="unary_stream"
            )
            calls = [
                predict(channel).future(asking("one", "loops", "nobody"), timeout=PATIENCE_S),
                predict(channel).future(asking("loops", features=ENDLESS), timeout=chance.uniform(0, 0.05)),
                predict(channel).future(
                    asking("loops", features=ENDLESS, timeout_us=20_000), timeout=PATIENCE_S
                ),
                predict(channel).future(asking("one", features=b"123"), timeout=PATIENCE_S),
                stub(channel, INFER, oip.ModelInferResponse).future(
                    infer("loops", ENDLESS), timeout=PATIENCE_S
                ),
                channel.unary_unary("/tickserve.v1.Predictor/Predict").future(b"\xff", timeout=PATIENCE_S),
            ]
            streams = [
                stream(iter([asking("one"), asking("loops", features=ENDLESS)]), timeout=PATIENCE_S),
                standard(iter([infer("one"), infer("loops", ENDLESS)]), timeout=chance.uniform(0, 0.05)),
                watch(health_pb2.HealthCheckRequest(), timeout=PATIENCE_S),
            ]
            calls += streams
            chance.shuffle(calls)
            for call in calls:
                ending = chance.randrange(3)
                if ending == 0:
                    call.cancel()
                elif ending == 1 and call in streams:
                    with contextlib.suppress(grpc.RpcError, StopIteration):
                        next(call)
            # Whatever has not ended does so now, with its connection.


def test_gauges_are_back_at_zero_after_a_storm(models: Path) -> None:
    """F6: after calls of every kind that end in every way, nothing is counted as being in flight."""
    options = DataPlaneOptions(max_calls_in_flight=20)
    with thread_sidecar(models, data_plane=options) as sidecar:
        threads = [
            threading.Thread(target=storm, args=(target, seed))
            for seed, target in enumerate((sidecar.unix, sidecar.tcp) * 2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S * 2)
            assert not thread.is_alive()
        eventually(lambda: not gauges(sidecar), f"all is 0, there is {gauges(sidecar)}")
        ended = {status for _, status in sidecar.sidecar.statistics.rpcs}
        assert ended >= {"OK", "CANCELLED", "DEADLINE_EXCEEDED"}
        with grpc.insecure_channel(sidecar.unix) as channel:
            answers = predict(channel)(asking("one", "loops"), timeout=PATIENCE_S).parts
            assert [part.status.code for part in answers] == [Code.OK] * 2
