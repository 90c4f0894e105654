"""`grpc.health.v1` for those who restart a process: it lives, whatever its models and its drain say."""

import asyncio
import queue
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2
from onnx_files import score_model
from servables import FunctionServable
from sidecars import PATIENCE_S, put, stub, thread_sidecar

from inference_server.rpc.health import Health
from inference_server.serving.drain import Drain
from inference_server.serving.registry import Registry

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def check(channel: grpc.Channel, service: str) -> int:
    """What Check says of a service."""
    call = stub(channel, "/grpc.health.v1.Health/Check", health_pb2.HealthCheckResponse)
    return call(health_pb2.HealthCheckRequest(service=service), timeout=PATIENCE_S).status


@pytest.mark.parametrize("address", ["unix", "tcp"])
def test_it_lives_before_it_has_a_model(tmp_path: Path, address: str) -> None:
    """F1: without models the service "live" is SERVING and the server as a whole is not."""
    with (
        thread_sidecar(tmp_path / "none") as sidecar,
        grpc.insecure_channel(getattr(sidecar, address)) as channel,
    ):
        assert [check(channel, service) for service in ("live", "", "tickserve.v1.Predictor")] == [
            SERVING,
            NOT_SERVING,
            NOT_SERVING,
        ]


def test_it_lives_while_it_drains(tmp_path: Path) -> None:
    """F2, F3: a drain flips readiness and not "live"; a watch of either ends with it."""
    put(tmp_path / "models" / "one.onnx", score_model("one"))
    seen: dict[str, queue.Queue[int | None]] = {"live": queue.Queue(), "": queue.Queue()}
    with (
        thread_sidecar(tmp_path / "models") as sidecar,
        grpc.insecure_channel(sidecar.unix) as channel,
    ):
        watch = stub(
            channel, "/grpc.health.v1.Health/Watch", health_pb2.HealthCheckResponse, kind="unary_stream"
        )
        watches = {
            name: watch(health_pb2.HealthCheckRequest(service=name), timeout=PATIENCE_S) for name in seen
        }
        for name, responses in watches.items():
            seen[name].put(next(responses).status)

        async def drain() -> None:
            sidecar.sidecar.drain.begin()

        sidecar.run(drain())
        assert [check(channel, "live"), check(channel, "")] == [SERVING, NOT_SERVING]
        for name, responses in watches.items():
            for response in responses:
                seen[name].put(response.status)
    assert list(seen["live"].queue) == [SERVING]
    assert list(seen[""].queue) == [SERVING, NOT_SERVING]


def test_a_drain_that_begins_while_a_status_is_sent_is_told() -> None:
    """F2: a watch whose SERVING is still on its way when the drain begins still ends with NOT_SERVING."""
    registry, drain = Registry(), Drain()
    registry.publish(FunctionServable(), 1)

    async def main() -> list[int]:
        watch = Health(registry, (), drain).watch(health_pb2.HealthCheckRequest(), None)
        first = await anext(watch)
        drain.begin()
        return [first.status, *[response.status async for response in watch]]

    assert asyncio.run(main()) == [SERVING, NOT_SERVING]
