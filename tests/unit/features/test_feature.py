"""The definitions, on numbers that can be worked out by hand."""

import itertools
import math
import re
import statistics

import numpy as np
import pytest
from fixtures_ticks import ticks

from strategy_client.configuration import ConfigurationError
from strategy_client.features import feature_by_name
from strategy_client.features.feature import MAX_WINDOW
from strategy_client.history import History

PRICES = [100.0, 102.0, 101.0, 104.0, 103.0]


def batch(name, prices=PRICES):
    return feature_by_name(name).batch(np.array(prices)).tolist()


@pytest.mark.parametrize("name", ["return_3", "momentum_3"])
def test_return_counts_the_current_tick(name):
    """The return over 3 ticks compares the current price with the one two ticks before it."""
    assert batch(name)[2:] == [(101 - 100) / 100, (104 - 102) / 102, (103 - 101) / 101]


def test_zscore_takes_the_sample_deviation():
    """The z-score divides by the standard deviation with ddof 1, as ORIGIN's table says."""
    window = PRICES[-4:]
    expected = (window[-1] - statistics.mean(window)) / statistics.stdev(window)
    assert batch("zscore_4")[-1] == pytest.approx(expected, rel=1e-12)


def test_volatility_is_of_one_tick_returns():
    """Volatility over n ticks is the sample deviation of the n - 1 returns between them."""
    returns = [(b - a) / a for a, b in itertools.pairwise(PRICES)]
    assert batch("volatility_4")[-1] == pytest.approx(statistics.stdev(returns[-3:]), rel=1e-12)


def test_mean_abs_return_is_of_one_tick_returns():
    """The mean size is over the n - 1 returns between n ticks."""
    returns = [abs(b - a) / a for a, b in itertools.pairwise(PRICES)]
    assert batch("mean_abs_return_3")[-1] == pytest.approx(statistics.mean(returns[-2:]), rel=1e-12)


def test_breakout_leaves_the_current_tick_out_of_the_range():
    """A new high gives a value above 0, which it never could if the range held the current tick."""
    assert batch("breakout_up_2")[2:] == [(101 - 102) / 102, (104 - 102) / 102, (103 - 104) / 104]
    assert batch("breakout_down_2", [100.0, 102.0, 99.0])[2:] == [(100 - 99) / 100]


def test_price_and_history_length():
    """The price is itself; the history's length stops at its limit."""
    assert batch("price") == PRICES
    assert batch("history_length") == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    "name",
    ["return_4", "volatility_4", "zscore_4", "breakout_up_3", "breakout_down_3", "mean_abs_return_4"],
)
def test_warm_up_is_nan_until_the_window_is_full(name):
    """Each of these looks at 4 ticks: in both forms the first three values are NaN, no other."""
    feature = feature_by_name(name)
    stream = feature.stream()
    streamed = []
    for price in PRICES:
        stream.update(price)
        streamed.append(stream.value())
    assert feature.window == 4
    for values in (batch(name), streamed):
        assert [math.isnan(value) for value in values] == [True, True, True, False, False]


@pytest.mark.parametrize("name", ["price", "return_2", "volatility_3", "zscore_2", "breakout_up_1"])
def test_nothing_yet_is_nan(name):
    """A stream that has seen no price answers NaN, and an empty series has no values."""
    assert math.isnan(feature_by_name(name).stream().value())
    assert batch(name, []) == []


@pytest.mark.parametrize(
    "name", ["zscore_3", "volatility_3", "return_3", "mean_abs_return_3", "breakout_up_2"]
)
def test_equal_prices_give_zero(name):
    """A window without any variance gives exactly 0: no division by nothing, no rounding left over."""
    assert batch(name, [0.1, 7.3, 7.3, 7.3, 7.3])[-1] == 0.0


def test_a_departed_spike_leaves_no_trace():
    """Prices a million times larger, once out of the window, change no digit of what follows."""
    quiet = [100.0, 100.01, 100.02, 99.99, 100.0, 100.03, 100.01, 100.02, 100.04, 100.0]
    spiked = [1e8, 1e8 + 1, *quiet]
    for name in ("zscore_4", "volatility_4", "mean_abs_return_4"):
        exact = batch(name, quiet)[-1]
        assert batch(name, spiked)[-1] == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("zcore_20", "zscore_20"),
        ("prize", "price"),
        ("breakup_up_3", "breakout_up_3"),
        ("zscore", "zscore_20"),
    ],
)
def test_unknown_name_gets_the_nearest(name, nearest):
    """H9: a feature name that is not known is answered with the nearest one that is."""
    with pytest.raises(ConfigurationError, match=re.escape(f"did you mean {nearest!r}?")):
        feature_by_name(name)


@pytest.mark.parametrize("name", ["volatility_2", "return_1", "zscore_1", f"zscore_{MAX_WINDOW + 1}"])
def test_a_number_of_ticks_has_bounds(name):
    """H9: too few ticks for the definition, or more than the bound, is refused with both bounds named."""
    with pytest.raises(ConfigurationError, match=f"expected a number of ticks from . to {MAX_WINDOW}"):
        feature_by_name(name)


def test_own_feature_by_its_path():
    """A user's class is a feature by its path, made without a number or with the one in brackets."""
    assert feature_by_name("fixtures_features:Spread").window == 2
    assert batch("fixtures_features:Spread(3)", [1.0, 2.0, 4.0])[-1] == 0.75


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("no_such_module:Spread", "cannot be imported"),
        ("math:Spread", "cannot be imported"),
        ("datetime:timedelta", "is no feature: it has no window, stream, batch"),
        ("fixtures_features:Touchy(3)", "cannot be made: TypeError: "),
    ],
)
def test_own_feature_that_is_none(name, said):
    """H9: a path that leads nowhere, or to something else, says so."""
    with pytest.raises(ConfigurationError, match=said):
        feature_by_name(name)


def test_a_history_answers_by_name():
    """A history gives a named feature at its last tick."""
    history = History(10)
    for one in ticks(PRICES):
        history.append(one)
    assert history.feature("return_3") == batch("return_3")[-1]
