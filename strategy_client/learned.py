"""A learned strategy on one instrument: what it asks its model, and what it makes of the answer."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from strategy_client.bindings import Binding, Bindings, Bound, Unbound
from strategy_client.events import MarketTick, Outcome, Reason, SignalResult
from strategy_client.executor import StrategyExecutor
from strategy_client.features import FeatureSet, FeatureSetStream
from strategy_client.predictor.port import Answer, Prediction, Refusal
from strategy_client.processors.processor import LearnedProcessor
from strategy_client.questions import Place, QuestionSheet

# Answers that say that what we are bound to is not what is served.
DOUBTFUL: Final = frozenset({Reason.CONTRACT_MISMATCH, Reason.MODEL_NOT_FOUND, Reason.MODEL_NOT_READY})


class FeatureRow:
    """The features of one instrument, worked out once a tick for every strategy with this feature set."""

    __slots__ = ("_features", "_stream", "error", "finite", "has_infinity", "row")

    def __init__(self, features: FeatureSet) -> None:
        self._features = features
        self._stream: FeatureSetStream | None = None
        self.row: NDArray[np.float32] | None = None
        self.error: Exception | None = None
        self.finite = False
        self.has_infinity = False

    def update(self, price: float) -> None:
        """Take the next price; `row` is a new array, or None while the features warm up.

        `error` is what a user's feature raised on this tick; they all begin anew with the next one, since
        some have been told the price and some have not.
        """
        self.row = self.error = None
        try:
            if self._stream is None:
                self._stream = self._features.stream()
            self._stream.update(price)
            if not self._stream.ready:
                return
            self.row = self._stream.row()
        except Exception as error:  # noqa: BLE001 whatever a feature raises is its strategies' outcome, and logged
            self._stream = None
            self.error = error
            return
        self.finite = all(map(math.isfinite, self.row.tolist()))
        self.has_infinity = not self.finite and bool(np.isinf(self.row).any())


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """A row that waits for its answer, and the binding under which it was asked."""

    bound: Bound
    row: NDArray[np.float32]
    place: Place


class LearnedStrategy:
    """Asks and concludes; the request in between is the runner's.

    `answered_by` counts the answers by model, version and digest.
    """

    def __init__(
        self,
        executor: StrategyExecutor,
        processor: LearnedProcessor,
        features: FeatureRow,
        bindings: Bindings | None,
        answered_by: Counter[tuple[str, int, str]],
    ) -> None:
        self.executor = executor
        self._processor = processor
        self._features = features
        self._bindings = bindings
        self._answered_by = answered_by
        self._told: Binding | None = None

    def ask(self, tick: MarketTick, sheet: QuestionSheet) -> Asked | Outcome:
        """Write this tick's row on the sheet; or return why nothing is asked."""
        row = self._features.row
        if row is None:
            return self._without_row(tick)
        if self._bindings is None:
            return self.executor.no_signal(tick, Reason.UNAVAILABLE, "this runner has no sidecar")
        binding = self._bindings.of(self.executor.strategy_id)
        if isinstance(binding, Unbound):
            return self.executor.no_signal(tick, binding.reason, binding.detail)
        if binding is not self._told:
            problem = self._tell(tick, binding)
            if problem is not None:
                return problem
        if self._features.has_infinity or not (self._features.finite or binding.accepts_nan):
            return self.executor.no_signal(tick, Reason.NON_FINITE, self._non_finite(row))
        model = self._processor.model
        place = sheet.add((model.name, model.version, binding.contract_hash), row)
        return Asked(binding, row, place)

    def conclude(
        self, tick: MarketTick, asked: Asked, answer: Answer, provenance: Mapping[str, Any]
    ) -> Outcome:
        """Turn the answer to what was asked into an outcome; `provenance` goes into a signal's metadata."""
        if isinstance(answer, Refusal):
            if answer.reason in DOUBTFUL:
                self._doubt()
            return self.executor.no_signal(tick, answer.reason, answer.detail)
        self._answered_by[answer.model, answer.version, answer.digest] += 1
        if answer.contract_hash != asked.bound.contract_hash:
            self._doubt()
            return self.executor.no_signal(
                tick,
                Reason.CONTRACT_MISMATCH,
                f"version {answer.version} of {answer.model!r} answered under contract "
                f"{answer.contract_hash[:12]}, bound to {asked.bound.contract_hash[:12]}",
            )
        if asked.bound is not self._told:  # a later tick, asked before this one was answered, told another
            problem = self._tell(tick, asked.bound)
            if problem is not None:
                return problem
        try:
            prediction = asked.bound.read_row(answer, asked.place.row)
            result = self._processor.interpret(tick, asked.row, prediction)
            if isinstance(result, SignalResult):
                provenance = {**self._made_by(asked, answer, prediction.probabilities), **provenance}
            return self.executor.outcome_of(tick, result, provenance)
        except Exception as error:  # noqa: BLE001 whatever a processor raises is its outcome, and logged
            return self.executor.processor_error(tick, error)

    def _without_row(self, tick: MarketTick) -> Outcome:
        if self._features.error is not None:
            return self.executor.processor_error(tick, self._features.error)
        return self.executor.no_signal(tick, Reason.WARMING_UP)

    def _tell(self, tick: MarketTick, binding: Bound) -> Outcome | None:
        if binding.meanings is not None:
            try:
                self._processor.bind(binding.meanings)
            except Exception as error:  # noqa: BLE001 whatever a processor raises is its outcome, and logged
                return self.executor.processor_error(tick, error)
        self._told = binding
        return None

    def _doubt(self) -> None:
        if self._bindings is not None:
            self._bindings.doubt()

    def _non_finite(self, row: NDArray[np.float32]) -> str:
        named = zip(self._processor.features.names, row.tolist(), strict=True)
        return ", ".join(f"{name} is {value}" for name, value in named if not math.isfinite(value))

    def _made_by(self, asked: Asked, answer: Prediction, probabilities: tuple[float, ...]) -> dict[str, Any]:
        made_by: dict[str, Any] = {
            "model": answer.model,
            "version": answer.version,
            "digest": answer.digest,
            "contract_hash": answer.contract_hash,
            "features": dict(zip(self._processor.features.names, asked.row.tolist(), strict=True)),
        }
        if probabilities and asked.bound.meanings is not None:
            made_by["probability"] = max(probabilities)
            made_by["probabilities"] = dict(zip(asked.bound.meanings.classes, probabilities, strict=True))
        return made_by
