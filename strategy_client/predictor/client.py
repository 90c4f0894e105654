"""The client of one sidecar: a predictor for the runner, and a friendly API for people."""

import random
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Final, Self

import grpc
import numpy as np
from numpy.typing import ArrayLike
from tickserve.v1 import predictor_pb2 as pb

from strategy_client.events import Reason
from strategy_client.predictor.breaker import BreakerState
from strategy_client.predictor.codec import read_description, read_response, write_request
from strategy_client.predictor.connection import NS_PER_US, Connection, ConnectionOptions, PredictorCounts
from strategy_client.predictor.description import Description
from strategy_client.predictor.port import PendingAnswers, Prediction, Question, Refusal
from strategy_client.predictor.security import Security
from strategy_client.predictor.session import NS_PER_S
from strategy_client.predictor.status import (
    InferenceError,
    SidecarUnavailableError,
    UnauthenticatedError,
    error_of,
    meaning_of,
)
from strategy_client.predictor.transport import Transport, TransportInUse, choose_transport, open_stub

READY_POLL_S: Final = 0.02
ROWS_RANK: Final = 2


class InferenceClient:
    """A sidecar at `unix:/path` or `host:port`; connects in the background, and again whenever it must.

    Use it as a context manager or call `close`. All methods may be called from any thread. `uniform` gives
    the jitter of the pauses between attempts, numbers from 0 to 1. `transport` says what carries the calls;
    see `transport.choose_transport`. Raises TargetError for an address of another form, or one that the
    transport cannot reach, SecurityError for certificates or a token that cannot be used; a sidecar that is
    not there is no error here.
    """

    def __init__(
        self,
        target: str,
        options: ConnectionOptions | None = None,
        uniform: Callable[[], float] = random.random,
        security: Security | None = None,
        transport: Transport = "auto",
    ) -> None:
        self.target = target
        security = security or Security()
        self._transport = choose_transport(target, security, transport)
        self._stub = open_stub(target, security, self._transport)
        self._connection = Connection(target, self._stub, options, uniform)
        self._closed = threading.Event()

    def __repr__(self) -> str:
        return f"<InferenceClient over {self._connection!r}>"

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
    def transport(self) -> TransportInUse:
        """What carries the calls."""
        return self._transport

    @property
    def counts(self) -> PredictorCounts:
        """What happened to the requests of `submit`."""
        return self._connection.counts

    @property
    def breaker_state(self) -> BreakerState:
        """Whether the requests of `submit` are let through now."""
        return self._connection.breaker_state

    @property
    def connected(self) -> bool:
        """Whether the stream to the sidecar is open now."""
        return self._connection.connected

    @property
    def ready(self) -> bool:
        """Whether the sidecar said that it is ready, when it was connected or since."""
        return self._connection.ready

    @property
    def cause(self) -> str:
        """Why there is no connection, or what the breaker opened for; means nothing while all is well."""
        return self._connection.cause

    def submit(self, questions: Sequence[Question], deadline_ns: int) -> PendingAnswers:
        """Send the questions as one request and return at once; see `port.Predictor`."""
        return self._connection.submit(questions, deadline_ns)

    def predict(
        self, model: str, rows: ArrayLike, version: int = 0, contract_hash: str = "", timeout_s: float = 1.0
    ) -> Prediction:
        """Ask one model and wait for the answer.

        `rows` is anything that becomes float32 of shape (rows, n_features); one row may be given as a flat
        list. `version` 0 lets the sidecar choose. Raises InferenceError, as one of its kinds, when there is
        no answer; ValueError when `rows` has another rank or no row.
        """
        features = np.asarray(rows, dtype=np.float32)
        if features.ndim < ROWS_RANK:
            features = np.atleast_2d(features)
        question = Question(model, features, version, contract_hash)
        timeout_us = max(int(timeout_s * NS_PER_S) // NS_PER_US, 1)
        request = write_request(self._connection.next_id(), [question], timeout_us)
        try:
            response = self._stub.predict(request, [question], timeout_s)
        except grpc.RpcError as error:
            raise error_of(error, self.target) from None
        except ValueError:
            raise self._closed_error() from None
        answer = read_response(response, [question])[0]
        if not isinstance(answer, Refusal):
            return answer
        if not isinstance(response, list) and response.parts and response.parts[0].status.code:
            status = response.parts[0].status
            meaning = meaning_of(status.code)
            raise meaning.error(meaning.part, status.message)
        raise SidecarUnavailableError(answer.reason, answer.detail)

    def describe(self, models: Sequence[str] = (), timeout_s: float = 5.0) -> Description:
        """Return what is served, of all models or of those named; a name that is not known is left out.

        Waits for a sidecar that is not there yet. Raises InferenceError when none answers in time.
        """
        request = pb.DescribeModelsRequest(models=list(models))
        try:
            response = self._stub.describe_models(request, timeout=timeout_s, wait_for_ready=True)
        except grpc.RpcError as error:
            raise error_of(error, self.target, self._stub.trouble()) from None
        except ValueError:
            raise self._closed_error() from None
        return read_description(response)

    def wait_ready(self, timeout_s: float = 10.0) -> Description:
        """Wait until the sidecar says that it is ready and the stream to it is open.

        Returns what is served. Raises SidecarUnavailableError, naming what is not ready, at the timeout;
        UnauthenticatedError at once.
        """
        give_up_s = time.monotonic() + timeout_s
        problem = "it did not answer"
        while (left_s := give_up_s - time.monotonic()) > 0 and not self._closed.is_set():
            try:
                description = self.describe(timeout_s=left_s)
            except UnauthenticatedError:
                raise
            except InferenceError as error:
                problem = str(error)
            else:
                problem = "" if description.ready else what_is_not_ready(description)
                if not problem and self._connection.wait_connected(give_up_s - time.monotonic()):
                    return description
            self._closed.wait(min(READY_POLL_S, max(give_up_s - time.monotonic(), 0)))
        raise SidecarUnavailableError(
            Reason.UNAVAILABLE, f"{self.target} is not ready after {timeout_s:g} s: {problem}"
        )

    def wait_connected(self, timeout_s: float = 10.0) -> bool:
        """Wait until the stream to the sidecar is open; False when it is not after `timeout_s`."""
        return self._connection.wait_connected(timeout_s)

    def close(self) -> None:
        """Drop what is on its way and free the connection. May be called twice."""
        self._closed.set()
        self._connection.close()
        self._stub.close()

    def _closed_error(self) -> SidecarUnavailableError:
        # A ValueError is how gRPC says that the channel is closed.
        return SidecarUnavailableError(Reason.UNAVAILABLE, f"{self.target}: the client is closed")


def what_is_not_ready(description: Description) -> str:
    """Return in words why a sidecar that answers is not ready."""
    if not description.models:
        return "it serves no model"
    problems = [f"{name}: {model.problem}" for name, model in description.models.items() if model.problem]
    return "; ".join(problems) or "a required model is not available"
