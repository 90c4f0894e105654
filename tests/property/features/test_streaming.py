"""Streaming features are batch features, whatever the prices do."""

import math
import os
import statistics
from fractions import Fraction

import numpy as np
import pytest
from fixtures_ticks import tick
from fixtures_walks import names, walks, windowed_names
from hypothesis import given
from hypothesis import strategies as st

from strategy_client.features import FeatureSet, feature_by_name
from strategy_client.history import History, follow


def streamed(feature, prices):
    stream = feature.stream()
    values = []
    for price in prices:
        stream.update(price)
        values.append(stream.value())
    return values


@given(names, walks())
def test_streaming_is_batch(name, prices):
    """G3: each value of the stream is that of the batch form, NaN for NaN."""
    feature = feature_by_name(name)
    batch = feature.batch(np.array(prices, dtype=np.float64))
    # Bit for bit: both forms do the same operations in the same order, so 1e-9 is not even needed.
    np.testing.assert_array_equal(streamed(feature, prices), batch)


@given(st.lists(names, min_size=1, max_size=5, unique=True), walks())
def test_rows_are_the_matrix(chosen, prices):
    """G3: the rows that a stream writes are the rows of the matrix, and it is ready where they are whole."""
    features = FeatureSet(chosen)
    matrix = features.matrix(np.array(prices, dtype=np.float64))
    stream = features.stream()
    for index, price in enumerate(prices):
        stream.update(price)
        np.testing.assert_array_equal(stream.row(), matrix[index])
        assert stream.ready == (index >= features.first_valid_row)


def exact_zscore(prices):
    exact = [Fraction(price) for price in prices]
    deviation = statistics.stdev(exact)
    return float((exact[-1] - statistics.mean(exact)) / Fraction(deviation)) if deviation else 0.0


@given(st.integers(2, 25), walks(least=25))
def test_zscore_parts_are_those_of_exact_arithmetic(window, prices):
    """Mean and deviation are those of exact arithmetic over the window, also after a jump has left it."""
    stream = feature_by_name(f"zscore_{window}").stream()
    for price in prices:
        stream.update(price)
    mean, std = stream.mean_and_std()
    inside = prices[-window:]
    assert mean == pytest.approx(statistics.mean(inside), rel=1e-13)
    assert std == pytest.approx(statistics.stdev(inside), rel=1e-12)
    assert stream.value() == pytest.approx(exact_zscore(inside), rel=1e-9, abs=1e-12)
    assert (std == 0.0) == (len(set(inside)) == 1)


@given(st.integers(1, 25), walks(least=26))
def test_breakouts_are_those_of_the_plain_definition(ticks_before, prices):
    """The extreme is the largest or smallest of the ticks before the current one."""
    before = prices[-ticks_before - 1 : -1]
    up = streamed(feature_by_name(f"breakout_up_{ticks_before}"), prices)[-1]
    down = streamed(feature_by_name(f"breakout_down_{ticks_before}"), prices)[-1]
    assert up == (prices[-1] - max(before)) / max(before)
    assert down == (min(before) - prices[-1]) / min(before)


@given(windowed_names, walks(least=30))
def test_a_plain_list_gives_what_a_history_gives(name, prices):
    """A feature over Alpha Panda's list, made on the fly, is that of our history, to 1e-9."""
    feature = feature_by_name(name)
    history = History(40)
    for price in prices:
        history.append(tick(price))
        history.feature(name)
    plain = follow(list(history), feature).value()
    assert plain == pytest.approx(history.feature(name), rel=1e-9, abs=1e-14)


@given(walks(least=30), walks(least=30))
def test_two_instruments_are_two_runs(first, second):
    """ORIGIN defect 1: instruments that take turns give the values of two separate runs."""
    features = FeatureSet(["zscore_7", "return_5", "breakout_up_6"])
    together = {1: History(10), 2: History(10)}
    for mine, other in zip(first, second, strict=False):
        for token, price in ((1, mine), (2, other)):
            together[token].append(tick(price, token))
            together[token].follow(features)
    count = min(len(first), len(second))
    for token, prices in ((1, first), (2, second)):
        row = together[token].follow(features).row()
        alone = features.matrix(np.array([float(tick(price).last_price) for price in prices[:count]]))
        np.testing.assert_array_equal(row, alone[-1])


def drift_after(count):
    """Stream `count` prices with jumps; yield each last value and that of the window alone."""
    rng = np.random.default_rng(11)
    walk = 60_000 + np.round(np.cumsum(rng.normal(0, 0.5, count)), 2)
    walk = np.abs(walk) + 1
    walk[::100_003] *= 1e6
    prices = walk.tolist()
    chosen = ["zscore_20", "volatility_20", "mean_abs_return_30"]
    for name in chosen:
        feature = feature_by_name(name)
        stream = feature.stream()
        update = stream.update
        for price in prices:
            update(price)
        fresh = feature.stream()
        for price in prices[-feature.window :]:
            fresh.update(price)
        yield name, stream.value(), fresh.value()


def test_nothing_drifts_over_a_million_ticks():
    """G5: after 1,000,000 ticks with jumps of 1e6, a feature is what it is over its window alone, to 1e-9.

    Takes a few seconds: a drift shows only over a long run.
    """
    for name, long_run, window_alone in drift_after(1_000_000):
        assert math.isfinite(long_run)
        assert long_run == pytest.approx(window_alone, rel=1e-9), name


@pytest.mark.slow
@pytest.mark.skipif(
    "TICKSERVE_SLOW" not in os.environ, reason="ten seconds or more: set TICKSERVE_SLOW=1 to run it"
)
def test_nothing_drifts_over_ten_million_ticks():
    """G5: the same after 10,000,000 ticks."""
    for name, long_run, window_alone in drift_after(10_000_000):
        assert long_run == pytest.approx(window_alone, rel=1e-9), name
