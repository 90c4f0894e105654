"""Bindings over a line-up that changes, and over versions that come and go."""

import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from fixtures_runner import contract, description
from sidecars import eventually

from strategy_client.binding import Bound, Unbound, Wanted
from strategy_client.bindings import MAX_DOUBTED, Bindings
from strategy_client.events import Reason
from strategy_client.features import FeatureSet
from strategy_client.predictor.backoff import Backoff, BackoffOptions
from strategy_client.predictor.description import Description, OutputKind, OutputMeaning
from strategy_client.predictor.status import SidecarUnavailableError
from strategy_client.processors.model import ModelReference

FEATURES = FeatureSet(("price", "return_3"))
OTHER = FeatureSet(("price",))


def wanted(strategy_id: str, model: str = "m", features: FeatureSet = FEATURES) -> Wanted:
    """Return what a strategy asks."""
    return Wanted(strategy_id, ModelReference(model), features)


class Sidecar:
    """Describes the model `m`; keeps what it was asked for."""

    def __init__(self) -> None:
        self.looks: list[list[str]] = []
        self.digest = "d4"
        self.models: tuple[str, ...] = ("m",)
        self.let_go = threading.Event()
        self.let_go.set()
        self.gone = False

    def describe(self, models: Sequence[str]) -> Description:
        """Say what is served."""
        self.looks.append(list(models))
        self.let_go.wait(60)
        if self.gone:
            raise SidecarUnavailableError(Reason.UNAVAILABLE, "gone")
        (version,) = description(contract()).models["m"].versions
        served = replace(
            description(contract()).models["m"], versions=(replace(version, digest=self.digest),)
        )
        return Description({name: replace(served, name=name) for name in self.models}, ready=True)

    def bindings(self, *line_up: Wanted, **options: Any) -> Bindings:
        """Return bindings with pauses of a millisecond."""
        return Bindings(line_up, self.describe, Backoff(BackoffOptions(first_ms=1, longest_ms=1)), **options)


@pytest.fixture
def sidecar() -> Sidecar:
    """Serve the model `m` at digest d4."""
    return Sidecar()


def digest_of(bindings: Bindings, strategy_id: str = "a") -> str:
    """Return the digest that a strategy is bound to; empty when it is not bound."""
    binding = bindings.of(strategy_id)
    return binding.digest if isinstance(binding, Bound) else ""


def test_a_change_keeps_the_bindings_of_what_stays(sidecar: Sidecar) -> None:
    """What asks the same as before keeps the very object; what is gone is forgotten."""
    bindings = sidecar.bindings(wanted("a"), wanted("b"))
    bindings.refresh()
    before = bindings.of("a")
    bindings.change([wanted("a", features=FeatureSet(FEATURES.names))])
    assert bindings.of("a") is before
    assert list(bindings.all) == ["a"]
    bindings.refresh()
    assert bindings.of("a") is before
    bindings.change([wanted("a", features=OTHER)])
    asks_another = bindings.of("a")
    assert isinstance(asks_another, Unbound)
    assert asks_another.reason is Reason.CONTRACT_MISMATCH


def test_a_new_strategy_of_a_known_model_is_bound_at_once(sidecar: Sidecar) -> None:
    """The sidecar need not be asked about a model that it has told of."""
    bindings = sidecar.bindings(wanted("a"))
    bindings.refresh()
    bindings.change([wanted("a"), wanted("new"), wanted("wrong", features=OTHER)])
    assert digest_of(bindings, "new") == "d4"
    wrong = bindings.of("wrong")
    assert isinstance(wrong, Unbound)
    assert wrong.reason is Reason.CONTRACT_MISMATCH
    assert len(sidecar.looks) == 1


def test_a_new_strategy_of_a_new_model_is_bound_soon(sidecar: Sidecar) -> None:
    """A model that the sidecar was never asked about is UNAVAILABLE until it was."""
    bindings = sidecar.bindings()
    bindings.start()
    assert sidecar.looks == []
    sidecar.let_go.clear()
    bindings.change([wanted("a")])
    assert bindings.of("a").reason is Reason.UNAVAILABLE  # type: ignore[union-attr]
    sidecar.let_go.set()
    eventually(lambda: digest_of(bindings) == "d4", "it is bound")
    bindings.close()


def test_a_strategy_that_joins_bound_ones_is_bound_soon(sidecar: Sidecar) -> None:
    """Nobody waits for the next look of now and then when a model is new to the line-up."""
    sidecar.models = ("m", "n")
    bindings = sidecar.bindings(wanted("a"), look_again_s=3_600)
    bindings.start()
    bindings.change([wanted("a"), wanted("new", "n")])
    eventually(lambda: digest_of(bindings, "new") == "d4", "it is bound")
    bindings.close()


def test_a_change_does_not_wait_for_the_sidecar(sidecar: Sidecar) -> None:
    """The tick loop changes its line-up while the sidecar takes its time to answer; both come out right."""
    bindings = sidecar.bindings(wanted("a"))
    sidecar.let_go.clear()
    looking = threading.Thread(target=bindings.refresh)
    looking.start()
    eventually(lambda: sidecar.looks, "the sidecar is asked")
    bindings.change([wanted("a"), wanted("new", "n")])
    sidecar.let_go.set()
    looking.join()
    assert digest_of(bindings) == "d4"
    # It was not asked about: neither known nor unknown.
    assert bindings.of("new").reason is Reason.UNAVAILABLE  # type: ignore[union-attr]


def test_a_strategy_that_is_not_known_yet_is_not_bound(sidecar: Sidecar) -> None:
    """A runner that changes before its bindings do gets a reason, and no KeyError at a tick."""
    binding = sidecar.bindings().of("nobody")
    assert isinstance(binding, Unbound)
    assert binding.reason is Reason.UNAVAILABLE


def test_another_version_is_looked_at_once(sidecar: Sidecar) -> None:
    """H5: an answer by other bytes renews the bindings, once for each version until a binding changes."""
    bindings = sidecar.bindings(wanted("a"), look_again_s=3_600)
    bindings.start()
    sidecar.digest = "d5"
    bindings.saw("m", 5, "d5")
    eventually(lambda: digest_of(bindings) == "d5", "the new version is bound")
    looks = len(sidecar.looks)
    # Back again: the version of before is another one now.
    sidecar.digest = "d4"
    bindings.saw("m", 4, "d4")
    eventually(lambda: digest_of(bindings) == "d4", "the old version is bound again")
    sidecar.digest = "d5"
    bindings.saw("m", 5, "d5")
    eventually(lambda: digest_of(bindings) == "d5", "and the new one, though it was a doubt before")
    assert len(sidecar.looks) > looks
    bindings.close()


def test_a_version_that_is_never_described_is_no_endless_doubt(sidecar: Sidecar) -> None:
    """A sidecar of several may answer by what another describes: that is not asked at each tick."""
    bindings = sidecar.bindings(wanted("a"))
    doubts: list[int] = []
    bindings.refresh()
    bindings.doubt = lambda: doubts.append(1)  # type: ignore[method-assign]
    for _ in range(5):
        bindings.saw("m", 9, "d9")
        bindings.refresh()
    assert doubts == [1]
    for number in range(MAX_DOUBTED + 5):
        bindings.saw("m", number, f"x{number}")
    assert len(bindings._doubted) <= MAX_DOUBTED


def test_bindings_are_looked_at_now_and_then(sidecar: Sidecar) -> None:
    """A model that is asked nothing, for its age or its range, cannot show that it was replaced."""
    bindings = sidecar.bindings(wanted("a"), look_again_s=0.01)
    bindings.start()
    sidecar.digest = "d5"
    eventually(lambda: digest_of(bindings) == "d5", "the new version is found without a question")
    bindings.close()


def test_a_sidecar_that_is_gone_unbinds_nothing_and_binds_nothing(
    sidecar: Sidecar, caplog: pytest.LogCaptureFixture
) -> None:
    """What is bound stays bound, also over a change; what is new says why it is not."""
    bindings = sidecar.bindings(wanted("a"))
    bindings.refresh()
    sidecar.gone = True
    bindings.change([wanted("a"), wanted("new", "n")])
    bindings.refresh()
    assert digest_of(bindings) == "d4"
    binding = bindings.of("new")
    assert isinstance(binding, Unbound)
    assert binding.detail == "gone"
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_a_model_that_never_comes_delays_no_other(sidecar: Sidecar) -> None:
    """H5: where the pauses have grown long for one strategy, a doubt and each change begin them anew."""
    told: list[Description] = []

    def describe(models: Sequence[str]) -> Description:
        told.append(sidecar.describe(models))
        return told[-1]

    pauses = Backoff(BackoffOptions(first_ms=1, longest_ms=3_600_000, factor=3_600_000))
    bindings = Bindings([wanted("a"), wanted("never", "n")], describe, pauses)
    bindings.start()
    eventually(lambda: len(told) == 2, "the pauses have grown to an hour")
    sidecar.digest = "d5"
    bindings.saw("m", 5, "d5")
    eventually(lambda: digest_of(bindings) == "d5", "the new version is bound")
    eventually(lambda: len(told) == 4, "what has changed is looked at again soon")
    sidecar.models = ()
    bindings.doubt()
    eventually(lambda: len(told) == 6, "what has gone is looked for again soon")
    assert digest_of(bindings) == ""
    bindings.close()


def test_doubts_are_held_back(sidecar: Sidecar) -> None:
    """Doubts that come with each tick while a model is replaced are looked into after a pause, together."""
    pauses = Backoff(BackoffOptions(first_ms=3_600_000, longest_ms=3_600_000))
    bindings = Bindings([wanted("a")], sidecar.describe, pauses)
    bindings.start()
    for _ in range(3):
        bindings.doubt()
    bindings.close()
    assert len(sidecar.looks) == 1


def test_closed_bindings_start_no_thread(sidecar: Sidecar) -> None:
    """A change after the end starts nothing again."""
    bindings = sidecar.bindings()
    bindings.start()
    bindings.close()
    bindings.change([wanted("a")])
    assert bindings._thread.ident is None


def test_a_contract_that_contradicts_itself_unbinds_only_its_strategies() -> None:
    """More classes than meanings, as bits that flip may have it: a mismatch, and the others are bound."""
    whole = description(contract()).models["m"]
    torn = OutputMeaning("probabilities", OutputKind.PROBABILITIES, ("0", "1"), ("BUY",))
    (version,) = description(contract(outputs=(torn,))).models["m"].versions
    models = {"m": whole, "torn": replace(whole, name="torn", versions=(version,))}
    bindings = Bindings(
        [wanted("bad", "torn"), wanted("good")], lambda _models: Description(models, ready=True)
    )
    bindings.refresh()
    assert digest_of(bindings, "good") == "d4"
    bad = bindings.of("bad")
    assert isinstance(bad, Unbound)
    assert bad.reason is Reason.CONTRACT_MISMATCH
    assert bad.detail.startswith("model 'torn': the contract cannot be read: ValueError: 2 classes")


def test_a_description_that_cannot_be_read_does_not_end_the_looking(
    sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever asking the sidecar raises, it is logged, said of who is unbound, and asked again."""
    monkeypatch.setattr(sidecar, "let_go", None)  # what it raises then is no InferenceError
    bindings = sidecar.bindings(wanted("a"))
    bindings.start()
    eventually(lambda: len(sidecar.looks) > 3, "it is asked again")
    unread = bindings.of("a")
    assert isinstance(unread, Unbound)
    assert unread.reason is Reason.UNAVAILABLE
    monkeypatch.undo()
    eventually(lambda: digest_of(bindings) == "d4", "it is bound")
    bindings.close()
    assert "the sidecar's models could not be read" in caplog.text
