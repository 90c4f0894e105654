"""The connection to one sidecar: a stream kept open behind a breaker, and the questions sent over it."""

import itertools
import logging
import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
from tickserve.v1 import predictor_pb2 as pb

from strategy_client.events import Reason
from strategy_client.predictor.backoff import NS_PER_MS, Backoff, BackoffOptions
from strategy_client.predictor.breaker import Breaker, BreakerOptions, BreakerState
from strategy_client.predictor.codec import write_request
from strategy_client.predictor.port import Answer, PendingAnswers, Question, Refusal
from strategy_client.predictor.status import describe_error
from strategy_client.predictor.stream import NS_PER_S, PredictSession, StreamedAnswers
from strategy_client.predictor.stub import NOBODY, PredictorStub

NS_PER_US: Final = 1_000
# Probes in a row that time out on a connection which seems to stand. The machine at its other end may be gone
# without a word, and the system would take a quarter of an hour to say so: connect anew.
STUCK_PROBES: Final = 2
# A sidecar that is there but does not say that it is ready is asked again after this pause.
READY_PAUSE_NS: Final = NS_PER_S

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ConnectionOptions:
    """When to stop asking a sidecar that does not answer, and how to come back to it.

    `probe_timeout_ms` bounds one attempt to reach it; attempts run away from the tick path.
    """

    breaker: BreakerOptions = field(default_factory=BreakerOptions)
    backoff: BackoffOptions = field(default_factory=BackoffOptions)
    probe_timeout_ms: float = 1_000.0


@dataclass(frozen=True, slots=True)
class PredictorCounts:
    """What happened to requests since the connection was made.

    `late` answers came after their deadline and were dropped.
    """

    requests: int = 0
    answered: int = 0
    failed: int = 0
    missed: int = 0
    late: int = 0
    streams: int = 0
    breaker_opened: int = 0


class SettledAnswers:
    """Questions that were never sent, and why."""

    __slots__ = ("_answers",)
    request_id = ""
    settled = True

    def __init__(self, answers: Sequence[Answer]) -> None:
        self._answers = answers

    def result(self) -> Sequence[Answer]:
        """Return the refusals."""
        return self._answers


class Connection:
    """Asks over one long-lived stream, and opens another in the background whenever that breaks.

    A `Predictor` and the `Verdicts` of its streams. `uniform` gives the jitter of the pauses, numbers from
    0 to 1. All methods may be called from any thread.
    """

    def __init__(
        self,
        target: str,
        stub: PredictorStub,
        options: ConnectionOptions | None = None,
        uniform: Callable[[], float] = random.random,
    ) -> None:
        self._target = target
        self._stub = stub
        self._options = options or ConnectionOptions()
        self._changed = threading.Condition()
        self._breaker = Breaker(self._options.breaker, Backoff(self._options.backoff, uniform))
        self._pauses = Backoff(self._options.backoff, uniform)
        self._session: PredictSession | None = None
        self._cause = "not connected yet"
        self._probe: Any = None
        self._stuck = 0
        self._ready = False
        self._ready_at_ns = 0
        self._attempt_at_ns = 0
        self._closed = False
        self._counts: Counter[str] = Counter()
        self._ids = itertools.count(1)
        self._id_prefix = uuid.uuid4().hex[:12]
        self._keeper = threading.Thread(target=self._keep, name="tickserve-keeper", daemon=True)
        self._keeper.start()

    def __repr__(self) -> str:
        state = "closed" if self._closed else "connected" if self._session else "connecting"
        return f"<Connection {self._target} {state}, breaker {self._breaker.state.value}>"

    @property
    def counts(self) -> PredictorCounts:
        """A snapshot of the counters."""
        with self._changed:
            return PredictorCounts(**self._counts, breaker_opened=self._breaker.times_opened)

    @property
    def breaker_state(self) -> BreakerState:
        """Whether questions are let through now."""
        return self._breaker.state

    @property
    def connected(self) -> bool:
        """Whether the stream is open now."""
        return self._session is not None

    @property
    def ready(self) -> bool:
        """Whether the sidecar said that it is ready when it was last asked, which was on connecting.

        One that did not is asked again every second.
        """
        return self._ready

    @property
    def cause(self) -> str:
        """Why there is no connection, or what the breaker opened for; means nothing while all is well."""
        return self._cause

    def next_id(self) -> str:
        """Return an id that no other request of any client has."""
        return f"{self._id_prefix}-{next(self._ids)}"

    def submit(self, questions: Sequence[Question], deadline_ns: int) -> PendingAnswers:
        """Send the questions as one request and return at once; see `port.Predictor`."""
        if not questions:
            return SettledAnswers(())
        now_ns = time.monotonic_ns()
        timeout_us = (deadline_ns - now_ns) // NS_PER_US
        if timeout_us < 1:
            return _refuse(questions, Reason.DEADLINE_EXCEEDED, "the deadline passed before the question")
        if self._breaker.state is BreakerState.OPEN:
            return self._refuse_open(questions)
        try:
            request = write_request(self.next_id(), questions, timeout_us)
        except ValueError as error:
            return _refuse(questions, Reason.CONTRACT_MISMATCH, str(error))
        with self._changed:
            session = self._session
            if not self._breaker.admit(now_ns, deadline_ns):
                return self._refuse_open(questions)
            self._count("requests")
        return self._send(session, request, questions, deadline_ns)

    def wait_connected(self, timeout_s: float) -> bool:
        """Wait until the stream is open, at most `timeout_s`; False when it is not, or after `close`."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._session is not None, timeout_s)
            return self._session is not None

    def close(self) -> None:
        """Fail what is on its way and end the stream. May be called twice."""
        with self._changed:
            self._closed = True
            self._cause = "the client is closed"
            session, self._session = self._session, None
            probe = self._probe
            self._changed.notify_all()
        if probe is not None:
            probe.cancel()
        self._keeper.join()
        if session is not None:
            session.close()

    def answered(self) -> None:
        """Take note that a response came in time."""
        with self._changed:
            self._count("answered")
            self._breaker.succeeded()
            self._pauses.reset()

    def failed(self) -> None:
        """Take note that a request could not be sent, or that its call failed."""
        with self._changed:
            self._count("failed")
            self._breaker.failed(time.monotonic_ns())
            self._changed.notify_all()

    def missed(self) -> None:
        """Take note that no response came by the deadline."""
        with self._changed:
            self._count("missed")
            self._breaker.missed(time.monotonic_ns())
            if self._session is not None:
                self._cause = "no answer by the deadline"
            self._changed.notify_all()

    def late(self) -> None:
        """Take note that a response came after its deadline and was dropped."""
        with self._changed:
            self._count("late")

    def _send(
        self,
        session: PredictSession | None,
        request: pb.PredictRequest,
        questions: Sequence[Question],
        deadline_ns: int,
    ) -> PendingAnswers:
        problem = self._cause
        if session is not None:
            pending = StreamedAnswers(request.id, questions, deadline_ns, session, self)
            problem = session.send(request, pending)
            if not problem:
                return pending
        self.failed()
        return _refuse(questions, Reason.UNAVAILABLE, f"{self._target}: {problem}")

    def _refuse_open(self, questions: Sequence[Question]) -> PendingAnswers:
        return _refuse(questions, Reason.BREAKER_OPEN, f"{self._target}: {self._cause}")

    def _count(self, name: str) -> None:
        self._counts[name] += 1

    def _keep(self) -> None:
        # Calls begin outside of the lock, which a tick may want meanwhile: a token is read from a file first.
        while self._wait_for_work():
            problem = self._reach()
            session = None
            if not problem and self._session is None:
                session = PredictSession(self._stub.predict_stream, self, self._stream_ended)
            if self._stuck >= STUCK_PROBES:
                self._connect_anew()
            with self._changed:
                if self._closed and session is not None:
                    session.close()
                if self._closed:
                    return
                now_ns = time.monotonic_ns()
                if problem or session is not None:
                    self._attempt_at_ns = now_ns + self._pauses.next_ns()
                self._ready_at_ns = now_ns + READY_PAUSE_NS
                if problem:
                    self._cause = problem
                    self._breaker.probe_failed(now_ns)
                    continue
                if session is not None:
                    self._session = session
                    session.start()
                    self._count("streams")
                self._breaker.probe_succeeded()
                self._changed.notify_all()

    def _wait_for_work(self) -> bool:
        # Three cases: without a stream the next attempt is due when the pause between attempts is over; with
        # one there is nothing to do until the breaker opens and its probe is due, but to ask a sidecar that
        # was not ready whether it is.
        with self._changed:
            while not self._closed:
                if self._session is None:
                    due_ns: int | None = self._attempt_at_ns
                elif self._breaker.state is BreakerState.OPEN:
                    due_ns = self._breaker.probe_at_ns
                elif not self._ready:
                    due_ns = self._ready_at_ns
                else:
                    due_ns = None
                left_ns = 0 if due_ns is None else due_ns - time.monotonic_ns()
                if due_ns is not None and left_ns <= 0:
                    return True
                self._changed.wait(None if due_ns is None else left_ns / NS_PER_S)
        return False

    def _reach(self) -> str:
        probe = self._stub.describe_models.future(
            pb.DescribeModelsRequest(models=[NOBODY]),
            timeout=self._options.probe_timeout_ms * NS_PER_MS / NS_PER_S,
            wait_for_ready=True,
        )
        with self._changed:
            self._probe = probe
            if self._closed:
                self._probe.cancel()
        try:
            self._ready = probe.result().ready
        except grpc.RpcError as error:
            late = error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            trouble = self._stub.trouble() if late else ""
            self._stuck = self._stuck + 1 if late and not trouble else 0
            return f"not reached: {trouble or describe_error(error)}"
        except grpc.FutureCancelledError:
            return "the client is closed"
        self._stuck = 0
        return ""

    def _connect_anew(self) -> None:
        self._stuck = 0
        with self._changed:
            session, self._session = self._session, None
            self._ready = False
        if session is not None:
            log.warning("%s: %d probes without an answer, connecting anew", self._target, STUCK_PROBES)
            session.close()
        self._stub.reopen()

    def _stream_ended(self, session: PredictSession, cause: str) -> None:
        with self._changed:
            if self._session is session:
                self._session = None
                self._ready = False
                self._cause = cause
                # All clients of a sidecar that died see it at once: without a pause all would return at once.
                self._attempt_at_ns = time.monotonic_ns() + self._pauses.next_ns()
                log.warning("%s: %s", self._target, cause)
            self._changed.notify_all()


def _refuse(questions: Sequence[Question], reason: Reason, detail: str) -> SettledAnswers:
    return SettledAnswers([Refusal(reason, detail)] * len(questions))
