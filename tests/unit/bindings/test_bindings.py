"""Bindings that are kept up to date away from the tick path."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from fake_sidecar import FakeModel, FakeSidecar
from sidecars import eventually
from tickserve.v1 import predictor_pb2 as pb

from strategy_client.binding import Bound, Unbound, Wanted
from strategy_client.bindings import Bindings
from strategy_client.events import Reason
from strategy_client.features import FeatureSet
from strategy_client.predictor.backoff import Backoff, BackoffOptions
from strategy_client.predictor.client import InferenceClient
from strategy_client.processors.model import ModelReference

FEATURES = FeatureSet(["return_5", "price"])
MODEL = FakeModel(FEATURES.names, FEATURES.window)


@pytest.fixture
def sidecar() -> Iterator[FakeSidecar]:
    """Serve the model `m`."""
    with FakeSidecar({"m": MODEL}) as fake:
        yield fake


@pytest.fixture
def client(sidecar: FakeSidecar) -> Iterator[InferenceClient]:
    """Connect to it."""
    with InferenceClient(sidecar.target) as connected:
        yield connected


def bindings_of(client: InferenceClient, *models: ModelReference) -> Bindings:
    """Make bindings with pauses of a few milliseconds, a strategy a model."""
    wanted = [Wanted(f"s{index}", model, FEATURES) for index, model in enumerate(models)]
    pauses = Backoff(BackoffOptions(first_ms=1, longest_ms=4))
    return Bindings(wanted, lambda names: client.describe(names, timeout_s=0.5), pauses)


def reason(bindings: Bindings) -> Reason | None:
    """Return why the first strategy is not bound; None when it is."""
    binding = bindings.of("s0")
    return binding.reason if isinstance(binding, Unbound) else None


def test_bound_at_start(client: InferenceClient) -> None:
    """A strategy whose features are the contract's is bound to the contract's hash when `start` returns."""
    bindings = bindings_of(client, ModelReference("m"))
    bindings.start()
    binding = bindings.of("s0")
    assert isinstance(binding, Bound)
    assert binding.contract_hash == MODEL.contract_hash
    assert (binding.label, binding.probabilities, binding.accepts_nan) == ("label", "probabilities", False)
    bindings.close()


@pytest.mark.parametrize(
    ("model", "served", "expected"),
    [
        (ModelReference("other"), MODEL, (Reason.MODEL_NOT_FOUND, "'other'")),
        (ModelReference("m", 9), MODEL, (Reason.MODEL_NOT_FOUND, "no version 9; served: 1")),
        (ModelReference("m"), FakeModel((), 1, contract=False), (Reason.CONTRACT_MISMATCH, "no contract")),
        (
            ModelReference("m"),
            replace(MODEL, state=pb.VersionDescription.LOADING),
            (Reason.MODEL_NOT_READY, "LOADING"),
        ),
    ],
)
def test_why_a_strategy_is_not_bound(
    sidecar: FakeSidecar,
    client: InferenceClient,
    model: ModelReference,
    served: FakeModel,
    expected: tuple[Reason, str],
) -> None:
    """A model that is unknown, unverified or not ready: each has its reason, in words too."""
    sidecar.models["m"] = served
    bindings = bindings_of(client, model)
    bindings.refresh()
    binding = bindings.of("s0")
    assert isinstance(binding, Unbound)
    assert binding.reason is expected[0]
    assert expected[1] in binding.detail


def test_nan_policy_is_bound(sidecar: FakeSidecar, client: InferenceClient) -> None:
    """A model that was trained on NaN is bound as one that takes it."""
    sidecar.swap("m", nan_policy=pb.Contract.ACCEPT)
    bindings = bindings_of(client, ModelReference("m"))
    bindings.refresh()
    binding = bindings.of("s0")
    assert isinstance(binding, Bound)
    assert binding.accepts_nan


def test_sidecar_that_appears_later_is_bound() -> None:
    """H1: a sidecar absent at start leaves strategies UNAVAILABLE, and binds them once it appears."""
    fake = FakeSidecar({"m": MODEL})
    with InferenceClient(fake.target) as client:
        bindings = bindings_of(client, ModelReference("m"))
        bindings.start()
        assert reason(bindings) is Reason.UNAVAILABLE
        with fake:
            eventually(lambda: reason(bindings) is None, "the strategy is bound")
        bindings.close()


def test_model_that_appears_later_is_bound(sidecar: FakeSidecar, client: InferenceClient) -> None:
    """An unbound strategy is bound when its model appears; nobody has to ask."""
    bindings = bindings_of(client, ModelReference("late"))
    bindings.start()
    assert reason(bindings) is Reason.MODEL_NOT_FOUND
    sidecar.models["late"] = MODEL
    eventually(lambda: reason(bindings) is None, "the strategy is bound")
    bindings.close()


def test_doubt_renews(sidecar: FakeSidecar, client: InferenceClient) -> None:
    """H5: bound strategies are looked at again when there is doubt, and only then."""
    bindings = bindings_of(client, ModelReference("m"))
    bindings.start()
    asked = sidecar.describes
    sidecar.swap("m", feature_names=FEATURES.names[::-1])
    assert reason(bindings) is None
    assert sidecar.describes == asked
    bindings.doubt()
    eventually(lambda: reason(bindings) is Reason.CONTRACT_MISMATCH, "the mismatch is seen")
    sidecar.swap("m", feature_names=FEATURES.names)
    eventually(lambda: reason(bindings) is None, "it is bound again")
    bindings.close()


def test_what_is_bound_stays_bound_while_the_sidecar_is_gone(
    sidecar: FakeSidecar, client: InferenceClient
) -> None:
    """A sidecar that does not answer unbinds nothing: it comes back with the same models as a rule."""
    bindings = bindings_of(client, ModelReference("m"))
    bindings.refresh()
    before = bindings.of("s0")
    sidecar.stop()
    bindings.refresh()
    assert bindings.of("s0") is before
