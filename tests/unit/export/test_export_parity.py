"""How far a converted model's answer may be from the estimator's."""

import numpy as np
import pytest

from model_export.parity import Comparison, Tolerance, tolerances

NONE_UNDECIDED = np.zeros(1, dtype=np.bool_)


def fails(expected: object, came: object, tolerance: Tolerance, output: str = "value") -> bool:
    comparison = Comparison({output: tolerance}, ("a",))
    answers = [{output: np.array([value])} for value in (expected, came)]
    return bool(comparison.failures(*answers, NONE_UNDECIDED)[output][0] > 0)


def test_tolerances() -> None:
    """1e-5 for a probability; 1e-5 of itself and of the samples' spread, to three digits, for a value."""
    answers = {
        "label": np.array([0, 1]),
        "probabilities": np.array([[0.1, 0.9]]),
        "value": np.array([-1.0, 2.0 + 1e-9, 0.5]),
    }
    assert tolerances(answers) == {
        "label": Tolerance(0.0, 0.0),
        "probabilities": Tolerance(1e-5, 0.0),
        "value": Tolerance(3e-5, 1e-5),
    }


@pytest.mark.parametrize("sign", [-1, 1])
def test_an_export_keeps_within_half_of_the_tolerance(sign: int) -> None:
    """An answer may be off by half of atol + rtol * |expected|, and no more."""
    tolerance = Tolerance(atol=0.5, rtol=0.25)
    assert not fails(-2.0, -2.0 + sign * 0.49, tolerance)
    assert fails(-2.0, -2.0 + sign * 0.51, tolerance)


@pytest.mark.parametrize(
    ("expected", "came", "differs"),
    [
        (1.0, np.nan, True),
        (np.nan, 1.0, True),
        (np.nan, np.nan, False),
        (np.inf, np.inf, False),
        (np.inf, -np.inf, True),
        (np.inf, 1.0, True),
        (1.0, np.inf, True),
        (1e39, np.inf, False),
    ],
)
def test_answers_that_are_no_numbers(expected: float, came: float, differs: bool) -> None:
    """NaN fits NaN alone, infinity itself and what float32 rounds to it, whatever the tolerance."""
    assert fails(expected, came, Tolerance(atol=1e3, rtol=1e3)) == differs


def test_a_label_is_right_or_wrong() -> None:
    """A label fits an equal one, where it is asked for at all."""
    assert not fails("BUY", "BUY", Tolerance(0.0, 0.0), "label")
    assert fails("BUY", "SELL", Tolerance(0.0, 0.0), "label")
    undecided = Comparison({"label": Tolerance(0.0, 0.0)}, ("a",)).failures(
        {"label": np.array([1])}, {"label": np.array([0])}, ~NONE_UNDECIDED
    )
    assert undecided["label"][0] == 0


def test_the_worst_rows_are_named_first() -> None:
    """Differences come with the row's features by name, the worst first, five an output at most."""
    comparison = Comparison({"value": Tolerance(0.0, 0.0)}, ("speed",))
    expected, came = {"value": np.zeros(8)}, {"value": np.array([0.0, 1, 7, 3, 4, 5, 6, 2])}
    failures = comparison.failures(expected, came, np.zeros(8, dtype=np.bool_))
    rows = np.arange(8, dtype=np.float32)[:, None]
    found = comparison.differences(rows, ["sample"] * 8, expected, came, failures)
    assert [(difference.error, difference.features) for difference in found] == [
        (7, (("speed", 2.0),)),
        (6, (("speed", 6.0),)),
        (5, (("speed", 5.0),)),
        (4, (("speed", 4.0),)),
        (3, (("speed", 3.0),)),
    ]
    assert str(found[0]) == "sample row (speed=2): value is 7, the estimator answers 0 (off by 7)"
