"""The input row of a model."""

import numpy as np
import pytest

from strategy_client.configuration import ConfigurationError
from strategy_client.features import FeatureSet

NAMES = ["return_4", "price", "breakout_up_4", "history_length"]
PRICES = np.array([100.0, 102.0, 101.0, 104.0, 103.0, 105.0, 107.0])


def test_columns_in_the_order_of_the_names():
    """The matrix has a column for each name, in order, and float32 rows."""
    rows = FeatureSet(NAMES).matrix(PRICES)
    assert rows.dtype == np.float32
    assert rows.flags.c_contiguous
    expected = [(107 - 104) / 104, 107.0, (107 - 105) / 105, 5.0]
    assert rows[-1].tolist() == np.array(expected, np.float32).tolist()


def test_window_is_the_longest():
    """The set is ready when its longest feature is: the rows before hold NaN, those from it on do not."""
    features = FeatureSet(NAMES)
    assert features.window == 5
    assert features.first_valid_row == 4
    holds_nan = np.isnan(features.matrix(PRICES)).any(axis=1).tolist()
    assert holds_nan == [True, True, True, True, False, False, False]
    stream = features.stream()
    readiness = []
    for price in PRICES:
        stream.update(price)
        readiness.append(stream.ready)
    assert readiness == [not nan for nan in holds_nan]


def test_history_length_is_the_same_in_training_and_service():
    """ORIGIN defect 7: from the first valid row on, the length is the window and nothing else."""
    features = FeatureSet(NAMES)
    lengths = features.matrix(np.full(50, 7.0))[features.first_valid_row :, 3]
    assert set(lengths.tolist()) == {5.0}


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 0.0, -1.0])
def test_a_price_that_is_none_is_refused(wrong):
    """A price that is not finite and above 0 is refused with its place, as training would learn from it."""
    with pytest.raises(ValueError, match=r"prices\[3\]: expected a finite number above 0"):
        FeatureSet(["price"]).matrix(np.array([1.0, 2.0, 3.0, wrong]))


def test_prices_are_one_series():
    """A table of prices is refused: a feature is of one instrument."""
    with pytest.raises(ValueError, match=r"expected shape \(n,\), came \(2, 2\)"):
        FeatureSet(["price"]).matrix(np.ones((2, 2)))


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], "at least one"),
        (["price", "price"], "'price' stands twice"),
        (["prices"], "did you mean 'price'"),
    ],
)
def test_names_that_make_no_set(names, said):
    """H9: an empty list, a repeated name and an unknown one are refused."""
    with pytest.raises(ConfigurationError, match=said):
        FeatureSet(names)


def test_repr_tells_the_names_and_the_window():
    """The text of a set says what it is."""
    assert repr(FeatureSet(["price", "return_3"])) == "FeatureSet(price, return_3; window 3)"
