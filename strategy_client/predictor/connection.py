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
from typing import Final

import grpc

from strategy_client.events import Reason
from strategy_client.predictor.backoff import NS_PER_MS, Backoff, BackoffOptions
from strategy_client.predictor.breaker import Breaker, BreakerOptions, BreakerState
from strategy_client.predictor.codec import write_request
from strategy_client.predictor.port import PendingAnswers, Question
from strategy_client.predictor.probe import Probe
from strategy_client.predictor.session import NS_PER_S, Session, StreamedAnswers
from strategy_client.predictor.settled_answers import SettledAnswers, refuse
from strategy_client.predictor.status import describe_error
from strategy_client.predictor.stub import Stub

NS_PER_US: Final = 1_000
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


class Connection:
    """Asks over one long-lived stream, and opens another in the background whenever that breaks.

    A `Predictor` and the `Verdicts` of its streams. `uniform` gives the jitter of the pauses, numbers from
    0 to 1. All methods may be called from any thread.
    """

    def __init__(
        self,
        target: str,
        stub: Stub,
        options: ConnectionOptions | None = None,
        uniform: Callable[[], float] = random.random,
    ) -> None:
        self._target = target
        self._stub = stub
        self._options = options or ConnectionOptions()
        # Taken by itself: a signal that raises may come in the middle of Condition's own way to take it, and
        # it would stay taken.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._breaker = Breaker(self._options.breaker, Backoff(self._options.backoff, uniform))
        self._pauses = Backoff(self._options.backoff, uniform)
        self._session: Session | None = None
        self._retired: list[Session] = []
        self._cause = "not connected yet"
        self._probe = Probe(stub, self._options.probe_timeout_ms * NS_PER_MS / NS_PER_S)
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
        """A snapshot of the counters; of what has come until now, whoever waits for it."""
        if (session := self._session) is not None:
            session.look()
        with self._lock:
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
        return self._probe.ready

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
            return refuse(questions, Reason.DEADLINE_EXCEEDED, "the deadline passed before the question")
        if self._breaker.state is BreakerState.OPEN:
            return self._refuse_open(questions)
        request_id = self.next_id()
        try:
            request = write_request(request_id, questions, timeout_us)
        except ValueError as error:
            return refuse(questions, Reason.CONTRACT_MISMATCH, str(error))
        with self._lock:
            session = self._session
            if not self._breaker.admit(now_ns, deadline_ns):
                return self._refuse_open(questions)
            self._count("requests")
        return self._send(session, request_id, request, questions, deadline_ns)

    def wait_connected(self, timeout_s: float) -> bool:
        """Wait until the stream is open, at most `timeout_s`; False when it is not, or after `close`."""
        with self._lock:
            self._changed.wait_for(lambda: self._closed or self._session is not None, timeout_s)
            return self._session is not None

    def close(self) -> None:
        """Fail what is on its way and end the stream. May be called twice."""
        with self._lock:
            self._closed = True
            self._cause = "the client is closed"
            session, self._session = self._session, None
            self._changed.notify_all()
        if session is not None:
            session.wake()
        self._probe.cancel()
        self._keeper.join()
        for each in (session, *self._retired):
            if each is not None:
                each.close()

    def answered(self) -> None:
        """Take note that a response came in time."""
        with self._lock:
            self._count("answered")
            self._breaker.succeeded()
            self._pauses.reset()

    def failed(self) -> None:
        """Take note that a request could not be sent, or that its call failed."""
        with self._lock:
            self._count("failed")
            self._breaker.failed(time.monotonic_ns())
            self._wake_keeper()

    def missed(self) -> None:
        """Take note that no response came by the deadline."""
        with self._lock:
            self._count("missed")
            self._breaker.missed(time.monotonic_ns())
            if self._session is not None:
                self._cause = "no answer by the deadline"
            self._wake_keeper()

    def late(self) -> None:
        """Take note that a response came after its deadline and was dropped."""
        with self._lock:
            self._count("late")

    def _send(
        self,
        session: Session | None,
        request_id: str,
        request: bytes,
        questions: Sequence[Question],
        deadline_ns: int,
    ) -> PendingAnswers:
        problem = self._cause
        if session is not None:
            pending = StreamedAnswers(request_id, questions, deadline_ns, session, self)
            problem = session.send(request, pending)
            if not problem:
                return pending
            # Another stream may have taken its place in this moment.
            session, before = self._session, session
            if session is not None and session is not before:
                return self._send(session, request_id, request, questions, deadline_ns)
        self.failed()
        return refuse(questions, Reason.UNAVAILABLE, f"{self._target}: {problem}")

    def _refuse_open(self, questions: Sequence[Question]) -> PendingAnswers:
        return refuse(questions, Reason.BREAKER_OPEN, f"{self._target}: {self._cause}")

    def _count(self, name: str) -> None:
        self._counts[name] += 1

    def _wake_keeper(self) -> None:
        self._changed.notify_all()
        if self._session is not None:
            self._session.wake()

    def _keep(self) -> None:
        # Calls begin outside of the lock, which a tick may want meanwhile: a token is read from a file first.
        while self._wait_for_work():
            problem = self._probe.reach()
            session = None
            if not problem and self._wants_session():
                session, problem = self._open_session()
            if self._probe.stuck:
                self._connect_anew()
            with self._lock:
                closed = self._closed
                if not closed:
                    self._reached(session, problem)
            if closed:
                if session is not None:
                    session.close()
                return

    def _reached(self, session: Session | None, problem: str) -> None:
        now_ns = time.monotonic_ns()
        if problem or session is not None:
            self._attempt_at_ns = now_ns + self._pauses.next_ns()
        self._ready_at_ns = now_ns + READY_PAUSE_NS
        if problem:
            self._cause = problem
            self._breaker.probe_failed(now_ns)
            return
        if session is not None:
            if self._session is not None:
                self._retired.append(self._session)
            self._session = session
            self._count("streams")
            session.start()
        self._breaker.probe_succeeded()
        self._changed.notify_all()

    def _wants_session(self) -> bool:
        session = self._session
        return session is None or session.leaving

    def _open_session(self) -> tuple[Session | None, str]:
        try:
            return self._stub.open_session(self, self._stream_ended), ""
        except grpc.RpcError as error:
            return None, f"not reached: {describe_error(error)}"
        except ValueError:
            return None, "the client is closed"  # how gRPC says that the channel was, meanwhile

    def _wait_for_work(self) -> bool:
        # Three cases: without a stream, or with one that the sidecar wants to be left, the next attempt is
        # due when the pause between attempts is over; with one there is nothing to do until the breaker
        # opens and its probe is due, but to ask a sidecar that was not ready whether it is.
        while True:
            self._let_go()
            with self._lock:
                if self._closed:
                    return False
                if self._wants_session():
                    due_ns: int | None = self._attempt_at_ns
                elif self._breaker.state is BreakerState.OPEN:
                    due_ns = self._breaker.probe_at_ns
                elif not self._probe.ready:
                    due_ns = self._ready_at_ns
                else:
                    due_ns = None
                left_s = None if due_ns is None else (due_ns - time.monotonic_ns()) / NS_PER_S
                if left_s is not None and left_s <= 0:
                    return True
                session = self._session
                if session is None:
                    self._changed.wait(left_s)
                    continue
                # Nobody may wait for the answer to the trial, which closes the breaker.
                closely = self._breaker.state is BreakerState.HALF_OPEN
            session.watch(left_s, closely=closely)

    def _let_go(self) -> None:
        # Streams that another has taken the place of end when the last question over them has its answer.
        for session in self._retired:
            session.retire()
            session.look()
            if session.finished:
                session.close()
        self._retired = [session for session in self._retired if not session.finished]

    def _connect_anew(self) -> None:
        with self._lock:
            session, self._session = self._session, None
        if session is not None:
            log.warning("%s: no answer to one probe after the other, connecting anew", self._target)
            session.close()
        self._probe.connect_anew()

    def _stream_ended(self, session: Session, cause: str) -> None:
        with self._lock:
            if self._session is session:
                self._session = None
                self._probe.ready = False
                self._cause = cause
                # All clients of a sidecar that died see it at once: without a pause all would return at once.
                self._attempt_at_ns = time.monotonic_ns() + self._pauses.next_ns()
                log.warning("%s: %s", self._target, cause)
            self._changed.notify_all()
        session.wake()
