"""What a forked process inherits and must not use: its parent goes on with the very same sockets."""

import os
import weakref
from typing import Final

from strategy_client.predictor.h2.socket_connection import SocketConnection

_inherited: Final[weakref.WeakSet[SocketConnection]] = weakref.WeakSet()


def abandon_in_children(connection: SocketConnection) -> None:
    """Let a child of this process abandon the connection, if it is there still, before anything else."""
    _inherited.add(connection)


def _abandon() -> None:
    for connection in list(_inherited):
        connection.abandon()
    _inherited.clear()


os.register_at_fork(after_in_child=_abandon)
