"""Mean reversion: sell what stands far above its mean, buy what stands far below."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from strategy_client.events import MarketTick, SignalResult, SignalType
from strategy_client.features.feature import MAX_WINDOW
from strategy_client.features.level import ZScore, ZScoreStream
from strategy_client.history import Following
from strategy_client.processors.confidence import confidence
from strategy_client.processors.parameter import MAX_POSITION, integer, number, read_options

RULE_OF_ALPHA_PANDA: Final = "strategies.implementations.mean_reversion.create_mean_reversion_processor"
ELSEWHERE: Final = dict.fromkeys(
    ("rsi_period", "rsi_oversold", "rsi_overbought", "bollinger_std"),
    "belongs to Alpha Panda's rule of RSI and Bollinger bands, which is not this one of standard deviations: "
    "write std_deviation_threshold in its place, or begin this where Alpha Panda lies, with PYTHONPATH=., "
    f"without parameters of this rule beside it, so that {RULE_OF_ALPHA_PANDA} runs",
)
_OF_BOTH_RULES: Final = frozenset({"lookback_periods", "position_size"})


@dataclass(frozen=True, slots=True)
class MeanReversionOptions:
    """The threshold is in sample standard deviations, the lookback in ticks, the size in units."""

    std_deviation_threshold: float = number(
        2.0,
        aliases=("std_dev_threshold", "entry_threshold"),
        expected="a number above 0",
        fits=lambda value: value > 0,
    )
    lookback_periods: int = integer(20, aliases=("lookback_period", "window_size"), least=2, most=MAX_WINDOW)
    position_size: int = integer(100, least=1, most=MAX_POSITION)


class MeanReversionProcessor:
    """z of the current price in its last L, itself among them; z > t is SELL, z < -t is BUY.

    Where all L prices are equal z is 0, which is no signal. The confidence is that of |z| against t.
    """

    def __init__(self, options: MeanReversionOptions) -> None:
        self._options = options
        self._zscore = Following(ZScore(options.lookback_periods))

    def process_tick(self, tick: MarketTick, history: Sequence[MarketTick]) -> SignalResult | None:
        """Return BUY or SELL, or None; see `StrategyProcessor`."""
        stream = self._zscore.on(history)
        z_score = stream.value()
        threshold = self._options.std_deviation_threshold
        if z_score > threshold:
            return self._signal("SELL", tick, z_score, stream)
        if z_score < -threshold:
            return self._signal("BUY", tick, z_score, stream)
        return None

    def get_required_history_length(self) -> int:
        """Return the lookback; it counts the current tick."""
        return self._options.lookback_periods

    def supports_instrument(self, token: int) -> bool:  # noqa: ARG002 - prices are all it needs
        """Take any instrument."""
        return True

    def get_strategy_name(self) -> str:
        """Return "mean_reversion"."""
        return "mean_reversion"

    def _signal(
        self, side: SignalType, tick: MarketTick, z_score: float, stream: ZScoreStream
    ) -> SignalResult:
        options = self._options
        mean, std = stream.mean_and_std()
        return SignalResult(
            signal_type=side,
            confidence=confidence(z_score, options.std_deviation_threshold),
            quantity=options.position_size,
            price=tick.last_price,
            reasoning=f"{z_score:+.2f} standard deviations from the mean of {options.lookback_periods} ticks",
            metadata={"z_score": z_score, "price_mean": mean, "price_std": std},
        )

    def __repr__(self) -> str:
        return f"MeanReversionProcessor({self._options})"


def is_rule_of_alpha_panda(config: Mapping[str, Any]) -> bool:
    """Whether the parameters can only mean Alpha Panda's rule of the same name, and nothing of ours."""
    return bool(config.keys() & ELSEWHERE.keys()) and config.keys() <= ELSEWHERE.keys() | _OF_BOTH_RULES


def create_mean_reversion_processor(config: Mapping[str, Any]) -> MeanReversionProcessor:
    """Make the processor from its parameters; raises ConfigurationError."""
    return MeanReversionProcessor(read_options(MeanReversionOptions, config, ELSEWHERE))
