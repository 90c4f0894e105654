"""The strategies of a run."""

import pytest

from strategy_client.configuration import ConfigurationError, StrategyConfig
from strategy_client.factory import StrategyFactory
from strategy_client.lineup import create_executors, wanted_models


def config(strategy_id, strategy_type, **parameters):
    """Return a configuration."""
    return StrategyConfig(strategy_id, strategy_type, parameters, ("paper",), (1,))


def test_learned_ones_say_what_they_want():
    """Only learned strategies want a model: its name, version and their features."""
    executors = create_executors(
        [config("m", "momentum"), config("l", "ml_momentum", model="up", model_version=3)], StrategyFactory()
    )
    (wanted,) = wanted_models(executors)
    assert (wanted.strategy_id, wanted.model.name, wanted.model.version) == ("l", "up", 3)
    assert wanted.features.names[0] == "return_20"


def test_endpoint_of_a_strategys_own_is_refused():
    """H9: an endpoint that nothing would ask is an error, never ignored."""
    with pytest.raises(ConfigurationError, match=r"^l: parameters\.endpoint: a runner asks one sidecar"):
        create_executors([config("l", "ml_momentum", model="up", endpoint="unix:/x")], StrategyFactory())


def test_problem_names_its_strategy():
    """H9: what is wrong with one of many strategies begins with its id."""
    with pytest.raises(ConfigurationError, match=r"^m: parameters\.lookback_periods: expected an integer"):
        create_executors([config("m", "momentum", lookback_periods="x")], StrategyFactory())
