"""Features over whole recorded files."""

import numpy as np
import pytest
from real_ticks import BINANCE_FILES, NSE_DAYS, binance_trades, needs_real_ticks, nse_minutes

from strategy_client.features import feature_by_name

NAMES = (
    "return_20",
    "momentum_5",
    "volatility_20",
    "price",
    "history_length",
    "zscore_20",
    "breakout_up_30",
    "breakout_down_30",
    "mean_abs_return_30",
)


def check_whole_file(prices):
    for name in NAMES:
        feature = feature_by_name(name)
        stream = feature.stream()
        streamed = []
        for price in prices:
            stream.update(price)
            streamed.append(stream.value())
        batch = feature.batch(np.array(prices))
        np.testing.assert_allclose(streamed, batch, rtol=1e-9, atol=0, equal_nan=True, err_msg=name)
        assert np.isfinite(batch[feature.window - 1 :]).all(), name


@needs_real_ticks
@pytest.mark.parametrize("name", BINANCE_FILES)
def test_streaming_is_batch_on_trades(name):
    """G3: over each recorded Binance file every feature streams what its batch form gives."""
    check_whole_file([float(trade.price) for trade in binance_trades(name)])


@needs_real_ticks
@pytest.mark.parametrize("name", NSE_DAYS)
def test_streaming_is_batch_on_minutes(name):
    """G3: over the recorded NSE minutes every feature streams what its batch form gives."""
    check_whole_file([float(minute.price) for minute in nse_minutes(name)])


@needs_real_ticks
def test_recorded_ticks_are_read_as_they_are():
    """Counts, first price and first time are those that the recordings' account states."""
    trades = list(binance_trades("spot_btcusdt_20240808"))
    assert len(trades) == 9_757
    assert str(trades[0].price) == "61837.63000000"
    assert trades[0].timestamp.isoformat() == "2024-08-08T23:54:15.343000+00:00"
    minutes = list(nse_minutes("yesbank"))
    assert len(minutes) == 377 + 376 + 377
    assert str(minutes[0].price) == "94.85"
    assert minutes[0].timestamp.isoformat() == "2019-07-09T03:45:00+00:00"
