"""The predictor for users' own tests, used as a user would."""

import itertools

import numpy as np
import pytest
from fixtures_ticks import tick

from strategy_client import NoSignal, Outcome, Reason, Signal, StrategyConfig, StrategyFactory, StrategyRunner
from strategy_client.bindings import Bindings
from strategy_client.lineup import create_executors, wanted_models
from strategy_client.predictor.breaker import BreakerState
from strategy_client.predictor.port import Prediction, Question, Refusal
from strategy_client.predictor.status import InferenceError
from strategy_client.testing import FakeModel, FakePredictor

FEATURES = ("return_2", "price")
ROW = np.array([[0.01, 100.0]], np.float32)
SURE = [0.1, 0.9]


class Session:
    """One learned strategy of a user's over a fake that says what the test wants."""

    def __init__(self, answer: object = SURE) -> None:
        config = StrategyConfig(
            "mine", "ml_momentum", {"model": "up", "features": list(FEATURES)}, ("paper",), (1,)
        )
        executors = create_executors([config], StrategyFactory())
        wanted = wanted_models(executors)
        self.fake = FakePredictor.for_wanted(wanted, answer)
        self.bindings = Bindings(wanted, self.fake.describe)
        self.bindings.refresh()
        self.runner = StrategyRunner(executors, self.fake, self.bindings)
        self._seconds = itertools.count()

    def run(self, prices: list[float]) -> list[Outcome]:
        """Return the one outcome of each tick."""
        came = [tick(price, second=next(self._seconds)) for price in prices]
        return [outcome for each in came for outcome in self.runner.process(each)]


def what(outcomes: list[Outcome]) -> list[object]:
    """Return BUY or SELL, or the reason."""
    return [each.signal_type if isinstance(each, Signal) else each.reason for each in outcomes]


def test_fixed_answer_makes_signals() -> None:
    """A strategy runs on it without a sidecar: warm-up first, then a signal with where it came from."""
    session = Session()
    came = session.run([100, 101, 102, 103])
    assert what(came) == [Reason.WARMING_UP, "BUY", "BUY", "BUY"]
    assert isinstance(came[-1], Signal)
    assert came[-1].metadata["model"] == "up"
    assert came[-1].confidence == pytest.approx(0.9)
    assert came[-1].metadata["request_id"] == "fake-3"
    assert [len(request) for request in session.fake.asked] == [1, 1, 1]


def test_answer_may_depend_on_the_row() -> None:
    """A function is given the rows as the strategy made them."""

    def by_return(rows: np.ndarray) -> np.ndarray:
        up = np.where(rows[:, 0] > 0, 0.8, 0.2)
        return np.stack([1 - up, up], axis=1)

    assert what(Session(by_return).run([100, 100, 101, 90]))[2:] == ["BUY", "SELL"]


def test_two_runs_are_the_same() -> None:
    """Nothing of it depends on time or chance, not even the ids of requests."""

    def told(outcome: Outcome) -> object:
        varying = {"latency_us": 0}
        return {**outcome.metadata, **varying} if isinstance(outcome, Signal) else outcome.reason

    first, second = (Session().run([100, 101, 102, 103]) for _ in range(2))
    assert list(map(told, first)) == list(map(told, second))


def test_failures_come_as_scripted() -> None:
    """Each failure lasts as many requests as it was told, in order; then it answers again."""
    session = Session()
    session.run([100])
    session.fake.fail(Reason.DEADLINE_EXCEEDED, times=1, detail="too slow today")
    session.fake.fail(Reason.BREAKER_OPEN, times=2)
    assert session.fake.breaker_state is BreakerState.CLOSED
    came = session.run([100, 101, 102, 103])
    assert what(came) == [Reason.DEADLINE_EXCEEDED, *[Reason.BREAKER_OPEN] * 2, "BUY"]
    assert isinstance(came[0], NoSignal)
    assert came[0].detail == "too slow today"
    counts = session.fake.counts
    assert (counts.requests, counts.missed, counts.failed, counts.answered) == (4, 1, 2, 1)


@pytest.mark.parametrize(
    "reason",
    [
        Reason.DEADLINE_EXCEEDED,
        Reason.BREAKER_OPEN,
        Reason.UNAVAILABLE,
        Reason.MODEL_NOT_FOUND,
        Reason.MODEL_NOT_READY,
        Reason.CONTRACT_MISMATCH,
    ],
)
def test_any_reason_of_a_sidecars_can_be_scripted(reason: Reason) -> None:
    """A failure without an end lasts until `recover`."""
    session = Session()
    session.run([100, 101])
    session.fake.fail(reason)
    assert set(what(session.run([100, 101, 102]))) == {reason}
    with pytest.raises(InferenceError):
        session.fake.predict("up", ROW)
    session.fake.recover()
    assert what(session.run([100])) == ["BUY"]


def test_a_reason_may_be_given_by_its_name() -> None:
    """A reason's text is as good as the reason; what is none says which there are, and which is near."""
    session = Session()
    session.run([100, 101])
    session.fake.fail("UNAVAILABLE", times=1)
    assert what(session.run([100, 101])) == [Reason.UNAVAILABLE, "BUY"]
    for wrong in ("UNAVAILABEL", "HOLD", Reason.HOLD, None, 5):
        with pytest.raises(ValueError, match=r"^reason .*: expected one of DEADLINE_EXCEEDED, ") as error:
            session.fake.fail(wrong)  # type: ignore[arg-type]
        assert ("did you mean 'UNAVAILABLE'?" in str(error.value)) == (wrong == "UNAVAILABEL")


def test_one_model_can_fail_alone() -> None:
    """A failure of one model leaves the others of the request answered."""
    fake = FakePredictor({"a": FakeModel(FEATURES, SURE), "b": FakeModel(FEATURES, SURE)})
    fake.fail(Reason.MODEL_NOT_READY, times=1, model="a")

    def ask() -> list[type]:
        return [type(each) for each in fake.submit([Question("a", ROW), Question("b", ROW)], 0).result()]

    assert [ask(), ask()] == [[Refusal, Prediction], [Prediction, Prediction]]
    assert fake.describe().ready


def test_sidecar_that_cannot_be_reached_describes_nothing() -> None:
    """H1: while every request is to be UNAVAILABLE nothing can be bound; afterwards it can."""
    fake = FakePredictor({"up": FakeModel(FEATURES, SURE)})
    fake.fail(Reason.UNAVAILABLE)
    for ask in (fake.describe, fake.wait_ready):
        with pytest.raises(InferenceError, match="scripted"):
            ask()
    fake.recover()
    assert fake.wait_ready().models["up"].default_version == 1


def test_model_may_be_replaced_under_another_contract() -> None:
    """H5: a model put in the place of another is a CONTRACT_MISMATCH to who is bound to the first."""
    session = Session()
    session.run([100, 101])
    session.fake.models["up"] = FakeModel(FEATURES[::-1], SURE, version=2)
    assert what(session.run([100])) == [Reason.CONTRACT_MISMATCH]
    session.bindings.refresh()
    (refused,) = session.run([100])
    assert isinstance(refused, NoSignal)
    assert "feature 0 is 'return_2' in the strategy and 'price'" in refused.detail


def test_age_and_ranges_of_training_are_described() -> None:
    """What a contract says of the training may be made up, for tests of MODEL_STALE and OUT_OF_RANGE."""
    model = FakeModel(FEATURES, SURE, training_ranges=[(0, 1), (50, 200)], trained_at_ns=5)
    version = FakePredictor({"up": model}).describe(["up"]).models["up"].find()
    assert version is not None
    assert version.contract is not None
    assert (version.contract.training_ranges, version.contract.trained_at_ns) == (((0, 1), (50, 200)), 5)


def test_regressor_answers_numbers() -> None:
    """Without classes the answer is one number a row."""
    fake = FakePredictor({"r": FakeModel(FEATURES, lambda rows: rows[:, 1] * 2, classes=(), meanings=())})
    assert fake.predict("r", ROW).outputs["value"].tolist() == [200.0]


def test_classes_may_be_words() -> None:
    """Labels are the classes themselves, numbers where they are numbers."""
    words = FakeModel(FEATURES, [0.2, 0.5, 0.3], classes=("down", "flat", "up"), meanings=("SELL", "", "BUY"))
    assert words.outputs(ROW)["label"].tolist() == ["flat"]
    assert FakeModel(FEATURES, SURE, classes=("-1", "1")).outputs(ROW)["label"].tolist() == [1]


def test_model_that_raises_is_a_refusal() -> None:
    """A function that raises, or answers another shape, is UNAVAILABLE with its text; nothing is raised."""

    def broken(rows: np.ndarray) -> np.ndarray:
        raise ArithmeticError("no idea")

    for answer, text in ((broken, "ArithmeticError: no idea"), (lambda rows: [[1.0]], "expected shape")):
        (refusal,) = (
            FakePredictor({"m": FakeModel(FEATURES, answer)}).submit([Question("m", ROW)], 0).result()
        )
        assert isinstance(refusal, Refusal)
        assert refusal.reason is Reason.UNAVAILABLE
        assert text in refusal.detail


def test_deadline_counts_by_the_clock_that_was_given() -> None:
    """Without a clock no deadline passes; with one it does."""
    question = [Question("m", ROW)]
    models = {"m": FakeModel(FEATURES, SURE)}
    assert isinstance(FakePredictor(models).submit(question, 0).result()[0], Prediction)
    (late,) = FakePredictor(models, lambda: 10).submit(question, 10).result()
    assert isinstance(late, Refusal)
    assert late.reason is Reason.DEADLINE_EXCEEDED
    assert FakePredictor(models, lambda: 10).predict("m", ROW).version == 1


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: FakeModel(FEATURES, [0.1, 0.2, 0.7]), r"expected shape \(1, 2\) or \(2,\), came \(3,\)"),
        (lambda: FakeModel(FEATURES, SURE, classes=("0",)), "1 classes, 2 meanings"),
        (lambda: FakeModel(FEATURES, SURE, version=0), "version: expected at least 1, came 0"),
        (lambda: FakeModel(FEATURES, SURE, training_ranges=[(0, 1)]), "1 training_ranges, 2 features"),
        (lambda: FakeModel(("return_x",), SURE), "return_x"),
    ],
)
def test_model_that_fits_nothing_is_refused(make: object, text: str) -> None:
    """H9: what is wrong with a made-up model is said when it is made."""
    with pytest.raises(ValueError, match=text):
        make()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((Reason.WARMING_UP,), "reason WARMING_UP: expected one of DEADLINE_EXCEEDED"),
        ((Reason.UNAVAILABLE, 0), "times: expected at least 1, came 0"),
        ((Reason.UNAVAILABLE, 1, "upp"), r"model 'upp': expected one of up \(did you mean 'up'\?\)"),
    ],
)
def test_wrong_script_is_refused(arguments: tuple[object, ...], text: str) -> None:
    """H9: a failure that no sidecar has, or of nobody, is an error at once."""
    with pytest.raises(ValueError, match=text):
        FakePredictor({"up": FakeModel(FEATURES, SURE)}).fail(*arguments)
