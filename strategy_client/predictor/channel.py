"""How a target becomes a channel."""

from typing import Final

import grpc

MAX_MESSAGE_BYTES: Final = 64 * 1024 * 1024
RECONNECT_FIRST_MS: Final = 50
RECONNECT_LONGEST_MS: Final = 2_000


class TargetError(ValueError):
    """An address that no sidecar can be reached by; the text says what was expected."""


def check_target(target: str) -> str:
    """Return the target, or raise TargetError unless it is `unix:/path` or `host:port`."""
    if target.startswith("unix:"):
        if target.removeprefix("unix:"):
            return target
    else:
        host, _, port = target.rpartition(":")
        if host and port.isdecimal() and 0 < int(port) <= 65_535:
            return target
    raise TargetError(f"target {target!r}: expected unix:/path or host:port")


def open_channel(target: str) -> grpc.Channel:
    """Open a channel without waiting for a connection; gRPC connects when the first call is made.

    Channels of one process share nothing: the pause that one takes after a failure holds no other up.
    """
    return grpc.insecure_channel(
        check_target(target),
        options=[
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
            ("grpc.initial_reconnect_backoff_ms", RECONNECT_FIRST_MS),
            ("grpc.max_reconnect_backoff_ms", RECONNECT_LONGEST_MS),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.enable_retries", 0),
            ("grpc.enable_http_proxy", 0),
        ],
    )
