"""One row through `tritonclient` over gRPC: ours beside a bare echo of our messages, MLServer and KServe.

All are asked by the same client, one call at a time, over TCP on loopback; ours over its Unix socket too.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
import tritonclient.grpc as triton
from bench import Effort
from finding import Finding, Line, compare
from interleaved import Subject, interleave
from v2_servers import ECHO, INPUT, MODEL, OURS, PEERS, WIDTH, echo_of, ours, running

CALLS: Final = 400
UNIX: Final = "ours, Unix socket"


def told(server: str) -> str:
    """Return what the line of a server says."""
    return f"one row, tritonclient: {server}"


@contextlib.contextmanager
def row_call(address: str) -> Iterator[Callable[[], Any]]:
    """Give a function that asks for one row and waits for the answer."""
    with triton.InferenceServerClient(address) as client:
        row = triton.InferInput(INPUT, [1, WIDTH], "FP32")
        row.set_data_from_numpy(np.full((1, WIDTH), 1e-4, dtype=np.float32))
        yield lambda: client.infer(MODEL, [row])


def measure(effort: Effort) -> Finding:
    """Measure calls of one row."""
    peers = [peer for peer in PEERS if not peer.missing]
    with contextlib.ExitStack() as stack:
        sidecar = stack.enter_context(ours())
        addresses = {OURS: sidecar.address, UNIX: sidecar.unix}
        addresses[ECHO] = stack.enter_context(echo_of(sidecar)).address
        for peer in peers:
            addresses[str(peer)] = stack.enter_context(running(peer)).address
        subjects = [
            Subject(told(name), stack.enter_context(row_call(address)), effort.calls(CALLS))
            for name, address in addresses.items()
        ]
        series = interleave(subjects, effort.rounds)
    floor = told(ECHO)
    lines: list[Line] = [
        compare(told(OURS), series, floor, bound=1.2),
        compare(told(UNIX), series, floor),
    ]
    for peer in peers:
        bound = 0.6 if peer.package == "mlserver" else None
        lines += [
            compare(told(OURS), series, told(str(peer)), bound=bound),
            compare(told(str(peer)), series, floor),
        ]
    versions = sorted({peer.version for peer in peers})
    notes = [f"peers: {', '.join(versions)}"] if versions else []
    return Finding(
        "one_row",
        "One row through tritonclient",
        lines,
        notes=[*notes, *(peer.missing for peer in PEERS if peer.missing)],
    )
