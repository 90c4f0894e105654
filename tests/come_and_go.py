"""Open and close 200 clients of a sidecar, alone in a process; exit 1 if a thread or descriptor is left.

python tests/come_and_go.py TARGET TRANSPORT
"""

import sys
import threading
import time

import numpy as np
import psutil

from strategy_client.events import Reason
from strategy_client.predictor.client import InferenceClient
from strategy_client.predictor.port import Question, Refusal
from strategy_client.predictor.transport import Transport, check_transport

ROUNDS = 50
SETTLING_S = 3.0
PATIENCE_S = 60.0
# Held, so that it is `close` that frees what they have, and not the garbage collector.
KEPT: list[InferenceClient] = []
QUESTION = Question("es_momentum", np.ones((1, 3), np.float32))


def in_use() -> tuple[int, int]:
    """Return how many file descriptors and threads this process has."""
    process = psutil.Process()
    return process.num_fds(), process.num_threads()


def come_and_go(target: str, transport: Transport) -> None:
    """Close a client while it connects, one that is connected, one with a question out, one of no sidecar."""
    connecting = InferenceClient(target, transport=transport)
    connecting.close()
    with InferenceClient(target, transport=transport) as connected:
        connected.wait_ready(60.0)
    with InferenceClient(target, transport=transport) as asking:
        asking.wait_ready(60.0)
        pending = asking.submit([QUESTION], time.monotonic_ns() + 6 * 10**10)
    (answer,) = pending.result()
    assert not isinstance(answer, Refusal) or answer.reason is Reason.UNAVAILABLE
    with InferenceClient("unix:/tmp/no-such-sidecar", transport=transport) as nobody:
        nobody.submit([QUESTION], time.monotonic_ns() + 10**7).result()
    KEPT.extend((connecting, connected, asking, nobody))


def lowest(within_s: float) -> tuple[int, int]:
    """Return the fewest of each within that time: what stays once gRPC has let go of the rest."""
    end_s = time.monotonic() + within_s
    seen = [in_use()]
    while time.monotonic() < end_s:
        threading.Event().wait(0.02)
        seen.append(in_use())
    return min(fds for fds, _ in seen), min(threads for _, threads in seen)


def main() -> None:
    """Compare after 200 clients with after 12."""
    target, transport = sys.argv[1], check_transport(sys.argv[2])
    for _ in range(3):
        come_and_go(target, transport)
    before = lowest(SETTLING_S)
    for _ in range(ROUNDS):
        come_and_go(target, transport)
    end_s = time.monotonic() + PATIENCE_S
    while (now := in_use())[0] > before[0] or now[1] > before[1]:
        if time.monotonic() > end_s:
            sys.exit(f"descriptors and threads: {before} after 12 clients, {now} after {4 * ROUNDS} more")
        threading.Event().wait(0.02)


if __name__ == "__main__":
    main()
