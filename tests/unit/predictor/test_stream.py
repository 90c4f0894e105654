"""One stream's bookkeeping, over a stream in memory."""

import queue
import time
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
from tickserve.v1 import predictor_pb2 as pb

from strategy_client.events import Reason
from strategy_client.predictor.port import Question, Refusal
from strategy_client.predictor.session import MAX_UNANSWERED, MAX_UNSENT, StreamedAnswers
from strategy_client.predictor.stream import PredictSession

QUESTIONS = [Question("m", np.ones((1, 1), np.float32))]


class Verdicts:
    """Counts what is reported."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def answered(self) -> None:
        """Count."""
        self.counts["answered"] += 1

    def failed(self) -> None:
        """Count."""
        self.counts["failed"] += 1

    def missed(self) -> None:
        """Count."""
        self.counts["missed"] += 1

    def late(self) -> None:
        """Count."""
        self.counts["late"] += 1


class StreamInMemory:
    """What is sent can be taken from `requests`; what is put into `responses` comes."""

    def __init__(self) -> None:
        self.responses: queue.SimpleQueue[pb.PredictResponse | None] = queue.SimpleQueue()

    def open(self, requests: Iterator[bytes]) -> "StreamInMemory":
        """Be the stream."""
        self.requests = requests
        return self

    def __iter__(self) -> Iterator[pb.PredictResponse]:
        """Give responses until there is None."""
        return iter(self.responses.get, None)

    def cancel(self) -> bool:
        """End."""
        self.responses.put(None)
        return True


class Driven:
    """A session with its stream and all that it reports."""

    def __init__(self) -> None:
        self.stream = StreamInMemory()
        self.verdicts = Verdicts()
        self.ended: list[tuple[str, dict[str, int]]] = []
        self.session = PredictSession(self.stream.open, self.verdicts, self._end)
        self.session.start()

    def _end(self, _session: PredictSession, cause: str) -> None:
        self.ended.append((cause, dict(self.verdicts.counts)))

    def send(self, request_id: str, timeout_s: float = 60.0) -> tuple[StreamedAnswers, str]:
        """Send a question; return what is pending, and the problem if there was one."""
        deadline_ns = time.monotonic_ns() + int(timeout_s * 1e9)
        pending = StreamedAnswers(request_id, QUESTIONS, deadline_ns, self.session, self.verdicts)
        return pending, self.session.send(request_id.encode(), pending)


@pytest.fixture
def driven() -> Iterator[Driven]:
    """Give a session, closed afterwards."""
    it = Driven()
    yield it
    it.session.close()


def test_request_that_nobody_waits_for_is_not_sent(driven: Driven) -> None:
    """E1: a request whose deadline passed in the queue never leaves."""
    expired, _ = driven.send("expired", timeout_s=0.0)
    driven.send("alive")
    (refusal,) = expired.result()
    assert isinstance(refusal, Refusal)
    assert refusal.reason is Reason.DEADLINE_EXCEEDED
    assert driven.verdicts.counts == {"missed": 1}
    assert next(driven.stream.requests) == b"alive"


def test_what_waits_to_be_sent_is_bounded(driven: Driven) -> None:
    """A stream that takes nothing holds no more than the bound; the next one is refused at once."""
    problems = [driven.send(str(index))[1] for index in range(MAX_UNSENT + 1)]
    assert not any(problems[:-1])
    assert problems[-1] == f"{MAX_UNSENT} requests wait to be sent already"


def test_what_is_unanswered_is_bounded(driven: Driven) -> None:
    """A sidecar that takes everything and answers nothing holds no more than the bound."""
    for index in range(MAX_UNANSWERED):
        assert driven.send(str(index))[1] == ""
        next(driven.stream.requests)
    assert driven.send("more")[1] == f"{MAX_UNANSWERED} requests are unanswered already"


def test_end_of_the_stream_ends_everything(driven: Driven) -> None:
    """When the sidecar ends the stream the unanswered fail, and whoever feeds the stream is let go.

    The owner is told before anybody sees a failure, who could ask this stream again otherwise.
    """
    pending, _ = driven.send("unanswered")
    assert next(driven.stream.requests) == b"unanswered"
    driven.stream.responses.put(None)
    (refusal,) = pending.result()
    assert isinstance(refusal, Refusal)
    assert (refusal.reason, refusal.detail) == (Reason.UNAVAILABLE, "the sidecar ended the stream")
    assert list(driven.stream.requests) == []
    assert driven.send("after")[1] == "the stream to the sidecar has ended"
    assert driven.verdicts.counts == {"failed": 1}
    assert driven.ended == [("the sidecar ended the stream", {})]


def error(code: int) -> pb.PredictResponse:
    """Return a response that refuses the whole call."""
    return pb.PredictResponse(id="id", error=pb.PartStatus(code=code, message="told"))


@pytest.mark.parametrize(
    ("response", "left_s", "verdicts", "reason"),
    [
        (pb.PredictResponse(parts=[pb.PartResult()]), 60.0, {"answered": 1}, None),
        (error(13), 60.0, {"failed": 1}, Reason.UNAVAILABLE),
        (error(4), 60.0, {"missed": 1}, Reason.DEADLINE_EXCEEDED),
        (None, 60.0, {"failed": 1}, Reason.UNAVAILABLE),
        (
            pb.PredictResponse(parts=[pb.PartResult()]),
            -1.0,
            {"late": 1, "missed": 1},
            Reason.DEADLINE_EXCEEDED,
        ),
        (error(13), -1.0, {"late": 1, "missed": 1}, Reason.DEADLINE_EXCEEDED),
    ],
    ids=["answered", "failed", "out-of-time", "broken", "late", "late-failure"],
)
def test_each_ending_has_its_verdict(
    driven: Driven,
    response: pb.PredictResponse | None,
    left_s: float,
    verdicts: dict[str, int],
    reason: Reason | None,
) -> None:
    """H3: an answer after its deadline is none, also where it is there before anybody has looked."""
    deadline_ns = time.monotonic_ns() + int(left_s * 1e9)
    pending = StreamedAnswers("id", QUESTIONS, deadline_ns, driven.session, driven.verdicts)
    pending.settle(response, "gone")
    assert pending.settled
    (answer,) = pending.result()
    assert (answer.reason if isinstance(answer, Refusal) else None) is reason
    assert pending.result() == [answer]
    assert driven.verdicts.counts == verdicts
