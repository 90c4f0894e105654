"""One bidirectional stream to the sidecar: requests out, responses matched by id, until it breaks."""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Protocol

import grpc
from tickserve.v1 import predictor_pb2 as pb

from strategy_client.events import Reason
from strategy_client.predictor.codec import read_response
from strategy_client.predictor.port import Answer, Question, Refusal
from strategy_client.predictor.status import describe_error

MAX_UNANSWERED: Final = 4_096
MAX_UNSENT: Final = 1_024
NS_PER_S: Final = 1_000_000_000


class ResponseStream(Protocol):
    """What gRPC gives for an open stream."""

    def __iter__(self) -> Iterator[pb.PredictResponse]:
        """Give responses until the stream ends; grpc.RpcError when it breaks."""
        ...

    def cancel(self) -> bool:
        """End the stream from this side."""
        ...


class Verdicts(Protocol):
    """Who wants to know how questions fared: the breaker, behind its lock."""

    def answered(self) -> None:
        """Take note that a response came in time."""
        ...

    def failed(self) -> None:
        """Take note that the call failed."""
        ...

    def missed(self) -> None:
        """Take note that no response came by the deadline."""
        ...

    def late(self) -> None:
        """Take note that a response came after the deadline and was dropped."""
        ...


class StreamedAnswers:
    """The questions of one request on their way over a stream.

    The reader thread settles it once, with a response or with a cause of failure; the tick thread waits
    for that at a lock which is held until then.
    """

    __slots__ = (
        "_answers",
        "_cause",
        "_in_time",
        "_response",
        "_session",
        "_settled",
        "_verdicts",
        "deadline_ns",
        "questions",
        "request_id",
    )

    def __init__(
        self,
        request_id: str,
        questions: Sequence[Question],
        deadline_ns: int,
        session: "PredictSession",
        verdicts: Verdicts,
    ) -> None:
        self.request_id = request_id
        self.questions = questions
        self.deadline_ns = deadline_ns
        self._session = session
        self._verdicts = verdicts
        self._settled = threading.Lock()
        self._settled.acquire()
        self._in_time = False
        self._response: pb.PredictResponse | None = None
        self._cause = ""
        self._answers: Sequence[Answer] | None = None

    @property
    def settled(self) -> bool:
        """Whether `result` would return at once."""
        if self._answers is not None or not self._settled.locked():
            return True
        return time.monotonic_ns() >= self.deadline_ns

    def settle(self, response: pb.PredictResponse | None, cause: str = "") -> None:
        """Take what came, or why nothing will come. Called once, by the reader thread."""
        self._in_time = time.monotonic_ns() <= self.deadline_ns
        self._response = response
        self._cause = cause
        # Three cases: the stream broke, the call failed in-band, or it was answered. One that came
        # after the deadline is the waiting side's to report: it may have given up already.
        if response is None:
            self._verdicts.failed()
        elif not self._in_time:
            self._verdicts.late()
        elif response.error.code == grpc.StatusCode.DEADLINE_EXCEEDED.value[0]:
            self._verdicts.missed()
        elif response.error.code:
            self._verdicts.failed()
        else:
            self._verdicts.answered()
        self._settled.release()

    def result(self) -> Sequence[Answer]:
        """Return one answer for each question; wait until the deadline, no longer."""
        if self._answers is None:
            self._answers = self._wait()
        return self._answers

    def _wait(self) -> Sequence[Answer]:
        left_ns = self.deadline_ns - time.monotonic_ns()
        if not self._settled.acquire(timeout=max(left_ns, 0) / NS_PER_S):
            if self._session.forget(self.request_id):
                return self._give_up()
            # The reader took it off the list in this very moment and is about to settle it.
            self._settled.acquire()
        if self._response is None:
            return [Refusal(Reason.UNAVAILABLE, self._cause)] * len(self.questions)
        if not self._in_time:
            return self._give_up()
        return read_response(self._response, self.questions)

    def _give_up(self) -> Sequence[Answer]:
        self._verdicts.missed()
        return [Refusal(Reason.DEADLINE_EXCEEDED, "no answer by the deadline")] * len(self.questions)


class PredictSession:
    """The life of one stream. It ends once, and then everything unanswered fails.

    `on_end` is called on the reader thread with the cause, before that: whoever sees such a failure and asks
    again is not sent to this stream any more.
    """

    def __init__(
        self,
        open_stream: Callable[[Iterator[pb.PredictRequest]], ResponseStream],
        verdicts: Verdicts,
        on_end: Callable[["PredictSession", str], None],
    ) -> None:
        self._verdicts = verdicts
        self._on_end = on_end
        self._lock = threading.Lock()
        self._unanswered: dict[str, StreamedAnswers] = {}
        self._ended = False
        self._unsent: queue.SimpleQueue[pb.PredictRequest | None] = queue.SimpleQueue()
        self._responses = open_stream(self._requests())
        self._reader = threading.Thread(target=self._read, name="tickserve-stream", daemon=True)

    def __repr__(self) -> str:
        return f"<PredictSession ended={self._ended} unanswered={len(self._unanswered)}>"

    def start(self) -> None:
        """Begin to read."""
        self._reader.start()

    def send(self, request: pb.PredictRequest, pending: StreamedAnswers) -> str:
        """Queue a request and return at once: empty when it is on its way, else why it is not."""
        if self._unsent.qsize() >= MAX_UNSENT:
            return f"{MAX_UNSENT} requests wait to be sent already"
        with self._lock:
            if self._ended:
                return "the stream to the sidecar has ended"
            if len(self._unanswered) >= MAX_UNANSWERED:
                return f"{MAX_UNANSWERED} requests are unanswered already"
            self._unanswered[request.id] = pending
        self._unsent.put(request)
        return ""

    def forget(self, request_id: str) -> bool:
        """Stop waiting for a response; False when it has been taken already."""
        with self._lock:
            return self._unanswered.pop(request_id, None) is not None

    def close(self) -> None:
        """End the stream; what is unanswered fails."""
        self._responses.cancel()
        self._unsent.put(None)
        if self._reader.is_alive() and self._reader is not threading.current_thread():
            self._reader.join()

    def _requests(self) -> Iterator[pb.PredictRequest]:
        while (request := self._unsent.get()) is not None:
            # A request whose deadline passed in the queue would only cost the sidecar work.
            if request.id in self._unanswered:
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
