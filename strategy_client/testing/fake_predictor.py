"""A predictor without a sidecar, for users' own tests."""

import itertools
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from strategy_client.binding import Wanted
from strategy_client.configuration import did_you_mean
from strategy_client.events import Reason
from strategy_client.predictor.breaker import BreakerState
from strategy_client.predictor.connection import PredictorCounts
from strategy_client.predictor.description import Description
from strategy_client.predictor.port import Answer, PendingAnswers, Prediction, Question, Refusal
from strategy_client.predictor.status import (
    ContractMismatchError,
    DeadlineExceededError,
    InferenceError,
    InvalidQuestionError,
    ModelNotFoundError,
    SidecarUnavailableError,
)
from strategy_client.testing.fake_model import FakeModel

TARGET: Final = "fake"
MAX_ASKED: Final = 100_000
# What a sidecar, or the way to it, can be a reason of; every other reason is the client's own.
FAILURES: Final[Mapping[Reason, type[InferenceError]]] = {
    Reason.DEADLINE_EXCEEDED: DeadlineExceededError,
    Reason.BREAKER_OPEN: SidecarUnavailableError,
    Reason.UNAVAILABLE: SidecarUnavailableError,
    Reason.MODEL_NOT_FOUND: ModelNotFoundError,
    Reason.MODEL_NOT_READY: SidecarUnavailableError,
    Reason.CONTRACT_MISMATCH: ContractMismatchError,
}
# These are of the way to the sidecar, so that it cannot be asked what it serves either.
NOT_REACHED: Final = frozenset({Reason.DEADLINE_EXCEEDED, Reason.BREAKER_OPEN, Reason.UNAVAILABLE})


@dataclass(slots=True)
class _Script:
    reason: Reason
    detail: str
    model: str | None
    left: int | None


class _Invalid(Refusal):
    """A question whose rows the model does not take: one kind of error to `predict`."""


class FakePredictor:
    """Answers as a sidecar with these models would, at once and always the same; fails as it is told to.

    A `Predictor` with the `describe` that `Bindings` asks, so that a StrategyRunner works on it. It passes
    the contract suite that the real client passes: contract hashes and versions are compared, rows of
    another width and NaN where the contract refuses it are CONTRACT_MISMATCH. No thread, no network, and no
    clock unless `now_ns` is given: then a deadline that has passed is DEADLINE_EXCEEDED, as it is by
    `time.monotonic_ns` in the real one.

    `asked` holds the questions of each request, the last 100,000.
    """

    def __init__(self, models: Mapping[str, FakeModel], now_ns: Callable[[], int] | None = None) -> None:
        self.target = TARGET
        self.models = dict(models)
        self.asked: deque[tuple[Question, ...]] = deque(maxlen=MAX_ASKED)
        self._now_ns = now_ns
        self._scripts: list[_Script] = []
        self._counts: Counter[str] = Counter()
        self._ids = itertools.count(1)
        self._closed = False

    def __repr__(self) -> str:
        return f"<FakePredictor {', '.join(self.models) or 'no model'}, asked {len(self.asked)}>"

    @classmethod
    def for_wanted(
        cls,
        wanted: Sequence[Wanted],
        answer: Callable[[NDArray[np.float32]], ArrayLike] | ArrayLike,
        now_ns: Callable[[], int] | None = None,
    ) -> "FakePredictor":
        """Return one that serves what strategies want (`lineup.wanted_models`); all models answer alike."""
        models = {
            each.model.name: FakeModel(each.features.names, answer, each.model.version or 1)
            for each in wanted
        }
        return cls(models, now_ns)

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
    def counts(self) -> PredictorCounts:
        """What happened to the requests; `streams` and `breaker_opened` stay 0."""
        return PredictorCounts(**self._counts)

    @property
    def breaker_state(self) -> BreakerState:
        """OPEN while the next request is to fail so, else CLOSED."""
        script = self._script(None)
        opened = script is not None and script.reason is Reason.BREAKER_OPEN
        return BreakerState.OPEN if opened else BreakerState.CLOSED

    def fail(
        self,
        reason: Reason | str,
        times: int | None = None,
        model: str | None = None,
        detail: str = "scripted",
    ) -> None:
        """Let the next `times` requests fail, or all until `recover`; of one model only when it is named.

        A reason may be given by its name, "UNAVAILABLE". What was said first is used up first. Where the
        sidecar is not reached at all (DEADLINE_EXCEEDED, BREAKER_OPEN, UNAVAILABLE of every model),
        `describe` raises too. Raises ValueError for a reason that is not a sidecar's, a model that is not
        there, or `times` below 1.
        """
        found = next((each for each in FAILURES if reason in (each, each.value)), None)
        if found is None:
            names = ", ".join(each.value for each in FAILURES)
            name = reason.value if isinstance(reason, Reason) else str(reason)
            near = did_you_mean(name, [each.value for each in FAILURES])
            raise ValueError(f"reason {name}: expected one of {names}{near}")
        if model is not None and model not in self.models:
            near = did_you_mean(model, self.models)
            raise ValueError(f"model {model!r}: expected one of {', '.join(self.models) or 'none'}{near}")
        if times is not None and times < 1:
            raise ValueError(f"times: expected at least 1, came {times}")
        self._scripts.append(_Script(found, detail, model, times))

    def recover(self) -> None:
        """Forget every failure that was to come."""
        self._scripts.clear()

    def submit(self, questions: Sequence[Question], deadline_ns: int) -> PendingAnswers:
        """Answer the questions; see `port.Predictor`."""
        if not questions:
            return _Answered("", ())
        if self._now_ns is not None and deadline_ns <= self._now_ns():
            return self._refuse(
                questions, Reason.DEADLINE_EXCEEDED, "the deadline passed before the question"
            )
        if any(question.features.ndim != 2 or not len(question.features) for question in questions):
            return self._refuse(questions, Reason.CONTRACT_MISMATCH, "expected features of shape (rows, n)")
        if self._closed:
            return self._refuse(questions, Reason.UNAVAILABLE, f"{self.target}: the client is closed")
        self.asked.append(tuple(questions))
        self._count("requests")
        script = self._script(None)
        if script is not None:
            self._count("missed" if script.reason is Reason.DEADLINE_EXCEEDED else "failed")
            self._use_up([script])
            return self._refuse(questions, script.reason, script.detail)
        answers = [self._answer(question) for question in questions]
        models = {question.model for question in questions}
        scripts = {id(script): script for model in models if (script := self._script(model)) is not None}
        self._use_up(list(scripts.values()))
        self._count("answered")
        return _Answered(f"{TARGET}-{next(self._ids)}", answers)

    def predict(
        self, model: str, rows: ArrayLike, version: int = 0, contract_hash: str = "", timeout_s: float = 1.0
    ) -> Prediction:
        """Ask one model; see `InferenceClient.predict`."""
        features = np.atleast_2d(np.asarray(rows, dtype=np.float32))
        if features.ndim != 2 or not len(features):
            raise ValueError(f"rows: expected shape (rows, n_features), came {features.shape}")
        now_ns = self._now_ns() if self._now_ns is not None else 0
        question = Question(model, features, version, contract_hash)
        (answer,) = self.submit([question], now_ns + int(timeout_s * 1e9)).result()
        if isinstance(answer, Prediction):
            return answer
        error = InvalidQuestionError if isinstance(answer, _Invalid) else FAILURES[answer.reason]
        raise error(answer.reason, answer.detail)

    def describe(self, models: Sequence[str] = (), timeout_s: float = 5.0) -> Description:  # noqa: ARG002 - it never waits
        """Return what is served, of all models or of those named; a name that is not known is left out.

        Raises InferenceError while the sidecar is scripted not to be reached, and after `close`.
        """
        if self._closed:
            raise SidecarUnavailableError(Reason.UNAVAILABLE, f"{self.target}: the client is closed")
        script = self._script(None)
        if script is not None and script.reason in NOT_REACHED:
            raise FAILURES[script.reason](script.reason, f"{self.target}: {script.detail}")
        names = sorted(name for name in self.models if not models or name in models)
        return Description(
            {name: self.models[name].describe(name) for name in names}, ready=bool(self.models)
        )

    def wait_ready(self, timeout_s: float = 10.0) -> Description:
        """Return what is served; never waits. SidecarUnavailableError where it is nothing, or not reached."""
        try:
            description = self.describe()
        except InferenceError as error:
            raise SidecarUnavailableError(
                Reason.UNAVAILABLE, f"{self.target} is not ready after {timeout_s:g} s: {error}"
            ) from None
        if not description.ready:
            text = f"{self.target} is not ready after {timeout_s:g} s: it serves no model"
            raise SidecarUnavailableError(Reason.UNAVAILABLE, text)
        return description

    def close(self) -> None:
        """Refuse whatever is asked from now on. May be called twice."""
        self._closed = True

    def _count(self, name: str) -> None:
        self._counts[name] += 1

    def _script(self, model: str | None) -> _Script | None:
        return next((script for script in self._scripts if script.model == model), None)

    def _use_up(self, scripts: Sequence[_Script]) -> None:
        for script in scripts:
            if script.left is not None:
                script.left -= 1
                if not script.left:
                    self._scripts.remove(script)

    def _refuse(self, questions: Sequence[Question], reason: Reason, detail: str) -> PendingAnswers:
        return _Answered("", [Refusal(reason, detail)] * len(questions))

    def _answer(self, question: Question) -> Answer:
        name = question.model
        script = self._script(name)
        if script is not None:
            return Refusal(script.reason, script.detail)
        model = self.models.get(name)
        if model is None:
            return Refusal(Reason.MODEL_NOT_FOUND, f"model {name!r} is not known")
        problem = _problem(model, question)
        if problem is not None:
            return problem
        try:
            outputs = model.outputs(question.features.astype(np.float32, copy=False))
        except Exception as error:  # noqa: BLE001 as a model that fails in a sidecar: no answer, and why
            return Refusal(Reason.UNAVAILABLE, f"model {name!r}: {type(error).__name__}: {error}")
        return Prediction(name, model.version, model.digest, model.contract_hash, outputs)


def _problem(model: FakeModel, question: Question) -> Refusal | None:
    name, expected = question.model, len(model.features)
    if question.version not in (0, model.version):
        return Refusal(Reason.MODEL_NOT_FOUND, f"model {name!r} has no version {question.version}")
    if question.contract_hash not in ("", model.contract_hash):
        text = f"model {name!r} is served under another contract than {question.contract_hash[:12]}"
        return Refusal(Reason.CONTRACT_MISMATCH, text)
    if question.features.shape[1] != expected:
        came = question.features.shape[1]
        return _Invalid(Reason.CONTRACT_MISMATCH, f"model {name!r} takes {expected} features, came {came}")
    if not model.accepts_nan and bool(np.isnan(question.features).any()):
        return _Invalid(Reason.CONTRACT_MISMATCH, f"model {name!r} takes no NaN")
    return None


class _Answered:
    """Answers that are there already."""

    __slots__ = ("_answers", "request_id")
    settled = True

    def __init__(self, request_id: str, answers: Sequence[Answer]) -> None:
        self.request_id = request_id
        self._answers = answers

    def result(self) -> Sequence[Answer]:
        """Return them."""
        return self._answers
