"""How the reader waits at the socket."""

import select
import socket
import time
from typing import Final

from strategy_client.predictor.h2.bell import Bell
from strategy_client.predictor.h2.turns import NS_PER_S

NS_PER_MS: Final = 1_000_000
# `poll` waits for whole milliseconds, and no longer than some weeks.
LONGEST_POLL_MS: Final = 3_600_000
# What `select` takes, which waits for less; of others is asked as often as this.
MAX_SELECTED: Final = 1_024
NAP_NS: Final = 50_000


class ReaderWait:
    """Waits for a socket and for `alarm`. One thread waits at a time; any may `alarm`."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._alarm = Bell()
        self._reads = select.poll()
        self._reads.register(connected, select.POLLIN)
        self._reads.register(self._alarm.descriptor, select.POLLIN)

    def __repr__(self) -> str:
        return f"<ReaderWait {self._alarm!r}>"

    def sleep(self, deadline_ns: int, *, sends: bool) -> bool:
        """Wait until something came, or may be sent if it `sends`; False when the deadline has passed.

        May return for nothing, never after the deadline. With no lock held.
        """
        left_ns = deadline_ns - time.monotonic_ns()
        if left_ns <= 0:
            return False
        if left_ns < NS_PER_MS:
            reads = (self._socket.fileno(), self._alarm.descriptor)
            if max(reads) >= MAX_SELECTED:
                time.sleep(min(left_ns, NAP_NS) / NS_PER_S)
                return True
            woken, _, _ = select.select(reads, reads[:1] if sends else (), (), left_ns / NS_PER_S)
            if self._alarm.descriptor in woken:
                self._alarm.silence()
            return True
        if sends:
            self._reads.modify(self._socket, select.POLLIN | select.POLLOUT)
        try:
            ready = self._reads.poll(min(left_ns // NS_PER_MS, LONGEST_POLL_MS))
        finally:
            if sends:
                self._reads.modify(self._socket, select.POLLIN)
        if any(descriptor == self._alarm.descriptor for descriptor, _ in ready):
            self._alarm.silence()
        return True

    def alarm(self) -> None:
        """Let the reader look again."""
        self._alarm.ring()

    def close(self) -> None:
        """Free the descriptor. May be called twice."""
        self._alarm.close()

    def abandon(self) -> None:
        """Free it in a process that was forked."""
        self._alarm.abandon()
