"""One strategy: its processor behind validation and limits, and the count of what came of it."""

import logging
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, Literal

from strategy_client.configuration import EmissionConfig, StrategyConfig, is_interrupt, name_error
from strategy_client.events import MarketTick, NoSignal, Outcome, Reason, Signal, SignalResult
from strategy_client.processors.model import ClassMeanings
from strategy_client.processors.processor import StrategyProcessor

SIGNAL_TYPES: Final = ("BUY", "SELL", "HOLD")
# A processor that raises on every tick must not fill the disk; all of them are counted.
MAX_LOGGED_ERRORS: Final = 10

# As a call of the class, which is a function in Python, makes it, in two thirds of the time.
new: Final = tuple.__new__

log = logging.getLogger(__name__)


class StrategyExecutor:
    """Turns what a processor wants into exactly one outcome a tick; one that raises degrades only itself.

    `enabled` may be changed at any time.
    """

    def __init__(self, processor: StrategyProcessor, config: StrategyConfig) -> None:
        self.processor = processor
        self.strategy_id = config.strategy_id
        self.reconfigure(config)
        self.required_history = processor.get_required_history_length()
        self._counts: dict[Reason | str, int] = defaultdict(int)
        # What a learned processor was last told, of whichever instrument's binding.
        self.meanings: ClassMeanings | None = None
        self._errors_logged = 0
        # By which limits which quantity was last held to which.
        self._limited: tuple[StrategyConfig | None, int, int] = None, 0, 0

    def __repr__(self) -> str:
        state = "enabled" if self.enabled else "disabled"
        return f"<StrategyExecutor {self.strategy_id} {state} {dict(self.counts)}>"

    @property
    def counts(self) -> Counter[str]:
        """A snapshot: a number for BUY, SELL and each reason that occurred."""
        counts = {
            told.value if isinstance(told, Reason) else told: count for told, count in self._counts.items()
        }
        return Counter(counts)

    def reconfigure(self, config: StrategyConfig) -> None:
        """Take other limits, brokers, instruments or rules of emission for the same logic."""
        self.config = config
        self.enabled = config.enabled
        # None where every signal goes out: that is asked for each outcome.
        self.emission = None if config.emission == EmissionConfig() else config.emission

    def decide(self, tick: MarketTick, history: Sequence[MarketTick]) -> Outcome:
        """Run the processor on a tick; `history` ends with it, and is as long as the processor requires."""
        try:
            result = self.processor.process_tick(tick, history)
            # By far the most common, and so without another call.
            if result is None:
                return new(
                    NoSignal, (self.strategy_id, tick.instrument_token, tick.timestamp, Reason.HOLD, "", {})
                )
            return self.outcome_of(tick, result)
        except BaseException as error:  # noqa: BLE001 whatever a processor raises is its outcome, and logged
            return self.processor_error(tick, error)

    def outcome_of(
        self,
        tick: MarketTick,
        result: SignalResult | Reason | None,
        provenance: Mapping[str, Any] | None = None,
    ) -> Outcome:
        """Validate a processor's result and hold it to the limits; `provenance` is added to its metadata."""
        if result is None:
            return self.no_signal(tick, Reason.HOLD, "", provenance)
        if isinstance(result, Reason):
            return self.no_signal(tick, result, "", provenance)
        problem = find_problem(result)
        if problem:
            return self.no_signal(tick, Reason.INVALID_SIGNAL, problem, provenance)
        metadata = {**(result.metadata or {}), **(provenance or {})}
        if result.signal_type == "HOLD":
            return self.no_signal(tick, Reason.HOLD, "", metadata)
        side: Literal["BUY", "SELL"] = "BUY" if result.signal_type == "BUY" else "SELL"
        return self.signal(tick, side, result.confidence, result.quantity, metadata)

    def signal(
        self,
        tick: MarketTick,
        side: Literal["BUY", "SELL"],
        confidence: float,
        quantity: int,
        metadata: Mapping[str, Any],
    ) -> Outcome:
        """Return the outcome of a wish that is valid, held to the limits."""
        price = tick.last_price
        limited = self._limit(quantity)
        if limited < 1:
            detail = f"quantity {quantity} is {limited} after risk_multiplier and max_position_size"
            return self.no_signal(tick, Reason.INVALID_SIGNAL, detail, metadata)
        return new(
            Signal,
            (
                self.strategy_id,
                tick.instrument_token,
                side,
                float(confidence),
                limited,
                price if type(price) is Decimal else _as_decimal(price),
                tick.timestamp,
                metadata,
            ),
        )

    def no_signal(
        self,
        tick: MarketTick,
        reason: Reason,
        detail: str = "",
        metadata: Mapping[str, Any] | None = None,
    ) -> NoSignal:
        """Return the outcome of a tick on which this strategy says nothing."""
        given = {} if metadata is None else metadata
        return new(NoSignal, (self.strategy_id, tick.instrument_token, tick.timestamp, reason, detail, given))

    def processor_error(
        self, tick: MarketTick, error: BaseException, metadata: Mapping[str, Any] | None = None
    ) -> NoSignal:
        """Log what the processor raised, with its traceback, and return the outcome.

        Ctrl-C is nobody's outcome and goes on its way: then `error` itself is raised.
        """
        if is_interrupt(error):
            raise error
        if self._errors_logged < MAX_LOGGED_ERRORS:
            self._errors_logged += 1
            log.error("strategy %s raised on %s", self.strategy_id, tick, exc_info=error)
        return self.no_signal(tick, Reason.PROCESSOR_ERROR, name_error(error), metadata)

    def count(self, outcome: Outcome) -> None:
        """Count an outcome of this strategy; the runner does so once for each.

        Raises TypeError for what is no outcome: a tick has one of each strategy.
        """
        if type(outcome) is NoSignal:
            self._counts[outcome.reason] += 1
        elif type(outcome) is Signal:
            self._counts[outcome.signal_type] += 1
        else:
            raise TypeError(f"{self.strategy_id} was left without an outcome")

    def _limit(self, quantity: int) -> int:
        config, wanted, limited = self._limited
        # Most processors ask for the same quantity each time, and Decimal multiplies slowly.
        if wanted != quantity or config is not self.config:
            config = self.config
            scaled = int(quantity * config.risk_multiplier)
            most = config.max_position_size
            limited = scaled if most is None else min(scaled, most)
            self._limited = config, quantity, limited
        return limited


def _as_decimal(price: object) -> Decimal:
    # A feed of a user's own may give floats: the edge takes any finite number.
    return price if isinstance(price, Decimal) else Decimal(str(price))


def find_problem(result: SignalResult) -> str:
    """Return what is wrong with a result, empty for nothing: type, 0 <= confidence <= 1, quantity, price."""
    if result.signal_type not in SIGNAL_TYPES:
        return f"signal_type: expected BUY, SELL or HOLD, came {result.signal_type!r}"
    if not 0 <= result.confidence <= 1:
        return f"confidence: expected 0 to 1, came {result.confidence!r}"
    quantity: object = result.quantity
    if not isinstance(quantity, int) or quantity < 1:
        return f"quantity: expected an integer above 0, came {quantity!r}"
    if not (math.isfinite(result.price) and result.price > 0):
        return f"price: expected a finite number above 0, came {result.price!r}"
    return ""
