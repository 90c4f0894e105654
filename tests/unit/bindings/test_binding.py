"""What a strategy is bound to, of one description: no thread, no sidecar."""

import math
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from fixtures_runner import FEATURES, contract, description

from strategy_client.binding import Bound, Unbound, Wanted, bind
from strategy_client.events import Reason
from strategy_client.features import FeatureSet
from strategy_client.predictor.description import Description, OutputKind, OutputMeaning, VersionState
from strategy_client.processors.model import ClassMeanings, ModelReference

WANTED = Wanted("s", ModelReference("m"), FeatureSet(FEATURES))
CLASSES = {"classes": ("0", "1"), "meanings": ("SELL", "BUY")}


def bound(**changes: Any) -> Bound:
    """Return what a strategy is bound to that asks for the model `m` with such a contract."""
    binding = bind(WANTED, description(contract(**changes)))
    assert isinstance(binding, Bound)
    return binding


def described(problem: str = "", **changes: Any) -> Description:
    """Describe the model `m` with changes to its one version."""
    model = description(contract()).models["m"]
    return Description(
        {"m": replace(model, problem=problem, versions=(replace(model.versions[0], **changes),))}, ready=True
    )


def test_of_two_outputs_of_a_kind_the_first_is_read() -> None:
    """A model may have more outputs than are read; which one is, is where they stand."""
    outputs = tuple(
        OutputMeaning(name, kind, **CLASSES)
        for name, kind in [
            ("first", OutputKind.PROBABILITIES),
            ("second", OutputKind.PROBABILITIES),
            ("label", OutputKind.LABEL),
            ("another", OutputKind.LABEL),
        ]
    )
    binding = bound(outputs=outputs)
    assert (binding.probabilities, binding.label, binding.value) == ("first", "label", "")


def test_classes_are_those_of_the_output_that_has_them() -> None:
    """An output without classes says nothing of what they mean; where none has any, nothing is told."""
    value = OutputMeaning("value", OutputKind.VALUE)
    probabilities = OutputMeaning("probabilities", OutputKind.PROBABILITIES, **CLASSES)
    assert bound(outputs=(value, probabilities)).meanings == ClassMeanings(("0", "1"), ("SELL", "BUY"))
    assert bound(outputs=(value,)).meanings is None


def test_a_model_of_other_numbers_is_a_mismatch() -> None:
    """A model that takes float64 is not what the rows of a strategy are written for."""
    binding = bind(WANTED, described(input_datatypes=("FP64",)))
    assert isinstance(binding, Unbound)
    assert binding.reason is Reason.CONTRACT_MISMATCH
    assert binding.detail == "model 'm' version 4: the model takes FP64, the strategy gives FP32"


@pytest.mark.parametrize("span", [(math.nan, math.nan), (math.nan, 1.0), (0.0, math.nan)])
def test_a_range_with_an_unknown_end_is_no_range(span: tuple[float, float]) -> None:
    """NaN at either end of a training range holds nothing back."""
    assert bound(training_ranges=(span, (0.0, 1.0))).training_ranges == ((-math.inf, math.inf), (0.0, 1.0))


def test_bindings_of_equal_ranges_share_them() -> None:
    """The comparison with a range is made once for all who share the object."""
    ranges = ((0.0, 1.0), (2.0, 3.0))
    assert bound(training_ranges=ranges).training_ranges is bound(training_ranges=ranges).training_ranges


@pytest.mark.parametrize(
    ("trained_at_ns", "expected"),
    [
        (-1, None),
        (0, None),
        (1_723_108_500_000_000_999, datetime(2024, 8, 8, 9, 15, tzinfo=UTC)),
        (10**30, None),
    ],
)
def test_the_time_of_training_is_an_instant_or_unknown(trained_at_ns: int, expected: datetime | None) -> None:
    """Nanoseconds are cut to microseconds; what no calendar holds is unknown, and raises nothing."""
    assert bound(trained_at_ns=trained_at_ns).trained_at == expected


@pytest.mark.parametrize(
    ("served", "why"),
    [
        (
            described("every version failed", state=VersionState.END, reason="bad file"),
            "every version failed",
        ),
        (described(state=VersionState.END, reason="bad file"), "bad file"),
        (described(state=VersionState.LOADING), "LOADING"),
    ],
    ids=["model", "version", "state"],
)
def test_why_a_model_is_not_ready(served: Description, why: str) -> None:
    """What is wrong with the model is said before its version's reason, and that before the state."""
    binding = bind(WANTED, served)
    assert isinstance(binding, Unbound)
    assert (binding.reason, binding.detail) == (Reason.MODEL_NOT_READY, f"model 'm': {why}")


def test_a_model_without_a_version_is_not_ready() -> None:
    """Any version will do, and there is none: that is MODEL_NOT_READY, since one may come."""
    model = replace(description(contract()).models["m"], versions=(), default_version=0)
    binding = bind(WANTED, Description({"m": model}, ready=True))
    assert isinstance(binding, Unbound)
    assert (binding.reason, binding.detail) == (Reason.MODEL_NOT_READY, "model 'm': no version available")
