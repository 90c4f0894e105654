"""What a connection needs of the stream that it asks over, and the questions on their way over it."""

import threading
import time
from collections.abc import Sequence
from typing import Final, Protocol

import grpc

from strategy_client.events import Reason
from strategy_client.predictor.codec import Reply, read_response
from strategy_client.predictor.port import Answer, Question, Refusal

MAX_UNANSWERED: Final = 4_096
MAX_UNSENT: Final = 1_024
NS_PER_S: Final = 1_000_000_000
ENDED: Final = "the stream to the sidecar has ended"
# How long the reader may take for what it has taken off the list; one that was interrupted there never ends.
SETTLING_S: Final = 0.5


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


class Session(Protocol):
    """One long-lived stream. It ends once, and then everything unanswered fails.

    Its owner is told of the end by an `on_end` that it gave, with the cause, after `start` and before any
    question fails: whoever sees such a failure and asks again is not sent to this stream any more. Neither
    that nor the verdicts may wait, or call anything here but `wake`.
    """

    @property
    def leaving(self) -> bool:
        """Whether the sidecar asked for another connection: what is unanswered may be answered still."""
        ...

    @property
    def finished(self) -> bool:
        """Whether nobody waits for anything of it any more."""
        ...

    def start(self) -> None:
        """Begin to read, and to tell of the end."""
        ...

    def send(self, request: bytes, pending: "StreamedAnswers") -> str:
        """Send a request and return at once: empty when it is on its way, else why it is not."""
        ...

    def wait(self, pending: "StreamedAnswers") -> bool:
        """Wait until it is settled or its deadline has passed; say whether it is."""
        ...

    def look(self) -> None:
        """Take what has come, without waiting, where no thread of the session's own does."""
        ...

    def watch(self, timeout_s: float | None, *, closely: bool) -> None:
        """Wait for `wake`, at most so long, and see meanwhile that the sidecar is gone.

        `closely`: take what has come, too, although nobody waits for it. For one thread at a time.
        """
        ...

    def wake(self) -> None:
        """Let `watch` return, now or when it is next called. May be called with any lock held."""
        ...

    def forget(self, request_id: str) -> bool:
        """Stop waiting for a response; False when it has been taken already."""
        ...

    def retire(self) -> None:
        """Ask nothing more; what is unanswered may be answered still."""
        ...

    def close(self) -> None:
        """End the stream; what is unanswered fails."""
        ...


class StreamedAnswers:
    """The questions of one request on their way over a stream.

    Whoever reads settles it once, with a response or with a cause of failure. A session whose reader is
    another thread lets the tick thread `wait` for that, at a lock which is held until then.
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
        session: Session,
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
        self._response: Reply | None = None
        self._cause = ""
        self._answers: Sequence[Answer] | None = None

    @property
    def came(self) -> bool:
        """Whether it is settled by a response, or by a cause of failure."""
        return not self._settled.locked()

    @property
    def settled(self) -> bool:
        """Whether `result` would return at once."""
        if self._answers is not None or self.came or time.monotonic_ns() >= self.deadline_ns:
            return True
        self._session.look()
        return self.came

    def settle(self, response: Reply | None, cause: str = "") -> None:
        """Take what came, or why nothing will come. Called once, by whoever reads."""
        self._in_time = time.monotonic_ns() <= self.deadline_ns
        self._response = response
        self._cause = cause
        # Three cases: the stream broke, the call failed in-band, or it was answered. One that came
        # after the deadline is the waiting side's to report: it may have given up already.
        if response is None:
            self._verdicts.failed()
        elif not self._in_time:
            self._verdicts.late()
        elif isinstance(response, list):
            self._verdicts.answered()
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

    def wait(self, timeout_s: float) -> bool:
        """Wait until it is settled, for so long at most; say whether it is."""
        if settled := self._settled.acquire(timeout=min(timeout_s, threading.TIMEOUT_MAX)):
            self._settled.release()
        return settled

    def _wait(self) -> Sequence[Answer]:
        if not self._session.wait(self):
            if self._session.forget(self.request_id):
                return self._give_up()
            # The reader took it off the list in this very moment and is about to settle it.
            if not self.wait(SETTLING_S):
                return self._give_up()
        if self._response is None:
            return [Refusal(Reason.UNAVAILABLE, self._cause)] * len(self.questions)
        if not self._in_time:
            return self._give_up()
        return read_response(self._response, self.questions)

    def _give_up(self) -> Sequence[Answer]:
        self._verdicts.missed()
        return [Refusal(Reason.DEADLINE_EXCEEDED, "no answer by the deadline")] * len(self.questions)
