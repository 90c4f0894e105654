"""What every predictor answers: clients of the tests' fake and of real processes, and the fake for users."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fake_sidecar import FakeModel, FakeSidecar
from fixtures_session import MOMENTUM_LOOKBACK, momentum_features, write_model

from strategy_client.events import Reason
from strategy_client.features import FeatureSet
from strategy_client.predictor.client import InferenceClient
from strategy_client.predictor.description import OutputKind, VersionState
from strategy_client.predictor.endpoints import Endpoints
from strategy_client.predictor.port import Answer, Prediction, Question, Refusal
from strategy_client.predictor.status import (
    ContractMismatchError,
    InvalidQuestionError,
    ModelNotFoundError,
    SidecarUnavailableError,
)
from strategy_client.predictor.transport import Transport, check_transport
from strategy_client.sidecar.own_sidecar import OwnSidecar
from strategy_client.testing import FakeModel as FakeUsersModel
from strategy_client.testing import FakePredictor

Client = InferenceClient | Endpoints | FakePredictor
NAMES = momentum_features(MOMENTUM_LOOKBACK)
ROW = [0.01, 0.002, 0.0005, 100.0, 20.0]
FIVE_S = 5 * 10**9


@contextlib.contextmanager
def fake(transport: Transport) -> Iterator[InferenceClient]:
    """Connect to the tests' fake."""
    served = {"up": FakeModel(NAMES, FeatureSet(NAMES).window)}
    with FakeSidecar(served) as sidecar, InferenceClient(sidecar.target, transport=transport) as client:
        client.wait_ready(60.0)
        yield client


@contextlib.contextmanager
def real(transport: Transport, models: Path) -> Iterator[InferenceClient]:
    """Connect to a real process."""
    write_model(models, "up", NAMES)
    with OwnSidecar(models) as sidecar, InferenceClient(sidecar.target, transport=transport) as client:
        sidecar.wait_ready(client)
        yield client


@contextlib.contextmanager
def endpoints(transport: Transport) -> Iterator[Endpoints]:
    """Connect to two of the tests' fakes as to one, the preferred one dead."""
    served = {"up": FakeModel(NAMES, FeatureSet(NAMES).window)}
    with (
        FakeSidecar(served) as dead,
        FakeSidecar(served) as alive,
        Endpoints([dead.target, alive.target], transport=transport) as client,
    ):
        dead.stop()
        client.wait_ready(60.0)
        yield client


@contextlib.contextmanager
def predictor() -> Iterator[FakePredictor]:
    """Make the one that is for users' tests."""
    yield FakePredictor({"up": FakeUsersModel(NAMES, [0.3, 0.7])}, time.monotonic_ns)


@pytest.fixture(
    scope="module",
    params=[
        "fake-h2",
        "fake-grpcio",
        "real-h2",
        "real-grpcio",
        "endpoints-h2",
        "endpoints-grpcio",
        "predictor",
    ],
)
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Connect to each."""
    kind, _, name = request.param.partition("-")
    transport = check_transport(name or "auto")
    kinds = {
        "fake": lambda: fake(transport),
        "real": lambda: real(transport, tmp_path_factory.mktemp("contract") / "models"),
        "endpoints": lambda: endpoints(transport),
        "predictor": predictor,
    }
    with kinds[kind]() as connected:
        yield connected


def ask(client: Client, *questions: Question) -> list[Answer]:
    """Return the answers to questions of one request."""
    pending = client.submit(questions, time.monotonic_ns() + FIVE_S)
    answers = list(pending.result())
    assert pending.settled
    assert list(pending.result()) == answers, "asked again, it says the same"
    return answers


def rows(count: int = 1) -> np.ndarray:
    """Return rows that the model takes."""
    return np.array([ROW] * count, dtype=np.float32)


def reason(answer: Answer) -> Reason:
    """Return why there was no prediction; it must say why in words too."""
    assert isinstance(answer, Refusal)
    assert answer.detail
    return answer.reason


def test_prediction_names_what_made_it(client: Client) -> None:
    """A prediction has version, digest, contract hash and one row of outputs a row asked."""
    (answer,) = ask(client, Question("up", rows(3)))
    assert isinstance(answer, Prediction)
    served = client.describe(["up"]).models["up"].find()
    assert served is not None
    assert served.contract is not None
    assert (answer.version, answer.digest, answer.contract_hash) == (1, served.digest, served.contract.hash)
    for output in served.contract.outputs:
        assert len(answer.outputs[output.name]) == 3
        if output.kind is OutputKind.PROBABILITIES:
            assert answer.outputs[output.name].sum(axis=1) == pytest.approx([1, 1, 1], abs=1e-5)


def test_parts_have_their_own_status_in_order(client: Client) -> None:
    """One part that cannot be answered leaves the others answered."""
    answers = ask(
        client,
        Question("unknown", rows()),
        Question("up", rows()),
        Question("up", rows(), version=99),
        Question("up", rows(), contract_hash="0" * 64),
        Question("up", rows()[:, :3]),
    )
    assert reason(answers[0]) is Reason.MODEL_NOT_FOUND
    assert isinstance(answers[1], Prediction)
    assert reason(answers[2]) is Reason.MODEL_NOT_FOUND
    assert reason(answers[3]) is Reason.CONTRACT_MISMATCH
    assert reason(answers[4]) is Reason.CONTRACT_MISMATCH


@pytest.mark.parametrize("features", [np.zeros(5, np.float32), np.zeros((0, 5), np.float32)])
def test_rows_of_another_rank_are_refused(client: Client, features: np.ndarray) -> None:
    """Features that are no rows, or none, are CONTRACT_MISMATCH and not sent; `submit` never raises."""
    pending = client.submit([Question("up", features)], time.monotonic_ns() + FIVE_S)
    assert (reason(pending.result()[0]), pending.request_id) == (Reason.CONTRACT_MISMATCH, "")


def test_nan_is_refused_where_the_contract_says_so(client: Client) -> None:
    """A row with NaN is CONTRACT_MISMATCH; no row of its question is answered."""
    features = rows(2)
    features[1, 0] = np.nan
    (answer,) = ask(client, Question("up", features))
    assert reason(answer) is Reason.CONTRACT_MISMATCH


def test_counts_say_what_happened(client: Client) -> None:
    """A request that was answered is counted as one, whatever its parts say."""
    before = client.counts
    ask(client, Question("up", rows()), Question("unknown", rows()))
    assert (client.counts.requests, client.counts.answered) == (before.requests + 1, before.answered + 1)


def test_bound_contract_is_answered(client: Client) -> None:
    """A question under the served contract's hash, and of the served version, is answered."""
    served = client.describe(["up"]).models["up"].find()
    assert served is not None
    assert served.contract is not None
    (answer,) = ask(client, Question("up", rows(), served.version, served.contract.hash))
    assert isinstance(answer, Prediction)


def test_stream_and_single_call_answer_alike(client: Client) -> None:
    """`predict` and `submit` give the same numbers for the same row."""
    (streamed,) = ask(client, Question("up", rows()))
    single = client.predict("up", ROW)
    assert isinstance(streamed, Prediction)
    for name, values in single.outputs.items():
        assert streamed.outputs[name].tolist() == values.tolist()


def test_many_requests_in_flight(client: Client) -> None:
    """A hundred requests at once are each answered."""
    deadline_ns = time.monotonic_ns() + FIVE_S
    pending = [client.submit([Question("up", rows())], deadline_ns) for _ in range(100)]
    assert len({each.request_id for each in pending}) == 100
    assert all(isinstance(each.result()[0], Prediction) for each in pending)


def test_passed_deadline_is_refused(client: Client) -> None:
    """A deadline in the past is DEADLINE_EXCEEDED at once."""
    pending = client.submit([Question("up", rows())], time.monotonic_ns() - 1)
    assert reason(pending.result()[0]) is Reason.DEADLINE_EXCEEDED


def test_no_questions_is_no_request(client: Client) -> None:
    """Nothing asked is nothing sent."""
    pending = client.submit([], time.monotonic_ns() + FIVE_S)
    assert (list(pending.result()), pending.request_id) == ([], "")


def test_description_holds_the_contract(client: Client) -> None:
    """What is served is described: state, digest, features in order, window, meanings."""
    description = client.describe()
    assert description.ready
    assert set(description.models) == {"up"}
    version = description.models["up"].find(1)
    assert version is not None
    assert (version.state, len(version.digest)) == (VersionState.AVAILABLE, 64)
    assert version.contract is not None
    assert version.contract.feature_names == NAMES
    assert version.contract.window == FeatureSet(NAMES).window
    assert {output.meanings for output in version.contract.outputs} == {("SELL", "BUY")}
    assert version.input_datatypes == ("FP32",)


def test_description_leaves_unknown_names_out(client: Client) -> None:
    """A name that is not known is left out, not an error."""
    assert client.describe(["nobody"]).models == {}


@pytest.mark.parametrize(
    ("question", "error", "why"),
    [
        ({"model": "nobody", "rows": ROW}, ModelNotFoundError, Reason.MODEL_NOT_FOUND),
        ({"model": "up", "rows": ROW, "version": 7}, ModelNotFoundError, Reason.MODEL_NOT_FOUND),
        ({"model": "up", "rows": ROW, "contract_hash": "x"}, ContractMismatchError, Reason.CONTRACT_MISMATCH),
        ({"model": "up", "rows": [1.0]}, InvalidQuestionError, Reason.CONTRACT_MISMATCH),
        ({"model": "up", "rows": [*ROW[1:], float("nan")]}, InvalidQuestionError, Reason.CONTRACT_MISMATCH),
    ],
)
def test_predict_raises_typed_errors(
    client: Client, question: dict[str, object], error: type[Exception], why: Reason
) -> None:
    """`predict` raises an error of the kind that says what the caller should do."""
    with pytest.raises(error) as raised:
        client.predict(**question)  # type: ignore[arg-type] one call for several questions
    assert raised.value.reason is why  # type: ignore[attr-defined] every kind has it


@pytest.mark.parametrize("transport", ["h2", "grpcio"])
def test_absent_sidecar_is_said_so(tmp_path: Path, transport: Transport) -> None:
    """Where nothing listens, `predict` and `wait_ready` raise an error that names the target."""
    with InferenceClient(f"unix:{tmp_path}/none", transport=transport) as alone:
        with pytest.raises(SidecarUnavailableError, match="none"):
            alone.predict("up", ROW)
        with pytest.raises(SidecarUnavailableError, match=r"not ready after 0\.1 s"):
            alone.wait_ready(0.1)


def test_closed_client_says_so(client: Client) -> None:
    """After `close` every way to ask is an error or a refusal in words, whoever still holds the client."""
    client.close()
    for ask in (lambda: client.predict("up", ROW), client.describe, lambda: client.wait_ready(0.1)):
        with pytest.raises(SidecarUnavailableError, match=r"closed|not ready"):
            ask()
    (answer,) = client.submit(
        [Question("up", np.array([ROW], np.float32))], time.monotonic_ns() + 10**9
    ).result()
    assert isinstance(answer, Refusal)
    assert answer.reason is Reason.UNAVAILABLE
    assert "the client is closed" in answer.detail
