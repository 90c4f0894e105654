"""Processors made ahead of a change."""

from dataclasses import replace

import pytest
from live_parts import BUYER, buyer

from strategy_client.configuration import ConfigurationError
from strategy_client.live.prepared_factory import PreparedFactory
from strategy_client.store.store import StrategySet


def test_each_strategy_gets_a_processor_of_its_own() -> None:
    """Two strategies of equal parameters share no processor, prepared or not; what stays is not made anew."""
    factory = PreparedFactory()
    before = StrategySet((buyer("stays"),))
    factory.prepare(before, StrategySet((buyer("stays"), buyer("a"), buyer("b"))))
    prepared = [processor for _, _, processor in factory._prepared]
    assert len(prepared) == 2
    made = [factory.create_processor(BUYER, {}) for _ in range(3)]
    assert made[:2] == prepared
    assert len({id(processor) for processor in made}) == 3


def test_prepared_for_other_parameters_is_not_given() -> None:
    """A change that came to nothing leaves no processor for another one."""
    factory = PreparedFactory()
    factory.prepare(StrategySet(()), StrategySet((buyer("a", supports=2),)))
    assert factory.create_processor(BUYER, {}).supports_instrument(1)
    assert not factory.create_processor(BUYER, {"supports": 2}).supports_instrument(1)


def test_what_cannot_be_made_is_told() -> None:
    """A wrong type is a ConfigurationError, as where nothing is prepared."""
    wrong = StrategySet((replace(buyer("a"), strategy_type="momentun"),))
    with pytest.raises(ConfigurationError, match="unknown strategy type"):
        PreparedFactory().prepare(StrategySet(()), wrong)
