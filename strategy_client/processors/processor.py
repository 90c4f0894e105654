"""What a strategy's logic looks like to the loop that runs it."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from strategy_client.events import MarketTick, Reason, SignalResult
from strategy_client.features import FeatureSet
from strategy_client.processors.model import ClassMeanings, ModelReference, PredictionRow


class StrategyProcessor(Protocol):
    """Logic without state of its own: the same tick and history give the same result."""

    def process_tick(self, tick: MarketTick, history: Sequence[MarketTick]) -> SignalResult | None:
        """Return what to do; None is HOLD.

        `history` is of this tick's instrument and ends with `tick`. Raising is the outcome PROCESSOR_ERROR.
        """
        ...

    def get_required_history_length(self) -> int:
        """Ticks that `history` must hold, the current one among them, before `process_tick` is called."""
        ...

    def supports_instrument(self, token: int) -> bool:
        """Whether this logic can be used on the instrument."""
        ...

    def get_strategy_name(self) -> str:
        """Name of the logic, for logs and reports."""
        ...


@runtime_checkable
class LearnedProcessor(StrategyProcessor, Protocol):
    """Logic around a model: it names the model's input and reads its answer; the runner asks in between.

    The runner streams `features` once for all strategies with the same ones on an instrument, asks the
    sidecar for `model`, and hands the answer to `interpret`. `extract_features` makes the same row out of a
    plain history, for a loop that has one.
    """

    model: ModelReference
    features: FeatureSet

    def bind(self, meanings: ClassMeanings) -> None:
        """Take what the model's classes mean, from the contract that this strategy is bound to.

        Raises ConfigurationError where no class means BUY or SELL.
        """
        ...

    def extract_features(self, tick: MarketTick, history: Sequence[MarketTick]) -> NDArray[np.float32]:
        """Return a new row, float32, shape (n_features,); NaN in it where the history is too short."""
        ...

    def interpret(
        self, tick: MarketTick, features: NDArray[np.float32], prediction: PredictionRow
    ) -> SignalResult | Reason:
        """Return the signal that the answer to `features` stands for, or why there is none."""
        ...
