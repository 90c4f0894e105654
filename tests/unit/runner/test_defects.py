"""The defects of the runner that this one grew out of, one test each; each is a reason for this product.

Of 10 (a wall-clock gate on market hours), 11 (naive local times read as UTC) and 13 (instruments looked up by
symbol) the reading half is in tests/unit/sources; here is the loop's.
"""

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from fixtures_runner import (
    FEATURES,
    LearnedScripted,
    Scripted,
    buys,
    config,
    contract,
    last,
    learned_runner,
    reasons,
)
from fixtures_ticks import OPEN, tick, ticks

from strategy_client.configuration import EmissionConfig, StrategyConfig
from strategy_client.events import MarketTick, NoSignal, Reason, Signal, SignalResult
from strategy_client.executor import StrategyExecutor
from strategy_client.factory import StrategyFactory
from strategy_client.features import FeatureSet, feature_by_name
from strategy_client.lineup import create_executors
from strategy_client.predictor.port import Refusal
from strategy_client.processors.model import ModelReference
from strategy_client.runner import StrategyRunner


def test_1_histories_are_of_one_instrument() -> None:
    """Defect 1 of the runner this grew out of: one stock's price is never compared with another's."""
    parameters = {"lookback_periods": 2, "momentum_threshold": 0.5}
    configs = [StrategyConfig("m", "momentum", parameters, ("paper",), (1, 2))]
    runner = StrategyRunner(create_executors(configs, StrategyFactory()))
    feed = [tick(price, token) for price, token in ((100, 1), (9_000, 2), (101, 1), (9_001, 2))]
    came = [reasons(runner.process(each))[0] for each in feed]
    assert came == [Reason.WARMING_UP, Reason.WARMING_UP, Reason.HOLD, Reason.HOLD]


def test_2_nothing_is_asked_while_warming_up() -> None:
    """Defect 2 of the runner this grew out of: no row of zeros is ever scored."""
    runner, predictor, _ = learned_runner({"l": LearnedScripted()})
    assert [reasons(runner.process(each)) for each in ticks([1, 2])] == [[Reason.WARMING_UP]] * 2
    assert predictor.requests == []


def test_3_price_is_the_ticks() -> None:
    """Defect 3 of the runner this grew out of: the price is the tick's, not that of a float32 row."""
    runner, _, _ = learned_runner({"l": LearnedScripted()})
    (outcome,) = last(runner, ["61837.61", "61837.62", "61837.63"])
    assert isinstance(outcome, Signal)
    assert outcome.price == Decimal("61837.63")
    assert outcome.metadata["features"]["price"] != 61837.63


@pytest.mark.parametrize("name", ["return_3", "momentum_5", "volatility_4", "zscore_4", "breakout_up_3"])
def test_4_a_feature_is_one_definition(name: str) -> None:
    """Defect 4 of the runner this grew out of: training and service work out the same, to the bit."""
    prices = np.array([100.0, 101.5, 99.25, 102.0, 102.5, 98.0, 103.0])
    stream = feature_by_name(name).stream()
    streamed = []
    for price in prices.tolist():
        stream.update(price)
        streamed.append(stream.value())
    np.testing.assert_array_equal(streamed, feature_by_name(name).batch(prices))


def test_5_features_that_are_not_the_contracts_say_so() -> None:
    """Defect 5 of the runner this grew out of: four features for a model of five is a reason at each tick."""
    served = contract(feature_names=(*FEATURES, "zscore_5"))
    runner, predictor, _ = learned_runner({"l": LearnedScripted()}, served=served)
    (outcome,) = last(runner)
    assert isinstance(outcome, NoSignal)
    assert outcome.reason is Reason.CONTRACT_MISMATCH
    assert "the strategy gives 2 features, the contract takes 3; 'zscore_5'" in outcome.detail
    assert predictor.requests == []


def test_6_a_breakout_is_above_the_ticks_before() -> None:
    """Defect 6 of the runner this grew out of: a new high is above 0, and the contract says of what."""
    stream = FeatureSet(["breakout_up_2"]).stream()
    for price in (100.0, 101.0, 111.1):
        stream.update(price)
    assert stream.row().tolist() == [pytest.approx(0.1)]
    served = contract(includes_current_tick=False)
    runner, _, _ = learned_runner({"l": LearnedScripted()}, served=served)
    assert reasons(last(runner)) == [Reason.CONTRACT_MISMATCH]


def test_7_what_differs_from_training_is_counted_and_refused() -> None:
    """Defect 7 of the runner this grew out of: what differs from training is refused and counted."""
    served = contract(training_ranges=((1.0, 50.0), (-1.0, 1.0)))
    runner, _, _ = learned_runner({"l": LearnedScripted()}, served=served)
    assert reasons(last(runner, [100, 100, 100])) == [Reason.OUT_OF_RANGE]
    assert runner.drift["l"].above == {"price": 1}


def test_8_every_failure_is_an_outcome() -> None:
    """Defect 8 of the runner this grew out of: what fails is counted by its reason, never passed over."""

    def fails(now: MarketTick, history: Sequence[MarketTick]) -> Any:
        raise OSError

    refuses = learned_runner(
        {"l": LearnedScripted()},
        lambda _: Refusal(Reason.UNAVAILABLE, "gone"),
        extra=[StrategyExecutor(Scripted(fails), config("t"))],
    )[0]
    last(refuses)
    assert [executor.counts for executor in refuses.executors] == [
        {"WARMING_UP": 2, "UNAVAILABLE": 1},
        {"PROCESSOR_ERROR": 3},
    ]


def test_9_one_request_a_tick() -> None:
    """Defect 9 of the runner this grew out of: fifty learned strategies of two versions ask once a tick."""
    processors = {f"s{i}": LearnedScripted(ModelReference("m", version=i % 2 * 4)) for i in range(50)}
    runner, predictor, _ = learned_runner(processors)
    assert reasons(last(runner)) == ["BUY"] * 50
    assert len(predictor.requests) == 1


def test_10_the_clock_is_the_ticks() -> None:
    """Defect 10 of the runner this grew out of: a recorded tick of a Sunday night is a tick."""
    runner = StrategyRunner([StrategyExecutor(Scripted(buys), config("s"))])
    assert reasons(runner.process(replace(tick(1), timestamp=OPEN.replace(year=1999, hour=3)))) == ["BUY"]


def test_11_a_time_without_a_zone_is_no_time() -> None:
    """Defect 11 of the runner this grew out of: a naive time is refused, never read as UTC."""
    runner = StrategyRunner([StrategyExecutor(Scripted(buys), config("s"))])
    naive = replace(tick(1), timestamp=OPEN.replace(tzinfo=None))
    assert reasons(runner.process(naive)) == [Reason.STALE_TICK]


def test_12_a_signal_can_be_told_to_go_out_once() -> None:
    """Defect 12 of the runner this grew out of: repeats are held back where a strategy asks for it."""
    rules = EmissionConfig(edge_trigger=True)
    runner = StrategyRunner(
        [
            StrategyExecutor(Scripted(buys), config("once", emission=rules)),
            StrategyExecutor(Scripted(buys), config("always")),
        ]
    )
    assert [reasons(runner.process(each)) for each in ticks([1, 1])] == [["BUY", "BUY"], [Reason.HOLD, "BUY"]]


def test_13_an_instrument_is_its_token() -> None:
    """Defect 13 of the runner this grew out of: a wrong or missing symbol changes nothing."""
    runner = StrategyRunner([StrategyExecutor(Scripted(buys), config("s"))])
    came = [reasons(runner.process(replace(tick(1), symbol=symbol))) for symbol in (None, "X", "")]
    assert came == [["BUY"]] * 3


def test_14_metadata_is_merged() -> None:
    """Defect 14 of the runner this grew out of: a rule around a model keeps what both of them know."""

    def rule_and_model(now: MarketTick, features: Any, prediction: Any) -> SignalResult:
        return SignalResult("BUY", 0.9, 1, now.last_price, metadata={"rule": "trend", "z_score": 2.5})

    runner, _, _ = learned_runner({"l": LearnedScripted(interpreted=rule_and_model)})
    (outcome,) = last(runner)
    assert outcome.metadata["rule"] == "trend"
    assert outcome.metadata["z_score"] == 2.5
    assert (outcome.metadata["model"], outcome.metadata["probability"]) == ("m", 0.75)
