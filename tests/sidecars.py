"""Real sidecars for tests: one in a thread of this process, one as a process of its own."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
from tickserve.v1 import predictor_pb2 as wire

from inference_server.app import ServeOptions, Sidecar, serving
from inference_server.rpc.address import Address
from inference_server.rpc.listener import ListenerOptions, Transport

PATIENCE_S = 60.0


_transports: list[Transport] = []


@contextlib.contextmanager
def served_by(transport: Transport) -> Iterator[None]:
    """Let the sidecars that are started in this block, and are not told a transport, serve by this one."""
    _transports.append(transport)
    try:
        yield
    finally:
        _transports.pop()


def asked_transport(said: Transport) -> Transport:
    """Return the transport that a sidecar is to serve by."""
    return _transports[-1] if _transports and said == "auto" else said


def eventually(condition: Callable[[], Any], what: str) -> Any:
    """Return the condition's first true value; fail after PATIENCE_S."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if value := condition():
            return value
        threading.Event().wait(0.01)
    raise AssertionError(f"did not come about in {PATIENCE_S} s: {what}")


def put(path: Path, content: bytes) -> None:
    """Put a file in place as an operator should: written beside, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content)
    part.rename(path)


class ThreadSidecar:
    """A sidecar on the loop of a thread; every call to it goes through real sockets."""

    def __init__(self, sidecar: Sidecar, loop: asyncio.AbstractEventLoop, options: ServeOptions) -> None:
        self.sidecar = sidecar
        self.options = options
        self._loop = loop
        self.unix, self.tcp, *_ = map(str, sidecar.addresses)

    def settle(self) -> None:
        """Wait until what lies in the repository is served or refused."""
        self.run(self.sidecar.reconciler.settled())

    def call_soon(self, function: Callable[[], None]) -> None:
        """Let the sidecar's loop call this."""
        self._loop.call_soon_threadsafe(function)

    def run(self, coroutine: Any) -> Any:
        """Run a coroutine on the sidecar's loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(PATIENCE_S)


@contextlib.contextmanager
def thread_sidecar(models: Path, more: Sequence[Address] = (), **options: Any) -> Iterator[ThreadSidecar]:
    """Serve `models` on a Unix socket, on loopback and on `more`, settled, until the block ends."""
    with tempfile.TemporaryDirectory(prefix="ts") as folder:
        addresses = (Address(path=Path(folder) / "s.sock"), Address(host="127.0.0.1"), *more)
        loop = asyncio.new_event_loop()
        ready, stop = threading.Event(), asyncio.Event()
        held: list[ThreadSidecar | Exception] = []

        async def main() -> None:
            try:
                said = options.pop("listener", ListenerOptions())
                listener = replace(said, transport=asked_transport(said.transport))
                chosen = ServeOptions(models, addresses, listener=listener, **options)
                async with serving(chosen) as sidecar:
                    held.append(ThreadSidecar(sidecar, loop, chosen))
                    await sidecar.reconciler.settled()
                    ready.set()
                    await stop.wait()
            except Exception as error:  # noqa: BLE001 - raised again in the test's thread
                held[:] = [error]
            finally:
                ready.set()

        def run() -> None:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                runner.run(main())

        thread = threading.Thread(target=run)
        thread.start()
        if not ready.wait(PATIENCE_S):
            # A loop that outlives the test would go on in the process, and keep it from ending.
            loop.call_soon_threadsafe(lambda: [task.cancel() for task in asyncio.all_tasks(loop)])
            thread.join(PATIENCE_S)
            raise AssertionError(f"the start did not settle in {PATIENCE_S} s")
        if isinstance(held[0], Exception):
            thread.join()
            raise held[0]
        try:
            yield held[0]
        finally:
            loop.call_soon_threadsafe(stop.set)
            thread.join(PATIENCE_S)
            assert not thread.is_alive()


class ProcessSidecar:
    """`inference-server serve` as a user starts it."""

    def __init__(self, models: Path, socket: Path, log: Path, *arguments: str) -> None:
        self.target = f"unix:{socket}"
        self.log = log
        with log.open("ab") as stream:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "inference_server", "serve", "--models", str(models)),
                    *("--listen", self.target, "--http", "off"),
                    *("--state", str(socket.with_name("state"))),
                    *("--transport", asked_transport("auto"), *arguments),
                ],
                stdout=stream,
                stderr=stream,
            )

    def wait_ready(self) -> "ProcessSidecar":
        """Wait until every model found is served."""
        eventually(self._ready, f"the sidecar is ready; its log: {self.log.read_text()}")
        return self

    def pause(self) -> None:
        """Stop it as SIGSTOP does, and wait until none of its threads runs; to go on it needs SIGCONT."""
        os.kill(self.process.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WNOWAIT)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        os.kill(self.process.pid, number)
        return self.process.wait(PATIENCE_S)

    def _ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        with contextlib.suppress(grpc.RpcError), grpc.insecure_channel(self.target) as channel:
            return describe(channel).ready
        return False


@contextlib.contextmanager
def process_sidecar(models: Path, *arguments: str, wait: bool = True) -> Iterator[ProcessSidecar]:
    """Run a sidecar as a process until the block ends; killed if it is still there."""
    with tempfile.TemporaryDirectory(prefix="ts") as folder:
        sidecar = ProcessSidecar(models, Path(folder) / "s.sock", Path(folder) / "log", *arguments)
        try:
            yield sidecar.wait_ready() if wait else sidecar
        finally:
            if sidecar.process.poll() is None:
                sidecar.process.kill()
            sidecar.process.wait()


def stub(channel: grpc.Channel, name: str, response: type, *, kind: str = "unary_unary") -> Any:
    """Return a callable for an RPC of `tickserve.v1.Predictor`, or of the service that `name` holds."""
    path = name if name.startswith("/") else f"/tickserve.v1.Predictor/{name}"
    return getattr(channel, kind)(
        path,
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=response.FromString,
    )


def describe(channel: grpc.Channel) -> wire.DescribeModelsResponse:
    """Return what the sidecar says of its models."""
    return stub(channel, "DescribeModels", wire.DescribeModelsResponse)(
        wire.DescribeModelsRequest(), timeout=PATIENCE_S
    )
