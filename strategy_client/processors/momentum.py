"""Momentum: buy what has risen, sell what has fallen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from strategy_client.events import MarketTick, SignalResult, SignalType
from strategy_client.features.feature import MAX_WINDOW
from strategy_client.features.returns import Return, ReturnStream
from strategy_client.history import Following
from strategy_client.processors.confidence import confidence
from strategy_client.processors.parameter import MAX_POSITION, integer, number, read_options


@dataclass(frozen=True, slots=True)
class MomentumOptions:
    """`momentum_threshold` is a relative change, `lookback_periods` in ticks, `position_size` in units."""

    momentum_threshold: float = number(
        0.02, aliases=("threshold",), expected="a number above 0", fits=lambda value: value > 0
    )
    lookback_periods: int = integer(10, aliases=("lookback_period",), least=2, most=MAX_WINDOW)
    position_size: int = integer(100, aliases=("max_position_size",), least=1, most=MAX_POSITION)


class MomentumProcessor:
    """m = (p - p[-L]) / p[-L], where p[-1] is the current price; m > t is BUY, m < -t is SELL.

    The confidence is that of |m| against t.
    """

    def __init__(self, options: MomentumOptions) -> None:
        self._options = options
        self._return = Following(Return(options.lookback_periods))

    def process_tick(self, tick: MarketTick, history: Sequence[MarketTick]) -> SignalResult | None:
        """Return BUY or SELL, or None; see `StrategyProcessor`."""
        stream = self._return.on(history)
        momentum = stream.value()
        threshold = self._options.momentum_threshold
        if momentum > threshold:
            return self._signal("BUY", tick, momentum, stream)
        if momentum < -threshold:
            return self._signal("SELL", tick, momentum, stream)
        return None

    def get_required_history_length(self) -> int:
        """Return the lookback; it counts the current tick."""
        return self._options.lookback_periods

    def supports_instrument(self, token: int) -> bool:  # noqa: ARG002 - prices are all it needs
        """Take any instrument."""
        return True

    def get_strategy_name(self) -> str:
        """Return "momentum"."""
        return "momentum"

    def _signal(
        self, side: SignalType, tick: MarketTick, momentum: float, stream: ReturnStream
    ) -> SignalResult:
        options = self._options
        return SignalResult(
            signal_type=side,
            confidence=confidence(momentum, options.momentum_threshold),
            quantity=options.position_size,
            price=tick.last_price,
            reasoning=f"{momentum:+.4%} over {options.lookback_periods} ticks",
            metadata={
                "momentum": momentum,
                "lookback_periods": options.lookback_periods,
                "current_price": float(tick.last_price),
                "lookback_price": stream.oldest(),
            },
        )

    def __repr__(self) -> str:
        return f"MomentumProcessor({self._options})"


def create_momentum_processor(config: Mapping[str, Any]) -> MomentumProcessor:
    """Make the processor from its parameters; raises ConfigurationError."""
    return MomentumProcessor(read_options(MomentumOptions, config))
