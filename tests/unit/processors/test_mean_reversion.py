"""The mean reversion rule."""

import json
import statistics
from decimal import Decimal

import pytest
from fixtures_ticks import ticks

from strategy_client.history import History
from strategy_client.processors.mean_reversion import create_mean_reversion_processor


def last_result(prices, **parameters):
    processor = create_mean_reversion_processor({"window_size": 4, "entry_threshold": "1.4", **parameters})
    history = History(5)
    for one in ticks(prices):
        history.append(one)
        result = processor.process_tick(one, history)
    return result


def test_far_above_the_mean_sells():
    """A z above the threshold is SELL, at the tick's price, with ORIGIN's metadata."""
    prices = [100.0, 101.0, 100.0, 110.0]
    result = last_result([50, *prices])
    assert (result.signal_type, result.quantity, result.price) == ("SELL", 100, Decimal("110.0"))
    mean, std = statistics.mean(prices), statistics.stdev(prices)
    assert result.metadata == pytest.approx(
        {"z_score": (110 - mean) / std, "price_mean": mean, "price_std": std}, rel=1e-12
    )
    assert json.loads(json.dumps(result.metadata)) == result.metadata
    assert result.confidence == pytest.approx((110 - mean) / std / 2.8)


def test_far_below_the_mean_buys():
    """A z below minus the threshold is BUY."""
    assert last_result([100, 101, 100, 90]).signal_type == "BUY"


def test_within_the_threshold_is_no_signal():
    """Between the thresholds the processor holds still."""
    assert last_result([100, 101, 100, 101]) is None


def test_equal_prices_are_no_signal():
    """A window without variance has no z-score to act on."""
    assert last_result([7.3, 7.3, 7.3, 7.3]) is None


def test_a_short_history_is_no_signal():
    """Before the lookback is there the processor holds still."""
    assert last_result([100, 100, 200]) is None


def test_defaults_are_those_of_origin():
    """Twenty ticks, two deviations, a hundred units."""
    processor = create_mean_reversion_processor({})
    assert processor.get_required_history_length() == 20
    assert processor.get_strategy_name() == "mean_reversion"
    assert "std_deviation_threshold=2.0, lookback_periods=20, position_size=100" in repr(processor)
    for alias in ("std_deviation_threshold", "std_dev_threshold", "entry_threshold"):
        assert "std_deviation_threshold=3.0" in repr(create_mean_reversion_processor({alias: "3"}))
    for alias in ("lookback_periods", "lookback_period", "window_size"):
        assert create_mean_reversion_processor({alias: 5}).get_required_history_length() == 5
