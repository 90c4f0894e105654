"""Attempts to reach a sidecar, away from the ticks."""

import threading
from typing import Final

import grpc
from tickserve.v1 import predictor_pb2 as pb

from strategy_client.predictor.status import describe_error
from strategy_client.predictor.stub import NOBODY, Stub, UnaryFuture

# Probes in a row that time out on a connection which seems to stand. The machine at its other end may be gone
# without a word, and the system would take a quarter of an hour to say so: connect anew.
STUCK_PROBES: Final = 2


class Probe:
    """Asks a sidecar for nothing, one attempt after the other, on one thread; any other may `cancel`.

    `ready` is what the sidecar said of itself when it was last reached.
    """

    def __init__(self, stub: Stub, timeout_s: float) -> None:
        self._stub = stub
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._attempt: UnaryFuture[pb.DescribeModelsResponse] | None = None
        self._cancelled = False
        self._timed_out = 0
        self.ready = False

    def __repr__(self) -> str:
        return f"<Probe ready={self.ready} timed_out={self._timed_out}>"

    @property
    def stuck(self) -> bool:
        """Whether the connection seems to stand, and is to be given up."""
        return self._timed_out >= STUCK_PROBES

    def reach(self) -> str:
        """Wait until the sidecar answers, at most the timeout; return why it did not, empty when it did."""
        request = pb.DescribeModelsRequest(models=[NOBODY])
        attempt = self._stub.describe_models.future(request, timeout=self._timeout_s, wait_for_ready=True)
        with self._lock:
            self._attempt = attempt
            cancelled = self._cancelled
        if cancelled:
            attempt.cancel()
        try:
            self.ready = attempt.result().ready
        except grpc.RpcError as error:
            late = error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            trouble = self._stub.trouble() if late else ""
            self._timed_out = self._timed_out + 1 if late and not trouble else 0
            return f"not reached: {trouble or describe_error(error)}"
        except (grpc.FutureCancelledError, ValueError):
            return "the client is closed"  # a ValueError is how gRPC says that the channel was
        self._timed_out = 0
        return ""

    def connect_anew(self) -> None:
        """Give the connection up; what is unanswered on it fails."""
        self._timed_out = 0
        self.ready = False
        self._stub.reopen()

    def cancel(self) -> None:
        """End the attempt that is under way, and those that come."""
        with self._lock:
            self._cancelled = True
            attempt = self._attempt
        if attempt is not None:
            attempt.cancel()
