"""One bidirectional stream of grpcio's: requests out, responses matched by id, until it breaks."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Protocol

import grpc
from tickserve.v1 import predictor_pb2 as pb

from strategy_client.predictor.session import (
    ENDED,
    MAX_UNANSWERED,
    MAX_UNSENT,
    NS_PER_S,
    StreamedAnswers,
    Verdicts,
)
from strategy_client.predictor.status import describe_error


class ResponseStream(Protocol):
    """What gRPC gives for an open stream."""

    def __iter__(self) -> Iterator[pb.PredictResponse]:
        """Give responses until the stream ends; grpc.RpcError when it breaks."""
        ...

    def cancel(self) -> bool:
        """End the stream from this side."""
        ...


class PredictSession:
    """The life of one stream of grpcio's, as `session.Session` says it, read by a thread of its own.

    `on_end` and the verdicts are called on that thread.
    """

    def __init__(
        self,
        open_stream: Callable[[Iterator[bytes]], ResponseStream],
        verdicts: Verdicts,
        on_end: Callable[["PredictSession", str], None],
    ) -> None:
        self._verdicts = verdicts
        self._on_end = on_end
        self._lock = threading.Lock()
        self._unanswered: dict[str, StreamedAnswers] = {}
        self._ended = False
        self._woken = threading.Event()
        self._unsent: queue.SimpleQueue[tuple[str, bytes] | None] = queue.SimpleQueue()
        self._responses = open_stream(self._requests())
        self._reader = threading.Thread(target=self._read, name="tickserve-stream", daemon=True)

    def __repr__(self) -> str:
        return f"<PredictSession ended={self._ended} unanswered={len(self._unanswered)}>"

    @property
    def leaving(self) -> bool:
        """Whether another connection is due; grpcio makes one by itself, when this stream has ended."""
        return False

    @property
    def finished(self) -> bool:
        """Whether nobody waits for anything of it any more."""
        return self._ended or not self._unanswered

    def start(self) -> None:
        """Begin to read."""
        self._reader.start()

    def send(self, request: bytes, pending: StreamedAnswers) -> str:
        """Queue a request and return at once: empty when it is on its way, else why it is not."""
        if self._unsent.qsize() >= MAX_UNSENT:
            return f"{MAX_UNSENT} requests wait to be sent already"
        with self._lock:
            if self._ended:
                return ENDED
            if len(self._unanswered) >= MAX_UNANSWERED:
                return f"{MAX_UNANSWERED} requests are unanswered already"
            self._unanswered[pending.request_id] = pending
        self._unsent.put((pending.request_id, request))
        return ""

    def wait(self, pending: StreamedAnswers) -> bool:
        """Wait until it is settled or its deadline has passed; say whether it is."""
        left_ns = pending.deadline_ns - time.monotonic_ns()
        return pending.wait(max(left_ns, 0) / NS_PER_S)

    def look(self) -> None:
        """Do nothing: the reader thread takes what comes."""

    def watch(self, timeout_s: float | None, *, closely: bool) -> None:  # noqa: ARG002 - another thread reads
        """Wait for `wake`, at most so long."""
        self._woken.wait(timeout_s)
        self._woken.clear()

    def wake(self) -> None:
        """Let `watch` return, now or when it is next called."""
        self._woken.set()

    def forget(self, request_id: str) -> bool:
        """Stop waiting for a response; False when it has been taken already."""
        with self._lock:
            return self._unanswered.pop(request_id, None) is not None

    def retire(self) -> None:
        """Ask nothing more."""
        self._unsent.put(None)

    def close(self) -> None:
        """End the stream; what is unanswered fails."""
        self._responses.cancel()
        self._unsent.put(None)
        if self._reader.is_alive() and self._reader is not threading.current_thread():
            self._reader.join()

    def _requests(self) -> Iterator[bytes]:
        while (unsent := self._unsent.get()) is not None:
            request_id, request = unsent
            # A request whose deadline passed in the queue would only cost the sidecar work.
            if request_id in self._unanswered:
                yield request

    def _read(self) -> None:
        cause = "the sidecar ended the stream"
        try:
            for response in self._responses:
                with self._lock:
                    pending = self._unanswered.pop(response.id, None)
                if pending is None:
                    self._verdicts.late()
                else:
                    pending.settle(response)
        except grpc.RpcError as error:
            cause = f"the stream to the sidecar broke: {describe_error(error, connected=True)}"
        with self._lock:
            self._ended = True
            unanswered = list(self._unanswered.values())
            self._unanswered.clear()
        self._unsent.put(None)
        self._on_end(self, cause)
        for pending in unanswered:
            pending.settle(None, cause)
