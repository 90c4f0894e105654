"""What wakes a thread that waits in poll."""

import contextlib
import os
import threading


class Bell:
    """A descriptor that is readable from `ring` until `silence`. Any thread may do anything."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._closed = False
        self.descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def __repr__(self) -> str:
        return f"<Bell closed={self._closed}>"

    def ring(self) -> None:
        """Wake who waits now, or will; nothing after `close`."""
        with self._lock:
            if not self._closed:
                os.eventfd_write(self.descriptor, 1)

    def silence(self) -> None:
        """Wake nobody any more for what was rung."""
        with self._lock, contextlib.suppress(BlockingIOError):
            if not self._closed:
                os.eventfd_read(self.descriptor)

    def close(self) -> None:
        """Free the descriptor. May be called twice."""
        with self._lock:
            if not self._closed:
                self._closed = True
                os.close(self.descriptor)

    def abandon(self) -> None:
        """Free the descriptor in a process that was forked, whoever had the lock then."""
        self._lock = threading.Lock()
        self.close()
