"""The long-lived PredictStream on a socket, for the threads that ask over it."""

import time
from collections.abc import Callable
from typing import Final

import grpc
from google.protobuf.message import DecodeError
from tickserve.v1 import predictor_pb2 as pb

from strategy_client.predictor.channel import MAX_MESSAGE_BYTES
from strategy_client.predictor.codec import Reply, id_at_sight, read_at_sight
from strategy_client.predictor.h2.exchange import Exchange, MalformedMessageError
from strategy_client.predictor.h2.framing import frame
from strategy_client.predictor.h2.headers import CANCEL, Ending, Header, ending_of_reset
from strategy_client.predictor.h2.socket_connection import SocketConnection
from strategy_client.predictor.session import (
    ENDED,
    MAX_UNANSWERED,
    MAX_UNSENT,
    NS_PER_S,
    StreamedAnswers,
    Verdicts,
)

# A connection that nobody asks over is read this often: a PING is answered, and news of its end is seen.
IDLE_LOOK_S: Final = 1.0
# An answer that nobody waits for at its deadline is taken before that, if it has come: `watch` begins to look
# so long before, halves what is left with each look, and at the last sees what arrives.
MIND_NS: Final = 10_000_000
LAST_NS: Final = 2_000_000


class SocketSession:
    """The life of one stream, as `session.Session` says it; no thread reads it but those that wait."""

    def __init__(
        self,
        connection: SocketConnection,
        headers: list[Header],
        verdicts: Verdicts,
        on_end: Callable[["SocketSession", str], None],
    ) -> None:
        """Open the stream; LostConnectionError where the connection takes no call."""
        self._connection = connection
        self._verdicts = verdicts
        self._on_end = on_end
        self._unanswered: dict[str, StreamedAnswers] = {}
        self._started = False
        self._ended = False
        self._cause = ""
        self._retired = False
        self._unminded = False
        self._exchange = Exchange(self._receive, self._end)
        connection.open(self._exchange, headers)

    def __repr__(self) -> str:
        return f"<SocketSession ended={self._ended} unanswered={len(self._unanswered)}>"

    @property
    def leaving(self) -> bool:
        """Whether another stream is due, on another connection."""
        return self._connection.leaving

    @property
    def finished(self) -> bool:
        """Whether nobody waits for anything of it any more."""
        now_ns = time.monotonic_ns()
        return self._ended or all(each.deadline_ns < now_ns for each in list(self._unanswered.values()))

    def start(self) -> None:
        """Begin to tell of the end, which may have been already."""
        self._started = True
        if self._ended:
            self._on_end(self, self._cause)

    def send(self, request: bytes, pending: StreamedAnswers) -> str:
        """Send a request on this thread: empty when it is on its way, else why it is not."""
        if len(request) > MAX_MESSAGE_BYTES:
            return f"the request has {len(request)} bytes; expected at most {MAX_MESSAGE_BYTES}"
        if self._unanswered:
            self._connection.look()
            if len(self._unanswered) >= MAX_UNANSWERED:
                return f"{MAX_UNANSWERED} requests are unanswered already"
        if self._connection.waiting >= MAX_UNSENT:
            return f"{MAX_UNSENT} requests wait to be sent already"
        if self._ended or self._retired or self._connection.cause:
            return self._connection.cause or ENDED
        request_id = pending.request_id
        self._unanswered[request_id] = pending
        self._connection.send(self._exchange, frame(request), lambda: request_id in self._unanswered)
        if self._unminded:
            self._unminded = False
            self._connection.wake()
        # It may have ended in this moment, and then without this request.
        if self._exchange.ended and self._unanswered.pop(request_id, None) is not None:
            return ENDED
        return ""

    def wait(self, pending: StreamedAnswers) -> bool:
        """Read, on this thread or another that waits, until it is settled or its deadline has passed."""
        return self._connection.wait(pending, pending.deadline_ns)

    def look(self) -> None:
        """Take what has come, without waiting."""
        self._connection.look()

    def watch(self, timeout_s: float | None, *, closely: bool) -> None:
        """Wait until the sidecar is gone, `wake`, or the time is over; `closely`, also for what comes."""
        bound_s = IDLE_LOOK_S if timeout_s is None else min(timeout_s, IDLE_LOOK_S)
        # Said before the look at what is unanswered: who asks in this moment is seen here, or sees it.
        self._unminded = True
        now_ns = time.monotonic_ns()
        unanswered = list(self._unanswered.values())
        left_ns = min((ns for each in unanswered if (ns := each.deadline_ns - now_ns) > 0), default=None)
        if left_ns is not None:
            self._unminded = False
            closely = closely or left_ns <= LAST_NS
            bound_s = min(bound_s, max(left_ns - MIND_NS, left_ns // 2) / NS_PER_S)
        # Until it was heard of first it may be refused as a whole.
        self._connection.watch(bound_s, arrivals=closely or not self._exchange.began)

    def wake(self) -> None:
        """Let `watch` return."""
        self._connection.wake()

    def forget(self, request_id: str) -> bool:
        """Stop waiting for a response; False when it has been taken already."""
        return self._unanswered.pop(request_id, None) is not None

    def retire(self) -> None:
        """Ask nothing more; what is unanswered may be answered still."""
        self._retired = True
        self._connection.half_close(self._exchange)

    def close(self) -> None:
        """End the stream; what is unanswered fails."""
        self._connection.end(self._exchange, ending_of_reset(CANCEL))

    def _receive(self, message: bytes) -> None:
        request_id = id_at_sight(message)
        asked = self._unanswered.get(request_id)
        response: Reply | None = None if asked is None else read_at_sight(message, asked.questions)
        if response is None:
            try:
                response = pb.PredictResponse.FromString(message)
            except DecodeError:
                raise MalformedMessageError("a message that is no PredictResponse") from None
            request_id = response.id
        pending = self._unanswered.pop(request_id, None)
        if pending is None:
            self._verdicts.late()
        else:
            pending.settle(response)

    def _end(self, ending: Ending) -> None:
        self._cause = "the sidecar ended the stream"
        if ending.code is not grpc.StatusCode.OK:
            self._cause = f"the stream to the sidecar broke: {ending.code.name} {ending.details}".rstrip()
        self._ended = True
        if self._started:
            self._on_end(self, self._cause)
        # Whoever waits for one may give it up meanwhile, on another thread.
        for request_id in list(self._unanswered):
            if (pending := self._unanswered.pop(request_id, None)) is not None:
                pending.settle(None, self._cause)
