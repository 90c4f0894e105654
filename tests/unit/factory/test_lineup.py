"""The strategies of a run."""

from dataclasses import replace

import pytest

from strategy_client.configuration import ConfigurationError, EmissionConfig, StrategyConfig
from strategy_client.factory import StrategyFactory
from strategy_client.lineup import create_executors, renew, wanted_models


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


def test_shadows_want_a_model_too():
    """A shadow is bound like any other learned strategy, under a name of its own."""
    shadow = {"model": "next", "features": ["price"]}
    executors = create_executors([config("l", "ml_momentum", model="up", shadow=shadow)], StrategyFactory())
    live, beside = wanted_models(executors)
    assert (live.strategy_id, live.model.name) == ("l", "up")
    assert (beside.strategy_id, beside.model.name, beside.features.names) == (
        "l (shadow)",
        "next",
        ("price",),
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"enabled": False},
        {"max_position_size": 3},
        {"active_brokers": ("paper", "zerodha")},
        {"instrument_tokens": (1, 2)},
        {"emission": EmissionConfig(edge_trigger=True)},
    ],
)
def test_a_strategy_of_the_same_logic_keeps_its_executor(changes):
    """Limits, brokers, instruments, rules of emission and the switch change without losing a history."""
    before = create_executors([config("m", "momentum")], StrategyFactory())
    changed = replace(config("m", "momentum"), **changes)
    (executor,) = renew(before, [changed], StrategyFactory())
    assert executor is before[0]
    assert executor.config == changed
    assert executor.enabled is changed.enabled
    assert executor.emission == (changed.emission if "emission" in changes else None)


def test_other_logic_is_another_executor():
    """Another type or parameter makes a strategy anew; the order is that of the configuration."""
    before = create_executors([config("a", "momentum"), config("b", "momentum")], StrategyFactory())
    configs = [config("c", "momentum"), config("b", "momentum", lookback_periods=3), config("a", "momentum")]
    after = renew(before, configs, StrategyFactory())
    assert [each.strategy_id for each in after] == ["c", "b", "a"]
    assert after[2] is before[0]
    assert after[1] is not before[1]


def test_a_renewal_that_fails_has_changed_nothing():
    """H9: one wrong strategy among others leaves all of them as they were."""
    before = create_executors([config("a", "momentum")], StrategyFactory())
    configs = [replace(config("a", "momentum"), enabled=False), config("b", "momentum", lookback_periods="x")]
    with pytest.raises(ConfigurationError, match=r"^b: parameters\.lookback_periods: expected an integer"):
        renew(before, configs, StrategyFactory())
    assert before[0].enabled
    assert before[0].config.enabled


def test_a_switch_thrown_by_hand_outlives_a_renewal_of_other_strategies():
    """What is not configured otherwise is not touched: a strategy stopped on the way stays stopped."""
    before = create_executors([config("a", "momentum")], StrategyFactory())
    before[0].enabled = False
    renew(before, [config("a", "momentum"), config("b", "momentum")], StrategyFactory())
    assert not before[0].enabled
