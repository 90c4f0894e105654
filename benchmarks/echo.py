"""The floor: gRPC servers that send back what they get, undecoded, each in a process of its own."""

import asyncio
import contextlib
import queue
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any, Final

import grpc

TIMEOUT_S: Final = 5.0


async def serve(address: str) -> None:
    """Run the server until the process ends."""

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
def echo_server(*, tcp: bool = False) -> Iterator[str]:
    """Run a server on a private Unix socket, or on a free port of loopback; give its address."""
    with tempfile.TemporaryDirectory() as folder:
        address = f"127.0.0.1:{free_port()}" if tcp else f"unix:{folder}/echo.sock"
        process = subprocess.Popen([sys.executable, __file__, address])  # noqa: S603 - this file
        try:
            yield address
        finally:
            process.kill()
            process.wait()


def free_port() -> int:
    """Return a port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def unary_call(address: str, payload: bytes) -> Iterator[Callable[[], bytes]]:
    """Give a function that makes one unary call and waits for its answer."""
    with grpc.insecure_channel(address) as channel:
        unary = channel.unary_unary("/echo/Unary")
        unary(payload, timeout=TIMEOUT_S, wait_for_ready=True)
        yield lambda: unary(payload, timeout=TIMEOUT_S)


@contextlib.contextmanager
def stream_call(address: str, payload: bytes) -> Iterator[Callable[[], bytes]]:
    """Give a function that sends one message over a stream that stays open, and waits for its answer."""
    sent: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    with grpc.insecure_channel(address) as channel:
        answers = channel.stream_stream("/echo/Stream")(iter(sent.get, None), wait_for_ready=True)

        def call() -> bytes:
            sent.put(payload)
            return next(answers)

        call()
        try:
            yield call
        finally:
            sent.put(None)


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
