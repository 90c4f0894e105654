"""How many connections there may be, what becomes of those beyond, and of those that never begin."""

import asyncio
import logging
import resource
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import grpc
import pytest
from eventually import BOUND_S
from fuzz.memory_transport import MemoryTransport
from fuzz.virtual_loop import VirtualLoop
from h2_served import Served, question, scores
from sidecars import eventually, process_sidecar
from wire_caller import GOAWAY, PREFACE, SETTINGS, WireCaller, frame

from inference_server.core.clock import SystemClock
from inference_server.rpc.h2 import acceptor
from inference_server.rpc.h2.connection import Connection
from inference_server.rpc.h2.rows import Shared
from inference_server.rpc.h2.server import H2Server
from inference_server.rpc.incoming import RequestIds
from inference_server.rpc.listener import MAX_CONNECTIONS, ListenerOptions, default_max_connections
from inference_server.rpc.method import MethodTable
from inference_server.serving.drain import Drain

Serve = Callable[..., AbstractContextManager[Served]]
BOUND = 3


@contextmanager
def full(serve: Serve, target: str) -> Iterator[tuple[Served, list[WireCaller]]]:
    """Serve as many callers as may be; at the end the server knows that they have left."""
    with serve(listener=ListenerOptions(max_connections=BOUND)) as served:
        with ExitStack() as stack:
            callers = [stack.enter_context(served.caller(target=target)).greeted() for _ in range(BOUND)]
            yield served, callers
        eventually(lambda: not served.connections, "all have left")


@pytest.mark.parametrize("target", ["unix", "tcp"])
def test_a_connection_beyond_the_bound_is_closed_at_once(
    serve: Serve, target: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Of all addresses together, without a word; the others go on, and the log has a line for an address."""
    other = {"unix": "tcp", "tcp": "unix"}[target]
    with caplog.at_level(logging.WARNING, acceptor.__name__), full(serve, target) as (served, callers):
        for where in (target, other) * 3:
            with served.caller(target=where) as beyond:
                beyond.until_gone()
                assert (beyond.acks, beyond.goaways) == (0, [])
        for caller in callers:
            assert scores(caller.answer(caller.call(question())).messages[0]) == [6.0]
    lines = [record.getMessage() for record in caplog.records if record.name == acceptor.__name__]
    told = "connections are refused, 1 by now: 3 are open, which is the bound (max_connections)"
    assert lines == [told, told]


def test_a_place_that_is_free_again_is_taken(serve: Serve) -> None:
    """One of those that are connected leaves, and another is answered."""
    with full(serve, "tcp") as (served, [first, *_]):
        first.socket.close()
        eventually(lambda: len(served.connections) < BOUND, "he has left")
        served.check_answers()


def test_a_client_of_grpc_is_told_that_there_is_no_place(serve: Serve) -> None:
    """UNAVAILABLE at once, and not when its deadline has passed."""
    with full(serve, "unix") as (served, _), grpc.insecure_channel(served.sidecar.unix) as channel:
        ask = channel.unary_unary("/tickserve.v1.Predictor/Predict")
        with pytest.raises(grpc.RpcError) as refused:
            ask(question(), timeout=BOUND_S)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    ("descriptors", "connections"),
    [(1024, 512), (1 << 20, MAX_CONNECTIONS), (resource.RLIM_INFINITY, MAX_CONNECTIONS)],
)
def test_by_default_connections_leave_descriptors_for_all_else(
    monkeypatch: pytest.MonkeyPatch, descriptors: int, connections: int
) -> None:
    """Half of those that the process may have, and never more than a fixed number."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (descriptors, resource.RLIM_INFINITY))
    assert default_max_connections() == connections
    assert ListenerOptions().max_connections == connections


def test_a_server_without_descriptors_goes_on(wire_models: Path) -> None:
    """Who is connected is answered; who comes waits, and is answered when there are some again; few lines."""
    with process_sidecar(wire_models) as sidecar, ExitStack() as stack:
        connected = stack.enter_context(WireCaller(sidecar.target)).greeted()
        pid = sidecar.process.pid
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        highest = max(int(each.name) for each in Path(f"/proc/{pid}/fd").iterdir())
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (highest + 4, before[1]))
        crowd = [stack.enter_context(WireCaller(sidecar.target)) for _ in range(100)]
        eventually(lambda: "no connection can be taken in" in sidecar.log.read_text(), "it has none left")
        assert connected.answer(connected.call(question())).code == 0
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        for caller in crowd:
            assert caller.answer(caller.call(question())).code == 0
        log = sidecar.log.read_text()
        assert log.count("no connection can be taken in: Too many open files") == 1
        # Others may want a descriptor meanwhile, as a vetting process does, and tell of it in their own way.
        assert "asyncio" not in log


@pytest.mark.parametrize("target", ["unix", "tcp"])
def test_who_never_begins_is_cut_off(serve: Serve, target: str) -> None:
    """Whatever he has sent of the opening, his place is free again when the time for it is over."""
    # Who does begin, at the end, has the time for it on a machine that is busy.
    options = ListenerOptions(handshake_timeout_s=3.0)
    with serve(listener=options) as served, ExitStack() as stack:
        callers = []
        for opening in (b"", PREFACE[:10], PREFACE, PREFACE + frame(SETTINGS, 0, 0)[:5]):
            callers.append(stack.enter_context(served.caller(target=target, greet=False)))
            callers[-1].raw(opening)
        for caller in callers:
            caller.until_gone()
            assert caller.goaways[-1][1:] == (0, b"handshake_timeout")


def test_the_time_for_the_opening_is_for_all_of_it() -> None:
    """A byte now and then does not make it longer; once it is whole, it is of no concern."""
    loop = VirtualLoop()
    options = ListenerOptions(handshake_timeout_s=20.0)
    shared = Shared({}, SystemClock(), RequestIds(), options, set())
    try:
        with loop.current():
            slow = MemoryTransport(loop, Connection(shared))
            begun = MemoryTransport(loop, Connection(shared))
            begun.deliver(PREFACE + frame(SETTINGS, 0, 0))
            for byte in PREFACE[:19]:
                slow.deliver(bytes((byte,)))
                assert not slow.is_closing()
                loop.run_for(1.0)
            loop.run_for(2.0)
            assert slow.lost
            assert b"handshake_timeout" in slow.written
            loop.run_for(20.0)
            assert not begun.is_closing()
            begun.vanish()
            loop.run_for(0.0)
            assert not loop.failures
    finally:
        loop.close()


@pytest.mark.parametrize("turns", range(6))
def test_who_comes_as_the_server_stops_is_told(tmp_path: Path, turns: int) -> None:
    """In whatever turn of the event loop it is: nobody who was taken in is overlooked or waited for."""

    async def stop() -> bytes:
        server = H2Server(MethodTable((), SystemClock(), Drain()), ListenerOptions())
        server.bind_path(tmp_path / "s.sock")
        await server.start()
        with socket.socket(socket.AF_UNIX) as caller:
            caller.connect(str(tmp_path / "s.sock"))
            for _ in range(turns):
                await asyncio.sleep(0)
            async with asyncio.timeout(BOUND_S):
                await server.stop(2 * BOUND_S)
            return all_of(caller)

    came = asyncio.run(stop())
    if turns > 1:  # before, he was not taken in: the system cuts him off
        assert GOAWAY in kinds(came)


def all_of(caller: socket.socket) -> bytes:
    """What comes until the server hangs up."""
    caller.settimeout(BOUND_S)
    came = b""
    try:
        while piece := caller.recv(1 << 16):
            came += piece
    except ConnectionResetError:
        pass
    return came


def kinds(came: bytes) -> list[int]:
    """The kinds of the frames in what came."""
    found = []
    while came:
        found.append(came[3])
        came = came[9 + int.from_bytes(came[:3], "big") :]
    return found
