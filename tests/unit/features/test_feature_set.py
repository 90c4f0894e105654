"""The input row of a model."""

import numpy as np
import pytest

from strategy_client.configuration import ConfigurationError
from strategy_client.features import FeatureSet
from strategy_client.features.window import SlidingMoments, sliding_moments

NAMES = ["return_4", "price", "breakout_up_4", "history_length"]
EVERY_KIND = ["price", "return_4", "volatility_4", "zscore_4", "mean_abs_return_4", "breakout_up_4"]
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


@pytest.mark.parametrize(
    "prices",
    [[1e308] * 9, [1e308, 1.0] * 9, [1e308, 1.7e308] * 9, [5e-324, 1e308] * 9, [1e154, 1.0, 3.0] * 6],
    ids=["equal", "far apart", "near the end", "from the least", "squares"],
)
def test_prices_beyond_what_a_float_squares_are_told_as_such_without_a_warning(prices):
    """What no float holds is inf or NaN in both forms, bit for bit; no distance of 0 is made of it.

    Warnings of numpy are errors here.
    """
    features = FeatureSet(EVERY_KIND)
    stream = features.stream()
    rows = []
    for price in prices:
        stream.update(price)
        rows.append(stream.row())
    batch = features.matrix(np.array(prices))
    assert batch.tobytes() == np.array(rows).tobytes()
    scores = batch[features.first_valid_row :, EVERY_KIND.index("zscore_4")]
    if len(set(prices)) == 1:
        assert (scores == 0.0).all()
    else:
        assert not (scores == 0.0).any()


def test_a_price_beyond_a_floats_square_leaves_no_trace_behind_its_window():
    """Once it has left the window, the values are those of a series that never had it."""
    features = FeatureSet(EVERY_KIND)
    plain = 100.0 + np.arange(20.0) % 3
    odd = plain.copy()
    odd[5] = 1e308
    after = 5 + features.window
    assert features.matrix(odd)[after:].tobytes() == features.matrix(plain)[after:].tobytes()


def test_moments_of_values_whose_distance_is_beyond_a_float_have_no_deviation():
    """Values of both signs may be further apart than any float; the square is none then in either form."""
    values = np.array([-1.7e308, 1.7e308] * 5)
    moments = SlidingMoments(4)
    streamed = []
    for value in values.tolist():
        moments.push(value)
        streamed.append(moments.value())
    np.testing.assert_array_equal(np.array(streamed).T, np.array(sliding_moments(values, 4)))
    assert np.isnan(np.array(streamed)[:, 2]).all()
