"""What one question to the sidecar costs, beside the floor of a bare echo, interleaved in one run.

    python benchmarks/round_trip.py [--rounds N]         # or: make bench

Both servers are grpc.aio processes of their own, asked over Unix sockets, one request at a time. The echo
answers bytes of about the size of the question, undecoded. Prints the median of each round's medians, and
the ratio of each to the echo of the same kind, round by round.
"""

import argparse
import asyncio
import contextlib
import queue
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import grpc
import numpy as np
from tickserve.v1 import predictor_pb2 as wire

from strategy_client import InferenceClient
from strategy_client.predictor.codec import write_request
from strategy_client.predictor.port import Question
from strategy_client.sidecar.own_sidecar import OwnSidecar

ROOT: Final = Path(__file__).resolve().parent.parent
CALLS_A_ROUND: Final = 500
WARM_UP_CALLS: Final = 200
TIMEOUT_NS: Final = 5_000_000_000
QUESTIONS: Final = (
    Question("es_momentum", np.full((1, 3), 1e-4, dtype=np.float32)),
    Question("es_reversion", np.full((1, 3), 1e-4, dtype=np.float32)),
)


async def serve_echo(address: str) -> None:
    """Run the floor: a server that sends back what it gets."""

    async def unary(request: bytes, _: Any) -> bytes:
        return request

    async def stream(requests: Any, _: Any) -> Any:
        async for request in requests:
            yield request

    server = grpc.aio.server()
    handlers = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Stream": grpc.stream_stream_rpc_method_handler(stream),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("echo", handlers),))
    server.add_insecure_port(address)
    await server.start()
    await server.wait_for_termination()


@contextlib.contextmanager
def echo_process() -> Iterator[str]:
    """Run the echo server as a process; give its address."""
    with tempfile.TemporaryDirectory() as folder:
        address = f"unix:{folder}/echo.sock"
        process = subprocess.Popen([sys.executable, __file__, "--echo", address])  # noqa: S603 - this file
        try:
            yield address
        finally:
            process.kill()
            process.wait()


def median_us(call: Callable[[], Any], calls: int) -> float:
    """Return the median time of one call, in microseconds."""
    times_ns = []
    for _ in range(calls):
        began_ns = time.perf_counter_ns()
        call()
        times_ns.append(time.perf_counter_ns() - began_ns)
    return statistics.median(times_ns) / 1000


def measure(rounds: int) -> dict[str, list[float]]:
    """Return the medians by subject, one a round, in microseconds."""
    request = write_request("bench", QUESTIONS, 1_000_000)
    payload = request.SerializeToString()
    with contextlib.ExitStack() as stack:
        sidecar = stack.enter_context(OwnSidecar(ROOT / "models"))
        echo_address = stack.enter_context(echo_process())
        client = stack.enter_context(InferenceClient(sidecar.target))
        sidecar.wait_ready(client)
        echo = stack.enter_context(grpc.insecure_channel(echo_address))
        predict = stack.enter_context(grpc.insecure_channel(sidecar.target)).unary_unary(
            "/tickserve.v1.Predictor/Predict",
            request_serializer=wire.PredictRequest.SerializeToString,
            response_deserializer=wire.PredictResponse.FromString,
        )
        unary = echo.unary_unary("/echo/Unary")
        sent: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        echoes = echo.stream_stream("/echo/Stream")(iter(sent.get, None), wait_for_ready=True)
        stack.callback(sent.put, None)

        def stream_echo() -> None:
            sent.put(payload)
            next(echoes)

        subjects: dict[str, Callable[[], Any]] = {
            "bare unary echo": lambda: unary(payload, timeout=5, wait_for_ready=True),
            "Predict, two models": lambda: predict(request, timeout=5),
            "bare stream echo": stream_echo,
            "InferenceClient, two models": lambda: client.submit(
                QUESTIONS, time.monotonic_ns() + TIMEOUT_NS
            ).result(),
        }
        for call in subjects.values():
            median_us(call, WARM_UP_CALLS)
        medians: dict[str, list[float]] = {name: [] for name in subjects}
        for _ in range(rounds):
            for name, call in subjects.items():
                medians[name].append(median_us(call, CALLS_A_ROUND))
    return medians


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--echo", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.echo:
        asyncio.run(serve_echo(arguments.echo))
        return
    medians = measure(arguments.rounds)
    floors = {
        "Predict, two models": "bare unary echo",
        "InferenceClient, two models": "bare stream echo",
    }
    print(f"{'subject':<30}{'median us':>10}{'lowest':>9}{'highest':>9}{'x floor':>9}")
    for name, values in medians.items():
        floor = medians[floors.get(name, name)]
        ratio = statistics.median(a / b for a, b in zip(values, floor, strict=True))
        print(
            f"{name:<30}{statistics.median(values):>10.0f}{min(values):>9.0f}{max(values):>9.0f}{ratio:>9.2f}"
        )


if __name__ == "__main__":
    main()
