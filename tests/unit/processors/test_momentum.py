"""The momentum rule."""

import json
import pickle
from decimal import Decimal

import pytest
from fixtures_ticks import ticks

from strategy_client.configuration import ConfigurationError
from strategy_client.history import History
from strategy_client.processors.momentum import create_momentum_processor


def last_result(prices, **parameters):
    processor = create_momentum_processor({"lookback_periods": 3, **parameters})
    history = History(5)
    for one in ticks(prices):
        history.append(one)
        result = processor.process_tick(one, history)
    return result


def test_a_rise_above_the_threshold_buys():
    """A change above the threshold is BUY, at the tick's price, with ORIGIN's metadata."""
    result = last_result([90, "100.0", "101.0", "103.50"], momentum_threshold="0.02", position_size="7")
    assert (result.signal_type, result.quantity, result.price) == ("BUY", 7, Decimal("103.50"))
    assert result.metadata == {
        "momentum": 0.035,
        "lookback_periods": 3,
        "current_price": 103.5,
        "lookback_price": 100.0,
    }
    assert json.loads(json.dumps(result.metadata)) == result.metadata
    assert pickle.loads(pickle.dumps(result)) == result  # noqa: S301 - our own bytes


def test_a_fall_below_the_threshold_sells():
    """A change below minus the threshold is SELL."""
    assert last_result([100, 99, "97.9"]).signal_type == "SELL"


@pytest.mark.parametrize("last", ["102", "98", "100"])
def test_at_the_threshold_there_is_no_signal(last):
    """A change of just the threshold, or less, is HOLD: the rule says above, not at."""
    assert last_result([100, 100, last], momentum_threshold=0.02) is None


def test_a_short_history_is_no_signal():
    """Before the lookback is there the processor holds still."""
    assert last_result([100, 200]) is None


def test_confidence_grows_with_the_change():
    """Just above the threshold the confidence is one half, from twice the threshold on it is 1."""
    assert last_result([100, 100, 103], momentum_threshold=0.02).confidence == pytest.approx(0.75)
    assert last_result([100, 100, 300], momentum_threshold=0.02).confidence == 1.0


def test_defaults_and_aliases_are_those_of_origin():
    """ORIGIN's defaults hold, and its second names stand for the first."""
    assert create_momentum_processor({}).get_required_history_length() == 10
    assert create_momentum_processor({"lookback_period": "4"}).get_required_history_length() == 4
    assert last_result([100, 100, "102.01"], max_position_size=5).quantity == 5
    assert last_result([100, 100, "102.01"]).quantity == 100
    assert create_momentum_processor({}).get_strategy_name() == "momentum"
    assert create_momentum_processor({}).supports_instrument(256265)


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        (
            {"momentum_treshold": 1},
            r"momentum_treshold: unknown parameter \(did you mean 'momentum_threshold'",
        ),
        ({"momentum_threshold": "abc"}, "momentum_threshold: expected a number above 0, came 'abc'"),
        ({"momentum_threshold": "nan"}, "momentum_threshold: expected a number above 0, came 'nan'"),
        ({"momentum_threshold": 0}, "momentum_threshold: expected a number above 0, came 0"),
        ({"momentum_threshold": True}, "momentum_threshold: expected a number above 0, came True"),
        ({"lookback_periods": 1}, "lookback_periods: expected an integer from 2 to 10000, came 1"),
        ({"lookback_periods": 2.5}, "lookback_periods: expected an integer from 2 to 10000, came 2.5"),
        ({"position_size": None}, "position_size: expected an integer from 1 to 1000000000, came None"),
        ({"lookback_period": 3, "lookback_periods": 4}, "lookback_periods: stands twice"),
    ],
)
def test_a_wrong_parameter_is_named(parameters, said):
    """H9: each wrong name or value is one line with what was expected and what came."""
    with pytest.raises(ConfigurationError, match=said):
        create_momentum_processor(parameters)


def test_all_wrong_parameters_come_at_once():
    """H9: a user sees everything that is wrong in one go."""
    with pytest.raises(ConfigurationError) as caught:
        create_momentum_processor({"lookback": 3, "position_size": 0})
    assert [problem.place for problem in caught.value.problems] == ["lookback", "position_size"]
