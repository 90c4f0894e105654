"""Parameters as Alpha Panda's own files write them."""

import sys

import pytest

from strategy_client.configuration import ConfigurationError
from strategy_client.factory import StrategyFactory


@pytest.fixture
def alpha_panda(tmp_path, monkeypatch):
    """A folder that stands for Alpha Panda's own implementations, and can be imported until the test ends."""
    folder = tmp_path / "strategies" / "implementations"
    folder.mkdir(parents=True)
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == "strategies"]:
        del sys.modules[name]


def create(strategy_type, **parameters):
    return StrategyFactory().create_processor(strategy_type, parameters)


def test_the_threshold_of_its_momentum_is_ours():
    """`threshold` is the relative change that `momentum_threshold` is, and both at once are refused."""
    assert repr(create("momentum", threshold=0.012)) == repr(create("momentum", momentum_threshold=0.012))
    with pytest.raises(ConfigurationError, match="stands twice: 'momentum_threshold' is another name"):
        create("momentum", threshold=0.012, momentum_threshold=0.01)


@pytest.mark.parametrize("name", ["rsi_period", "rsi_oversold", "rsi_overbought", "bollinger_std"])
def test_a_parameter_of_another_rule_is_refused(name):
    """H9: what belongs to another mean reversion is not dropped, and the text says what to write."""
    with pytest.raises(ConfigurationError) as caught:
        create("mean_reversion", **{name: 14})
    (problem,) = caught.value.problems
    assert problem.place == f"parameters.{name}"
    assert "write std_deviation_threshold in its place" in problem.text
    assert "strategies.implementations.mean_reversion.create_mean_reversion_processor" in problem.text


def test_the_feature_count_is_compared():
    """A configuration for as many features as the strategy has is taken."""
    assert len(create("ml_momentum", model="m", expected_feature_count=5).features.names) == 5
    assert len(create("ml_breakout", model="m", expected_feature_count="4").features.names) == 4


def test_another_feature_count_is_refused_at_the_start():
    """H9: a strategy of four features that is configured for five says so before it silently never fires."""
    with pytest.raises(ConfigurationError) as caught:
        create("ml_breakout", model="m", expected_feature_count=5)
    (problem,) = caught.value.problems
    assert problem.place == "parameters.expected_feature_count"
    assert problem.text == (
        "expected 4, as many as its features (breakout_up_30, breakout_down_30, mean_abs_return_30, price), "
        "came 5"
    )


@pytest.mark.parametrize("name", ["rsi", "hybrid_momentum", "hybrid_mean_reversion", "low_frequency_demo"])
def test_a_type_that_only_alpha_panda_has(name):
    """H9: a type of Alpha Panda's own is named as such, with what to do where it is not installed."""
    with pytest.raises(ConfigurationError) as caught:
        create(name)
    (problem,) = caught.value.problems
    assert problem.place == "strategy_type"
    assert problem.text.startswith(f"{name!r} is a type of Alpha Panda's own")
    assert f"strategies.implementations.{name}.create_{name}_processor" in problem.text
    assert "PYTHONPATH=." in problem.text
    assert "or the path of a function, module.create_x_processor" in problem.text


def test_a_type_of_alpha_panda_runs_where_it_is_installed(alpha_panda):
    """Where Alpha Panda can be imported, its own function makes the processors of its own types."""
    (alpha_panda / "rsi.py").write_text(
        "from strategy_client.processors.momentum import create_momentum_processor\n"
        "def create_rsi_processor(config):\n"
        "    return create_momentum_processor({'lookback_periods': config['rsi_period']})\n"
    )
    assert create("rsi", rsi_period=7).get_required_history_length() == 7


def test_a_rule_of_alpha_pandas_runs_where_it_is_installed(alpha_panda):
    """Parameters that can only mean Alpha Panda's mean reversion get it; with one of ours beside, neither."""
    (alpha_panda / "mean_reversion.py").write_text(
        "from strategy_client.processors.momentum import create_momentum_processor\n"
        "def create_mean_reversion_processor(config):\n"
        "    return create_momentum_processor({'lookback_periods': config['rsi_period']})\n"
    )
    theirs = create("mean_reversion", rsi_period=7, lookback_periods=20)
    assert theirs.get_required_history_length() == 7
    assert create("mean_reversion", lookback_periods=20).get_required_history_length() == 20
    with pytest.raises(ConfigurationError, match="write std_deviation_threshold in its place"):
        create("mean_reversion", rsi_period=7, std_deviation_threshold=2)
