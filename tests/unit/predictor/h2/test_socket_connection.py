"""A connection whose threads are interrupted, or have many files open."""

import contextlib
import os
import resource
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from eventually import until

from strategy_client.predictor.h2.exchange import Exchange
from strategy_client.predictor.h2.headers import Ending, request_headers
from strategy_client.predictor.h2.reader_wait import MAX_SELECTED
from strategy_client.predictor.h2.socket_connection import INTERRUPTED, SocketConnection
from strategy_client.predictor.h2.turns import Turns
from strategy_client.predictor.h2.wire import Wire

PATIENT_S = 20.0
PATIENT_NS = int(PATIENT_S * 1e9)
# The header of an empty SETTINGS.
GREETING = b"\0\0\0\4\0\0\0\0\0"
# GOAWAY without an error; every call that began is finished.
GOING_AWAY = b"\0\0\x08\7\0\0\0\0\0" + b"\x7f\xff\xff\xff" + b"\0\0\0\0"


@dataclass
class Thing:
    """Something to wait for."""

    came: bool = False


Ends = tuple[SocketConnection, socket.socket]


@pytest.fixture
def ends() -> Iterator[Ends]:
    """Connect; give the connection, and the socket of its peer."""
    near, far = socket.socketpair()
    connection = SocketConnection(near)
    with far:
        yield connection, far
        connection.close("the test is over")


def interrupt(*_: object) -> None:
    """Do as Ctrl-C does."""
    raise KeyboardInterrupt


def test_an_interrupted_reader_leaves_no_half_read_connection(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the middle of an answer ends the connection with its calls: some of it is lost."""
    connection, peer = ends
    endings: list[Ending] = []
    exchange = Exchange(lambda _: None, endings.append)
    connection.open(exchange, request_headers(b"/a", b"b", None, ()))
    monkeypatch.setattr(Wire, "receive", interrupt)
    peer.sendall(GREETING)
    with pytest.raises(KeyboardInterrupt):
        connection.wait(Thing(), time.monotonic_ns() + PATIENT_NS)
    assert (connection.cause, exchange.ended) == (INTERRUPTED, True)
    assert [ending.details for ending in endings] == [INTERRUPTED]


def test_an_interrupted_sender_leaves_no_half_sent_connection(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while a question is sent ends the connection: some of it may be gone already."""
    connection, _ = ends
    monkeypatch.setattr(Wire, "output", interrupt)
    with pytest.raises(KeyboardInterrupt):
        connection.open(Exchange(lambda _: None, lambda _: None), request_headers(b"/a", b"b", None, ()))
    assert connection.cause == INTERRUPTED


def test_an_interrupted_follower_is_not_given_the_turn(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    """The turn goes to one who still waits, not to one whom an exception took away."""
    connection, peer = ends
    reading = threading.Thread(target=connection.wait, args=(Thing(), time.monotonic_ns() + 5 * 10**8))
    reading.start()
    until(lambda: "taken=True" in repr(connection._turns))
    greeted: list[bool] = []

    class Greeting:
        @property
        def came(self) -> bool:
            return connection.greeted

    deadline_ns = time.monotonic_ns() + PATIENT_NS
    stays = threading.Thread(target=lambda: greeted.append(connection.wait(Greeting(), deadline_ns)))
    stays.start()
    until(lambda: "followers=1" in repr(connection._turns))
    with monkeypatch.context() as patch:
        patch.setattr(Turns, "follow", interrupt)
        with pytest.raises(KeyboardInterrupt):
            connection.wait(Thing(), deadline_ns)
    reading.join(PATIENT_S)
    peer.sendall(GREETING)
    stays.join(PATIENT_S / 2)
    assert greeted == [True]


def test_a_wait_may_be_longer_than_the_system_waits(ends: Ends) -> None:
    """A deadline in a month, or beyond every clock, is waited for, by the reader and by others."""
    connection, peer = ends
    greeted: list[bool] = []

    class Greeting:
        @property
        def came(self) -> bool:
            return connection.greeted

    threads = [
        threading.Thread(target=lambda: greeted.append(connection.wait(Greeting(), 2**70))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    until(lambda: "taken=True followers=1" in repr(connection._turns))
    peer.sendall(GREETING)
    for thread in threads:
        thread.join(PATIENT_S)
    assert greeted == [True, True]


def test_a_connection_above_what_select_takes_keeps_short_deadlines() -> None:
    """With more than 1,024 files open a wait of less than a millisecond is kept, and what comes is read."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limits[1] < MAX_SELECTED + 100:
        pytest.skip("the system gives this process too few files")
    with contextlib.ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        resource.setrlimit(resource.RLIMIT_NOFILE, (MAX_SELECTED + 100, limits[1]))
        while True:
            descriptor = os.open(os.devnull, os.O_RDONLY)
            stack.callback(os.close, descriptor)
            if descriptor >= MAX_SELECTED:
                break
        near, far = socket.socketpair()
        stack.callback(far.close)
        high = SocketConnection(near)
        stack.callback(high.close, "the test is over")
        deadline_ns = time.monotonic_ns() + 900_000
        assert not high.wait(Thing(), deadline_ns)
        assert time.monotonic_ns() >= deadline_ns
        far.sendall(GREETING)
        high.wait(Thing(), time.monotonic_ns() + 900_000)
        assert high.greeted


def test_what_the_peer_said_before_it_went_is_read(ends: Ends) -> None:
    """A call that finds the peer gone takes first what lies there still: answers, or why it went."""
    connection, peer = ends
    peer.sendall(GREETING)
    peer.close()
    exchange = Exchange(lambda _: None, lambda _: None)
    connection.open(exchange, request_headers(b"/a", b"b", None, ()))
    assert connection.greeted
    assert (exchange.ended, connection.cause != "") == (True, True)


@pytest.mark.parametrize("arrivals", [True, False])
def test_who_watches_is_told_of_what_another_thread_reads(ends: Ends, arrivals: bool) -> None:
    """A peer that is leaving ends the watch, whoever takes the news off the socket."""
    connection, peer = ends
    watched = threading.Event()

    def watch() -> None:
        connection.watch(PATIENT_S, arrivals=arrivals)
        watched.set()

    # A call that goes on: the connection stays.
    call = Exchange(lambda _: None, lambda _: None)
    connection.open(call, request_headers(b"/a", b"b", None, ()))
    threading.Thread(target=watch).start()
    until(lambda: connection._watched)
    peer.sendall(GREETING + GOING_AWAY)
    until(lambda: connection.look() or connection.leaving)
    assert watched.wait(PATIENT_S / 2)
    assert (connection.cause, call.ended) == ("", False)


def test_who_watches_for_arrivals_takes_them(ends: Ends) -> None:
    """What comes while nobody else reads is taken by the one that watches for it, at once."""
    connection, peer = ends
    peer.sendall(GREETING)
    began_s = time.monotonic()
    connection.watch(PATIENT_S, arrivals=True)
    assert time.monotonic() - began_s < PATIENT_S / 2
    assert connection.greeted


def test_who_watches_for_the_end_is_not_woken_by_arrivals(ends: Ends) -> None:
    """What comes is left to those who wait for it; the watch ends with its time and takes it then."""
    connection, peer = ends
    peer.sendall(GREETING)
    began_s = time.monotonic()
    connection.watch(0.05, arrivals=False)
    assert time.monotonic() - began_s >= 0.05
    assert connection.greeted
