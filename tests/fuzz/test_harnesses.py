"""What fuzzing found interesting, played again; and some hundred cases more, the same ones each time."""

import asyncio
import gc
import socket
from pathlib import Path

import pytest
from fuzz.harnesses import HARNESSES
from fuzz.memory_transport import HIGH_BYTES, MemoryTransport
from fuzz.server_harness import ServerHarness
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tickserve.v1 import predictor_pb2 as wire

from inference_server.rpc.h2.call import Call
from inference_server.rpc.h2.connection import Connection
from inference_server.rpc.h2.keepalive import Keepalive
from strategy_client.predictor.h2.exchange import Exchange
from strategy_client.predictor.h2.session import SocketSession

CORPUS = Path(__file__).parent / "corpus"
MAX_CORPUS_BYTES = 1_000_000
SMALL = 1_000


@pytest.mark.parametrize("name", sorted(HARNESSES))
def test_the_corpus_holds_what_must_hold(name):
    """Every case that is kept is played without a fault, and there are some, of bounded size."""
    files = sorted((CORPUS / name).iterdir())
    assert len(files) >= 20
    assert sum(file.stat().st_size for file in files) < MAX_CORPUS_BYTES
    with HARNESSES[name]() as harness:
        for file in files:
            try:
                harness(file.read_bytes())
            except AssertionError as error:
                raise AssertionError(f"{file.name}: {error}") from error


@pytest.mark.parametrize("name", sorted(HARNESSES))
def test_any_bytes_hold_what_must_hold(name):
    """Cases that Hypothesis makes up are played without a fault."""
    with HARNESSES[name]() as harness:

        @settings(
            max_examples=150,
            derandomize=True,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(st.binary(min_size=4, max_size=400))
        def play(raw):
            harness(raw)

        play()


def played_by(name):
    """Play a harness's corpus, to its first fault."""
    with HARNESSES[name]() as harness:
        for file in sorted((CORPUS / name).iterdir()):
            harness(file.read_bytes())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of tasks that it forgets
@pytest.mark.parametrize(
    ("of", "function"),
    [
        (Call, "cancel"),
        (Connection, "_stream_closed"),
        (Keepalive, "stop"),
        (Call, "fail"),
    ],
)
def test_the_corpus_notices_what_is_left_out(monkeypatch, of, function):
    """A connection that forgets one of its duties does not pass."""
    monkeypatch.setattr(of, function, lambda *_: None)
    with pytest.raises((AssertionError, RuntimeError)):
        played_by("server")
    gc.collect()  # the warnings of what it left are this test's


def settle_any(session, message):
    """What a session must not do with a response: give it to whoever asked last."""
    if session._unanswered:
        session._unanswered.popitem()[1].settle(wire.PredictResponse.FromString(message))


def end_again(exchange, ending):
    """What an exchange must not do: end whenever it is told to."""
    exchange.ended = True
    exchange._on_end(ending)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of sockets that it leaves
@pytest.mark.parametrize(
    ("of", "function", "wrong"),
    [
        (SocketSession, "_receive", settle_any),
        (Exchange, "end", end_again),
    ],
)
def test_the_client_s_corpus_notices_what_is_wrong(monkeypatch, of, function, wrong):
    """A client that mixes up answers or ends calls twice does not pass."""
    monkeypatch.setattr(of, function, wrong)
    with pytest.raises((AssertionError, DecodeError)):
        played_by("client")
    gc.collect()  # the warnings of what it left are this test's


class Recorded(asyncio.Protocol):
    """Writes down what its transport calls, and acts on what it is told."""

    def __init__(self):
        self.seen = []
        self.gone = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.seen.append("made")

    def data_received(self, data):
        self.seen.append(data)

    def pause_writing(self):
        self.seen.append("pause")

    def resume_writing(self):
        self.seen.append("resume")

    def connection_lost(self, error):
        self.seen.append("lost")
        self.gone.set_result(None)


class RealPeer:
    """A peer on a socket pair."""

    def __init__(self, ours):
        self._socket = ours
        self._read = bytearray()
        self._task = None

    async def send(self, data):
        self._socket.send(data)
        await asyncio.sleep(0.02)  # the other end of a socket: there is no event to wait for

    def stop_reading(self):
        """Nothing is read unless `read` is called."""

    async def read(self, count):
        while len(self._read) < count:
            self._read += await asyncio.get_running_loop().sock_recv(self._socket, 1 << 20)
        return bytes(self._read)


class MemoryPeer:
    """A peer of the transport without a socket."""

    def __init__(self, transport):
        self._transport = transport

    async def send(self, data):
        self._transport.deliver(data)
        await asyncio.sleep(0)

    def stop_reading(self):
        self._transport.stop_reading()

    async def read(self, count):
        self._transport.read()
        assert len(self._transport.written) >= count
        return bytes(self._transport.written)


async def act(protocol, transport, peer, way):
    """Use all that the connection uses of a transport, and end in a way; return what was seen."""
    seen = protocol.seen
    await peer.send(b"one")
    transport.pause_reading()
    transport.pause_reading()
    await peer.send(b"two")
    seen.append("paused")
    transport.resume_reading()
    transport.resume_reading()
    await asyncio.sleep(0.02)
    peer.stop_reading()
    transport.write(b"")
    large = bytes(64 * HIGH_BYTES)
    transport.write(large)
    seen.append("written")
    if way == "abort":
        transport.abort()
    else:
        transport.close()
        transport.close()
    seen.append(transport.is_closing())
    if way == "abort":
        await protocol.gone
    else:
        assert len(await peer.read(len(large))) == len(large)
        await protocol.gone
    transport.resume_reading()
    return [each for each in seen if each != "resume"] if way == "close" else seen


@pytest.mark.parametrize("way", ["close", "abort"])
def test_the_transport_without_a_socket_is_like_one_with(way):
    """Both call the same in the same order, for all that a connection does with its transport."""

    async def real():
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)  # noqa: FBT003 - the system's
        transport, protocol = await loop.connect_accepted_socket(Recorded, theirs)
        with ours:
            return await act(protocol, transport, RealPeer(ours), way)

    async def double():
        protocol = Recorded()
        transport = MemoryTransport(asyncio.get_running_loop(), protocol)
        return await act(protocol, transport, MemoryPeer(transport), way)

    assert asyncio.run(real()) == asyncio.run(double())


def test_a_connection_that_broke_while_it_drains_is_let_alone():
    """Once the peer has sent what is no HTTP/2, nothing more is asked of the library."""
    with ServerHarness() as harness:
        harness(b"\x95----\x7f")
