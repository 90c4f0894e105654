"""What carries the calls to a sidecar: grpcio, or gRPC over a local socket on the caller's own thread."""

import importlib
import importlib.util
import os
import select
from typing import Literal, cast, get_args

from strategy_client.predictor.channel import TargetError, channel_opener, check_target, is_local
from strategy_client.predictor.security import Security, Token
from strategy_client.predictor.stub import PredictorStub, Stub

Transport = Literal["auto", "grpcio", "h2"]
TransportInUse = Literal["grpcio", "h2"]


def check_transport(text: str) -> Transport:
    """Return what was asked for, or raise TargetError, saying what may be."""
    for transport in get_args(Transport):
        if text == transport:
            return cast("Transport", transport)
    raise TargetError(f"transport {text!r}: expected auto, grpcio or h2")


def choose_transport(target: str, security: Security, transport: Transport) -> TransportInUse:
    """Return what carries the calls to a target.

    "auto" takes h2 where it can: in plaintext, on a Unix socket or loopback, with the extra tickserve[fast]
    installed, on Linux. Raises TargetError for h2 where it cannot, saying why, and for other addresses than
    there are.
    """
    check_target(target)
    if check_transport(transport) == "grpcio":
        return "grpcio"
    problem = _problem(target, security)
    if transport == "h2" and problem:
        raise TargetError(f"{target}: no transport h2, {problem}; expected transport auto or grpcio")
    return "grpcio" if problem else "h2"


def open_stub(target: str, security: Security, transport: TransportInUse) -> Stub:
    """Return the sidecar's methods over a transport, which connects when the first is called.

    Raises SecurityError for files that cannot be used, and where a token would leave this machine in
    plaintext.
    """
    if transport == "grpcio":
        return PredictorStub(channel_opener(target, security))
    from strategy_client.predictor.h2.stub import SocketStub  # noqa: PLC0415 - needs the extra `fast`

    security.credentials()  # certificates that cannot be used are refused where they are not needed, too
    token = None if security.token_file is None else Token(security.token_file)
    return SocketStub(target, lambda: () if token is None else (token.metadata(),))


def _problem(target: str, security: Security) -> str:
    if not is_local(target):
        return "which is for Unix sockets and loopback"
    if security.ca is not None and not target.startswith("unix:"):
        return "which has no TLS"
    if importlib.util.find_spec("ngh2") is None:
        return "which needs the extra tickserve[fast]"
    if not (hasattr(select, "POLLRDHUP") and hasattr(os, "eventfd")):
        return "which needs Linux"
    try:
        importlib.import_module("strategy_client.predictor.h2.stub")
    # Another version of the library, or one that was built for another machine.
    except (ImportError, AttributeError) as error:
        return f"for which tickserve[fast] is to be installed anew: {error}"
    return ""
