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


@pytest.mark.parametrize(("targets", "known"), [([], "none, the run starts"), (["unix:/y"], "unix:/y")])
def test_endpoint_that_is_no_target_is_refused(targets, known):
    """H9: an endpoint that nothing would ask is an error, never ignored."""
    executors = create_executors(
        [config("l", "ml_momentum", model="up", endpoint="unix:/x")], StrategyFactory()
    )
    told = rf"^l: parameters\.endpoint: 'unix:/x' is none of this run's targets \({known}.*--target"
    with pytest.raises(ConfigurationError, match=told):
        wanted_models(executors, targets)


def test_endpoint_that_is_a_target_is_taken():
    """A strategy may name the sidecar that it is asked of anyway."""
    executors = create_executors(
        [config("l", "ml_momentum", model="up", endpoint="unix:/x")], StrategyFactory()
    )
    (wanted,) = wanted_models(executors, ["unix:/y", "unix:/x"])
    assert wanted.model.endpoint == "unix:/x"


def test_problem_names_its_strategy():
    """H9: what is wrong with one of many strategies begins with its id."""
    with pytest.raises(ConfigurationError, match=r"^m: parameters\.lookback_periods: expected an integer"):
        create_executors([config("m", "momentum", lookback_periods="x")], StrategyFactory())
