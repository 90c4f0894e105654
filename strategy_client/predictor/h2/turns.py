"""Who of several threads waits at the socket, and who waits for that one."""

import threading
from typing import Final, Protocol

NS_PER_S: Final = 1_000_000_000
# A wait at a gate is not longer, and begins anew then: the system's clocks end somewhere.
LONGEST_WAIT_NS: Final = 3_600 * NS_PER_S


class Awaited(Protocol):
    """Something that a thread waits for."""

    @property
    def came(self) -> bool:
        """Whether there is nothing left to wait for."""
        ...


class Turns:
    """The reader's turn. One thread has it and waits at the socket; the others wait here.

    Each of them is let go when what it waits for has come, or when it is to be the reader. The owner holds
    its lock at every call but `follow` and `mine`.
    """

    def __init__(self) -> None:
        self._reader: int | None = None
        self._followers: dict[threading.Lock, Awaited] = {}

    def __repr__(self) -> str:
        return f"<Turns taken={self.taken} followers={len(self._followers)}>"

    @property
    def taken(self) -> bool:
        """Whether there is a reader."""
        return self._reader is not None

    @property
    def mine(self) -> bool:
        """Whether this thread is the reader; asked with or without the lock."""
        return self._reader == threading.get_ident()

    def take(self) -> None:
        """Make this thread the reader."""
        self._reader = threading.get_ident()

    def queue(self, awaited: Awaited) -> threading.Lock:
        """Return a gate to `follow` at."""
        gate = threading.Lock()
        gate.acquire()
        self._followers[gate] = awaited
        return gate

    @staticmethod
    def follow(gate: threading.Lock, left_ns: int) -> None:
        """Wait until the gate is opened, at most so long, or an hour; with no lock held."""
        gate.acquire(timeout=min(max(left_ns, 0), LONGEST_WAIT_NS) / NS_PER_S)

    def leave(self, gate: threading.Lock) -> None:
        """Stop following."""
        self._followers.pop(gate, None)

    def tell(self) -> None:
        """Let go whoever waits for what has come."""
        if self._followers:
            for gate in [gate for gate, awaited in self._followers.items() if awaited.came]:
                del self._followers[gate]
                gate.release()

    def hand_over(self) -> None:
        """Give the turn back, or on, where it was given to one who does not want it any more."""
        self._reader = None
        if self._followers:
            self._followers.popitem()[0].release()
