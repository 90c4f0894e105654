"""The traditional rules give the same from our history and from a plain list."""

import pytest
from real_ticks import binance_trades, needs_real_ticks

from strategy_client.events import MarketTick
from strategy_client.factory import StrategyFactory
from strategy_client.history import History


@needs_real_ticks
@pytest.mark.parametrize(
    ("strategy_type", "parameters"),
    [("momentum", {"momentum_threshold": "0.00005"}), ("mean_reversion", {})],
)
def test_a_plain_list_gives_the_same_signals(strategy_type, parameters):
    """On recorded trades each signal, and its numbers to 1e-9, are those from Alpha Panda's list."""
    processor = StrategyFactory().create_processor(strategy_type, parameters)
    history = History(processor.get_required_history_length())
    plain = []
    signals = 0
    for trade in binance_trades("spot_btcusdt_20240808"):
        tick = MarketTick(trade.token, trade.price, trade.timestamp)
        history.append(tick)
        plain = [*plain[-50:], tick]
        ours, theirs = processor.process_tick(tick, history), processor.process_tick(tick, plain)
        assert (ours is None) == (theirs is None)
        if ours is not None:
            signals += 1
            assert (ours.signal_type, ours.price) == (theirs.signal_type, theirs.price)
            assert theirs.metadata == pytest.approx(ours.metadata, rel=1e-9)
    assert signals > 100
