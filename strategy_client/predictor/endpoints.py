"""Several sidecars that serve the same models, asked as one: the first, by preference, that is well."""

import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from types import TracebackType
from typing import Final, Self

from numpy.typing import ArrayLike

from strategy_client.events import Reason
from strategy_client.predictor.breaker import BreakerState
from strategy_client.predictor.channel import TargetError
from strategy_client.predictor.client import READY_POLL_S, InferenceClient, what_is_not_ready
from strategy_client.predictor.connection import ConnectionOptions, PredictorCounts
from strategy_client.predictor.description import Description
from strategy_client.predictor.port import PendingAnswers, Prediction, Question, Refusal
from strategy_client.predictor.preference import Health, Preference
from strategy_client.predictor.routed_answers import RoutedAnswers, not_answered
from strategy_client.predictor.security import Security
from strategy_client.predictor.settled_answers import SettledAnswers
from strategy_client.predictor.status import InferenceError, SidecarUnavailableError, UnauthenticatedError
from strategy_client.predictor.stub import NOBODY, TROUBLE_TIMEOUT_S
from strategy_client.predictor.transport import Transport, TransportInUse

# At the start another target's readiness is not taken before the preferred one had this time.
PREFERRED_FIRST_S: Final = 0.5
# One that dies as it is asked what it serves is waited for so long, or as long as all before that took.
DESCRIBE_FIRST_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class EndpointState:
    """One target: whether questions would go there now, and why not."""

    target: str
    connected: bool
    ready: bool
    breaker: BreakerState
    cause: str
    in_use: bool
    transport: TransportInUse


class Endpoints:
    """Sidecars that serve the same models, in order of preference; a `Predictor` like one `InferenceClient`.

    A request goes to the first target that is connected, ready and has its breaker closed. One that could not
    be sent, or whose connection broke, goes to the next such target at once, within the same deadline; a
    deadline missed is not asked again. A target whose breaker is half-open gets its trial beside a tick that
    another answers, as a copy whose answer nobody uses, so that no tick pays for it. The preferred target is
    taken back as soon as it is well; `preference` says what keeps that from flapping. Where none is well,
    each is asked in turn as a single client would be, and the refusal says what is wrong with each.

    Contract hashes travel with the questions: a target that serves another contract answers
    CONTRACT_MISMATCH, and `describe` tells of the target in use, so that strategies are bound anew.

    Use it as a context manager or call `close`. `submit` is for one thread at a time; all else may be called
    from any. Raises TargetError for no target, one that stands twice or is no address, SecurityError as
    InferenceClient does.
    """

    def __init__(
        self,
        targets: Sequence[str],
        options: ConnectionOptions | None = None,
        uniform: Callable[[], float] = random.random,
        security: Security | None = None,
        transport: Transport = "auto",
    ) -> None:
        if not targets or len(set(targets)) < len(targets):
            raise TargetError(f"targets {', '.join(targets) or 'none'}: expected at least one, each once")
        self.targets = tuple(targets)
        self._preference = Preference(len(self.targets), uniform)
        self._trials: dict[int, PendingAnswers] = {}
        self._closed = threading.Event()
        clients: list[InferenceClient] = []
        try:
            clients.extend(
                InferenceClient(target, options, uniform, security, transport) for target in self.targets
            )
        except BaseException:
            for client in clients:
                client.close()
            raise
        self._clients = tuple(clients)

    def __repr__(self) -> str:
        return f"<Endpoints {', '.join(map(repr, self._clients))}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def clients(self) -> tuple[InferenceClient, ...]:
        """The client of each target, for questions to one of them; they belong to this object."""
        return self._clients

    @property
    def counts(self) -> PredictorCounts:
        """What happened to the requests of `submit`, summed over the targets, trials included."""
        each = [client.counts for client in self._clients]
        return PredictorCounts(
            **{name.name: sum(getattr(one, name.name) for one in each) for name in fields(PredictorCounts)}
        )

    @property
    def counts_by_target(self) -> Mapping[str, PredictorCounts]:
        """The same for each target."""
        return {client.target: client.counts for client in self._clients}

    @property
    def states(self) -> tuple[EndpointState, ...]:
        """How each target is now, in order of preference."""
        in_use = self._in_use()
        return tuple(
            EndpointState(
                target=client.target,
                connected=client.connected,
                ready=client.ready,
                breaker=client.breaker_state,
                cause="" if _health(client) is Health.WELL else client.cause,
                in_use=client is in_use,
                transport=client.transport,
            )
            for client in self._clients
        )

    def submit(self, questions: Sequence[Question], deadline_ns: int) -> PendingAnswers:
        """Send the questions as one request and return at once; see `port.Predictor`."""
        self._finish_trials()
        order = self._order()
        refusals: list[Refusal] = []
        for place, number in enumerate(order):
            pending = self._clients[number].submit(questions, deadline_ns)
            refusal = not_answered(pending.result()) if not pending.request_id else None
            if refusal is None:
                self._try_half_open(number, questions, deadline_ns)
                again = partial(self._submit_next, order[place + 1 :], questions, deadline_ns)
                return RoutedAnswers(pending, again)
            refusals.append(refusal)
        told = "; ".join(dict.fromkeys(refusal.detail for refusal in refusals))
        return SettledAnswers([Refusal(refusals[0].reason, told)] * len(questions))

    def predict(
        self, model: str, rows: ArrayLike, version: int = 0, contract_hash: str = "", timeout_s: float = 1.0
    ) -> Prediction:
        """Ask one model of the target in use, no other, and wait; see `InferenceClient.predict`."""
        client = self._in_use() or self._clients[0]
        return client.predict(model, rows, version, contract_hash, timeout_s)

    def describe(self, models: Sequence[str] = (), timeout_s: float = 5.0) -> Description:
        """Return what the target in use serves; where none is in use, what the first that answers does.

        Raises InferenceError, of the preferred target's kind and with what each said, when none answers.
        """
        give_up_s = time.monotonic() + timeout_s
        while self._in_use() is None and time.monotonic() < give_up_s - timeout_s / 2:
            if self._closed.wait(READY_POLL_S):
                break
        in_use = self._in_use()
        clients = sorted(self._clients, key=lambda client: client is not in_use)
        errors: list[InferenceError] = []
        for asked, client in enumerate(clients):
            share_s = (give_up_s - time.monotonic()) / (len(clients) - asked)
            try:
                return client.describe(models, max(share_s, READY_POLL_S))
            except InferenceError as error:
                errors.append(error)
        raise type(errors[0])(errors[0].reason, "; ".join(map(str, errors)))

    def wait_ready(self, timeout_s: float = 10.0) -> Description:
        """Wait until a target says that it is ready and the stream to it is open; the preferred one first.

        Returns what that one serves. Raises SidecarUnavailableError, naming what is wrong with each, at the
        timeout; UnauthenticatedError where every target says so.
        """
        began_s = time.monotonic()
        problems = dict.fromkeys(self.targets, "")
        while (spent_s := time.monotonic() - began_s) < timeout_s and not self._closed.is_set():
            in_use = self._in_use()
            if in_use is None:
                self._raise_unauthenticated()
            elif in_use is self._clients[0] or spent_s >= PREFERRED_FIRST_S:
                attempt_s = min(timeout_s - spent_s, max(spent_s, DESCRIBE_FIRST_S))
                try:
                    description = in_use.describe(timeout_s=max(attempt_s, READY_POLL_S))
                except InferenceError as error:
                    problems[in_use.target] = str(error)
                else:
                    if description.ready:
                        return description
                    problems[in_use.target] = f"{in_use.target}: {what_is_not_ready(description)}"
            self._closed.wait(READY_POLL_S)
        told = "; ".join(
            problems[client.target] or f"{client.target}: {client.cause}" for client in self._clients
        )
        raise SidecarUnavailableError(Reason.UNAVAILABLE, f"no target is ready after {timeout_s:g} s: {told}")

    def wait_connected(self, timeout_s: float = 10.0) -> bool:
        """Wait until the stream to any target is open; False when none is after `timeout_s`."""
        give_up_s = time.monotonic() + timeout_s
        while not (connected := any(client.connected for client in self._clients)):
            if time.monotonic() >= give_up_s or self._closed.wait(READY_POLL_S):
                break
        return connected

    def close(self) -> None:
        """Drop what is on its way and free the connections. May be called twice."""
        self._closed.set()
        for client in self._clients:
            client.close()

    def _submit_next(
        self, untried: list[int], questions: Sequence[Question], deadline_ns: int
    ) -> PendingAnswers | None:
        while untried:
            client = self._clients[untried.pop(0)]
            if _health(client) is Health.OUT:
                continue
            pending = client.submit(questions, deadline_ns)
            if pending.request_id:
                return pending
        return None

    def _order(self) -> list[int]:
        return self._preference.order(list(map(_health, self._clients)), time.monotonic_ns())

    def _in_use(self) -> InferenceClient | None:
        number = self._preference.first(list(map(_health, self._clients)), time.monotonic_ns())
        return None if number is None else self._clients[number]

    def _try_half_open(self, taken: int, questions: Sequence[Question], deadline_ns: int) -> None:
        for number, client in enumerate(self._clients):
            if number != taken and client.connected and client.breaker_state is BreakerState.HALF_OPEN:
                trial = client.submit(questions, deadline_ns)
                if trial.request_id:
                    self._trials[number] = trial

    def _finish_trials(self) -> None:
        # Nobody waits for a trial: one whose deadline passed is told to its breaker with the next request.
        for number, trial in list(self._trials.items()):
            if trial.settled:
                trial.result()
                del self._trials[number]

    def _raise_unauthenticated(self) -> None:
        errors: list[str] = []
        for client in self._clients:
            try:
                client.describe([NOBODY], TROUBLE_TIMEOUT_S)
            except UnauthenticatedError as error:
                errors.append(str(error))
            except InferenceError:
                return
        if len(errors) == len(self._clients):
            raise UnauthenticatedError(Reason.UNAVAILABLE, "; ".join(errors))


def _health(client: InferenceClient) -> Health:
    if not client.connected or client.breaker_state is not BreakerState.CLOSED:
        return Health.OUT
    return Health.WELL if client.ready else Health.NOT_READY
