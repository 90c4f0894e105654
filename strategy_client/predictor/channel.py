"""How a target becomes a channel."""

import ipaddress
from collections.abc import Callable
from typing import Final

import grpc

from strategy_client.predictor.security import Security, SecurityError, Token, TokenSender

MAX_MESSAGE_BYTES: Final = 64 * 1024 * 1024
RECONNECT_FIRST_MS: Final = 50
RECONNECT_LONGEST_MS: Final = 2_000


OPTIONS: Final = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.initial_reconnect_backoff_ms", RECONNECT_FIRST_MS),
    ("grpc.max_reconnect_backoff_ms", RECONNECT_LONGEST_MS),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
)


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


def channel_opener(target: str, security: Security) -> Callable[[], grpc.Channel]:
    """Return what opens a channel without waiting for a connection, again and again.

    gRPC connects when the first call is made. Channels of one process share nothing: the pause that one
    takes after a failure holds no other up. Raises SecurityError for files that cannot be used, which are
    read here, and where a token would leave this machine in plaintext.
    """
    check_target(target)
    credentials = security.credentials()
    if credentials is None or target.startswith("unix:"):
        if security.token_file is not None and not is_local(target):
            raise SecurityError(f"{target}: the token would be sent in plaintext; expected a ca, for TLS")
        credentials = None
    sender = None if security.token_file is None else TokenSender(Token(security.token_file))

    def open_channel() -> grpc.Channel:
        if credentials is None:
            channel = grpc.insecure_channel(target, OPTIONS)
        else:
            channel = grpc.secure_channel(target, credentials, OPTIONS)
        return channel if sender is None else grpc.intercept_channel(channel, sender)

    return open_channel


def is_local(target: str) -> bool:
    """Say whether a target is on this machine: a Unix socket, or loopback."""
    host = target.rpartition(":")[0].strip("[]")
    if target.startswith("unix:") or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
