"""A local socket and the calls over it, moved by whichever thread has something to do with them."""

import contextlib
import functools
import select
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Concatenate, Final, ParamSpec

import grpc

from strategy_client.predictor.h2.bell import Bell
from strategy_client.predictor.h2.exchange import Exchange
from strategy_client.predictor.h2.headers import Ending, Header
from strategy_client.predictor.h2.reader_wait import ReaderWait
from strategy_client.predictor.h2.turns import Awaited, Turns
from strategy_client.predictor.h2.wire import PIECE_BYTES, LostConnectionError, Wire

# How much is read at most before the deadline is minded again, in pieces.
PIECES_A_LOOK: Final = 16
GONE: Final = select.POLLRDHUP | select.POLLHUP | select.POLLERR
# How often `watch` looks whether the reader has left.
READER_LOOK_S: Final = 0.001
# As grpcio says it: `status` knows what it means where there was no connection before.
CLOSED_BY_PEER: Final = "Socket closed"
FORKED: Final = "the connection is that of the process which this one was forked from"
INTERRUPTED: Final = "a thread was interrupted at work on the connection"

_Given = ParamSpec("_Given")


_Act = Callable[Concatenate["SocketConnection", _Given], None]


def _whole(act: _Act[_Given]) -> _Act[_Given]:
    # Done under the lock, and whole: a signal may raise in the middle (Ctrl-C does), with bytes taken that
    # nobody has seen or sent. Nothing that is said on such a connection could be relied on.
    @functools.wraps(act)
    def done(self: "SocketConnection", /, *args: _Given.args, **named: _Given.kwargs) -> None:
        with self._lock:
            try:
                act(self, *args, **named)
            except LostConnectionError:
                raise
            except BaseException:
                self._break_off()
                raise

    return done


class SocketConnection:
    """Calls over one connected socket, which it owns. Any thread may call anything; none starts one.

    A thread that waits for an answer takes the reader's turn, and reads for all (`Turns`); what others have
    to do meanwhile they do at once. Nobody waits with the lock held. Between calls nobody reads but `look`;
    `watch` sees that the peer is gone, and is not woken by what arrives.

    The callbacks of an exchange run under the lock: they must not wait, and must call nothing here but
    `wake`.
    """

    def __init__(self, connected: socket.socket) -> None:
        connected.setblocking(False)  # noqa: FBT003 - the system's
        self._socket = connected
        self._wire = Wire()
        self._lock = threading.Lock()
        self._turns = Turns()
        self._unsent: memoryview | bytes = b""
        self._piece = bytearray(PIECE_BYTES)
        self._view = memoryview(self._piece)
        self._wait = ReaderWait(connected)
        self._bell = Bell()
        self._watches = select.poll()
        self._watches.register(connected, GONE)
        self._watches.register(self._bell.descriptor, select.POLLIN)
        self._told = False
        self._watched = False
        with self._lock:
            self._flush()

    def __repr__(self) -> str:
        return f"<SocketConnection {self._wire!r}>"

    @property
    def cause(self) -> str:
        """Why it is over; empty while it is not."""
        return self._wire.cause

    @property
    def greeted(self) -> bool:
        """Whether the peer was heard to speak HTTP/2."""
        return self._wire.greeted

    @property
    def leaving(self) -> bool:
        """Whether the peer takes no new calls here; those under way are finished."""
        return self._wire.leaving

    @property
    def waiting(self) -> int:
        """How many messages wait to be sent."""
        return self._wire.waiting

    @_whole
    def open(self, exchange: Exchange, headers: Sequence[Header], body: bytes | None = None) -> None:
        """Begin a call, and end its side of it where there is a body; LostConnectionError where it cannot."""
        self._wire.open(exchange, headers, body)
        self._flush()

    @_whole
    def send(self, exchange: Exchange, body: bytes, wanted: Callable[[], bool]) -> None:
        """Send on an open call: at once, or when the peer takes more, if it is still `wanted` then."""
        self._wire.send(exchange, body, wanted, clogged=bool(self._unsent))
        self._flush()

    @_whole
    def half_close(self, exchange: Exchange) -> None:
        """Say that nothing more is asked on this call, unless something waits to be."""
        self._wire.half_close(exchange)
        self._flush()

    @_whole
    def end(self, exchange: Exchange, ending: Ending) -> None:
        """End a call from this side."""
        self._wire.end(exchange, ending)
        self._flush()
        self._settle()
        self._alert()

    def wait(self, awaited: Awaited, deadline_ns: int) -> bool:
        """Wait until this has come, at most until the deadline; say whether it has."""
        try:
            self._take_turn(awaited, deadline_ns)
            while self._turns.mine:
                # Whether to send may change before it waits; then the alarm has been rung.
                self._read(awaited, in_time=self._wait.sleep(deadline_ns, sends=bool(self._unsent)))
        finally:
            if self._turns.mine:
                with self._lock:
                    self._leave_turn()
        return awaited.came

    @_whole
    def look(self) -> None:
        """Take what has come and send what can be sent, without waiting; nothing while another reads."""
        if not self._turns.taken and not self._wire.cause:
            self._pump()

    def watch(self, timeout_s: float, *, arrivals: bool) -> None:
        """Wait until the peer is gone, `wake`, or the time is over; with `arrivals`, or something came.

        Then `look`. For one thread at a time.
        """
        with self._lock:
            if self._wire.cause:
                return
            self._watched = True
            # While another thread reads, what comes is its own to see; it may leave, though.
            if arrivals and self._turns.taken:
                arrivals, timeout_s = False, min(timeout_s, READER_LOOK_S)
            self._watches.modify(self._socket, GONE | select.POLLIN if arrivals else GONE)
        try:
            self._watches.poll(timeout_s * 1_000)
            self._bell.silence()
        finally:
            with self._lock:
                self._watched = False
                self._free()
        self.look()

    def wake(self) -> None:
        """Let `watch` return. May be called with any lock held."""
        self._bell.ring()

    @_whole
    def close(self, cause: str) -> None:
        """End it with all its calls, which are CANCELLED. May be called twice."""
        if not self._wire.cause:
            with contextlib.suppress(OSError):
                self._socket.send(self._unsent or self._wire.farewell())
            self._wire.lose(cause, grpc.StatusCode.CANCELLED)
            self._settle()
            self._alert()

    def abandon(self) -> None:
        """Let go of it in a process that was forked, without a word to anybody."""
        self._lock = threading.Lock()
        self._turns = Turns()
        self._wire.cause = self._wire.cause or FORKED
        self._socket.close()
        self._wait.abandon()
        self._bell.abandon()

    def _take_turn(self, awaited: Awaited, deadline_ns: int) -> None:
        turns = self._turns
        gate: threading.Lock | None = None
        try:
            while True:
                with self._lock:
                    if gate is not None:
                        turns.leave(gate)
                        gate = None
                    left_ns = deadline_ns - time.monotonic_ns()
                    if awaited.came or self._wire.cause or left_ns <= 0:
                        if not turns.taken:
                            turns.hand_over()
                        return
                    if not turns.taken:
                        turns.take()
                        return
                    gate = turns.queue(awaited)
                turns.follow(gate, left_ns)
        finally:
            # An exception took it away from the gate, where it may have been given the turn.
            if gate is not None:
                with self._lock:
                    turns.leave(gate)
                    if not turns.taken:
                        turns.hand_over()

    @_whole
    def _read(self, awaited: Awaited, *, in_time: bool) -> None:
        self._pump()
        if awaited.came or self._wire.cause or not in_time:
            self._leave_turn()

    def _leave_turn(self) -> None:
        self._turns.hand_over()
        self._free()

    def _pump(self) -> None:
        self._take()
        self._flush(reader=True)
        self._settle()

    def _take(self) -> None:
        for _ in range(PIECES_A_LOOK):
            if self._wire.cause or not self._receive():
                break

    def _receive(self) -> bool:
        try:
            size = self._socket.recv_into(self._piece)
        except BlockingIOError:
            return False
        except OSError as error:
            self._wire.lose(error.strerror or str(error))
            return False
        if not size:
            self._wire.lose(CLOSED_BY_PEER)
            return False
        self._wire.receive(self._view[:size])
        return size == PIECE_BYTES

    def _flush(self, *, reader: bool = False) -> None:
        while not self._wire.cause and (unsent := self._unsent or self._wire.output()):
            try:
                sent = self._socket.send(unsent)
            except BlockingIOError:
                self._unsent = unsent
                if not reader:
                    self._alert()
                return
            except OSError as error:
                # What the peer said before it went may lie there still: answers, or why it went.
                self._take()
                self._wire.lose(error.strerror or str(error))
                self._settle()
                return
            self._unsent = memoryview(unsent)[sent:] if sent < len(unsent) else b""

    def _settle(self) -> None:
        self._wire.settle()
        if self._wire.leaving and not self._told:
            self._told = True
            self._bell.ring()
        self._turns.tell()
        if self._wire.cause:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            self._bell.ring()
            self._free()

    def _break_off(self) -> None:
        self._unsent = b""
        self._wire.lose(INTERRUPTED)
        self._settle()
        self._alert()

    def _alert(self) -> None:
        # Whoever waits at the socket looks again: for what to send, or whether to wait at all.
        if self._turns.taken:
            self._wait.alarm()

    def _free(self) -> None:
        # Not while a thread waits with a descriptor that the system would give to the next who opens one.
        if self._wire.cause and not self._watched and not self._turns.taken:
            self._socket.close()
            self._wait.close()
            self._bell.close()
