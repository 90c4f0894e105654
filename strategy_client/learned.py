"""A learned strategy on one instrument: what it asks its model, and what it makes of the answer."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from strategy_client.bindings import Binding, Bindings, Bound, Unbound
from strategy_client.drift import DriftCounts
from strategy_client.emission import Emission
from strategy_client.events import MarketTick, Outcome, Reason
from strategy_client.executor import StrategyExecutor
from strategy_client.feature_row import FeatureRow, Outside, Ranges
from strategy_client.predictor.port import Answer, Prediction, Refusal
from strategy_client.processors.limits import REFUSE, limits_of
from strategy_client.processors.model import PredictionRow
from strategy_client.processors.processor import LearnedProcessor
from strategy_client.questions import Place, QuestionSheet

# Answers that say that what we are bound to is not what is served.
DOUBTFUL: Final = frozenset({Reason.CONTRACT_MISMATCH, Reason.MODEL_NOT_FOUND, Reason.MODEL_NOT_READY})
DAY: Final = timedelta(days=1)
BEFORE_ALL_TICKS: Final = datetime(1, 1, 2, tzinfo=UTC)


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """A row that waits for its answer, and the binding under which it was asked."""

    bound: Bound
    row: NDArray[np.float32]
    place: Place


class LearnedStrategy:
    """Asks and concludes; the request in between is the runner's.

    `answered_by` counts the answers by model, version and digest, `drift` what lies outside of the training
    range. `bindings` None means that there is nobody to ask.
    """

    __slots__ = (
        "_answered_by",
        "_bindings",
        "_drift",
        "_features",
        "_limits",
        "_processor",
        "_ranges",
        "_stale_after",
        "_threshold",
        "_told",
        "emission",
        "executor",
    )

    def __init__(
        self,
        executor: StrategyExecutor,
        processor: LearnedProcessor,
        features: FeatureRow,
        bindings: Bindings | None,
        *,
        answered_by: Counter[tuple[str, int, str]],
        drift: DriftCounts,
    ) -> None:
        self.executor = executor
        self.emission: Emission | None = None
        self._processor = processor
        self._features = features
        self._bindings = bindings
        self._answered_by = answered_by
        self._drift = drift
        self._limits = limits_of(processor)
        self._threshold = getattr(processor, "confidence_threshold", None)
        self._told: Binding | None = None
        self._stale_after: datetime | None = None
        self._ranges: Ranges = ()

    def ask(self, tick: MarketTick, sheet: QuestionSheet) -> Asked | Outcome:
        """Write this tick's row on the sheet; or return why nothing is asked."""
        row = self._features.row
        if row is None:
            return self._without_row(tick)
        if self._bindings is None:
            return self.executor.no_signal(tick, Reason.UNAVAILABLE, "this runner has no sidecar to ask")
        binding = self._bindings.of(self.executor.strategy_id)
        if isinstance(binding, Unbound):
            return self.executor.no_signal(tick, binding.reason, binding.detail)
        if binding is not self._told:
            problem = self._tell(tick, binding)
            if problem is not None:
                return problem
        distrust = self._find_distrust(tick, binding, row)
        if distrust is not None:
            return self.executor.no_signal(tick, *distrust)
        model = self._processor.model
        place = sheet.add((model.name, model.version, binding.contract_hash), row)
        return Asked(binding, row, place)

    def ask_again(self, asked: Asked, sheet: QuestionSheet) -> Asked:
        """Write what was asked before on another sheet, under the binding of then."""
        model = self._processor.model
        place = sheet.add((model.name, model.version, asked.bound.contract_hash), asked.row)
        return Asked(asked.bound, asked.row, place)

    def conclude(
        self, tick: MarketTick, asked: Asked, answer: Answer, provenance: Mapping[str, Any]
    ) -> Outcome:
        """Turn the answer to what was asked into an outcome.

        What answered, and `provenance`, go into the outcome's metadata whether or not it is a signal.
        """
        if isinstance(answer, Refusal):
            if answer.reason in DOUBTFUL:
                self._doubt()
            return self.executor.no_signal(tick, answer.reason, answer.detail)
        self._answered_by[answer.model, answer.version, answer.digest] += 1
        bound = asked.bound
        if answer.contract_hash != bound.contract_hash:
            self._doubt()
            return self.executor.no_signal(
                tick,
                Reason.CONTRACT_MISMATCH,
                f"version {answer.version} of {answer.model!r} answered under contract "
                f"{answer.contract_hash[:12]}, bound to {bound.contract_hash[:12]}",
                {**_source(answer), **provenance},
            )
        if self._bindings is not None and (answer.digest, answer.version) != (bound.digest, bound.version):
            self._bindings.saw(answer.model, answer.version, answer.digest)
        problem = self._bind(tick, bound)
        if problem is not None:
            return problem
        place = asked.place
        if place.reading is None:
            try:
                place.reading = self._read(asked, answer)
            except Exception as error:  # noqa: BLE001 the model's doing, whatever it is: its outputs are not as promised
                text = f"the answer lacks what the contract promises: {type(error).__name__}: {error}"
                metadata = {**_source(answer), **provenance}
                return self.executor.no_signal(tick, Reason.CONTRACT_MISMATCH, text, metadata)
        try:
            prediction, came_from = place.reading
            provenance = {**came_from, **provenance}
            if self._threshold is not None:
                provenance["confidence_threshold"] = self._threshold
            result = self._processor.interpret(tick, asked.row, prediction)
            return self.executor.outcome_of(tick, result, provenance)
        except (Exception, SystemExit) as error:  # noqa: BLE001 whatever a processor raises is its outcome, and logged
            return self.executor.processor_error(tick, error, {**_source(answer), **provenance})

    def _read(self, asked: Asked, answer: Prediction) -> tuple[PredictionRow, dict[str, Any]]:
        prediction = asked.bound.read_row(answer, asked.place.row)
        came_from = _source(answer)
        came_from["features"] = self._features.named(asked.row)
        probabilities, meanings = prediction.probabilities, asked.bound.meanings
        if meanings is not None and 0 < len(probabilities) == len(meanings.classes):
            came_from["probability"] = max(probabilities)
            came_from["probabilities"] = dict(zip(meanings.classes, probabilities, strict=True))
        return prediction, came_from

    def _without_row(self, tick: MarketTick) -> Outcome:
        if self._features.error is not None:
            return self.executor.processor_error(tick, self._features.error)
        return self.executor.no_signal(tick, Reason.WARMING_UP)

    def _find_distrust(
        self, tick: MarketTick, binding: Bound, row: NDArray[np.float32]
    ) -> tuple[Reason, str] | None:
        features = self._features
        if self._stale_after is not None and tick.timestamp > self._stale_after:
            return Reason.MODEL_STALE, self._age(tick, binding)
        if features.has_infinity or not (features.finite or binding.accepts_nan):
            return Reason.NON_FINITE, self._non_finite(row)
        if self._ranges:
            self._drift.rows += 1
            outside = features.outside(self._ranges)
            if outside:
                self._drift.count(outside)
                if self._limits.outside_training_range == REFUSE:
                    return Reason.OUT_OF_RANGE, self._outside(outside)
        return None

    def _bind(self, tick: MarketTick, binding: Bound) -> Outcome | None:
        # Of one processor, a later tick or another instrument may have told it other meanings meanwhile.
        if binding.meanings is None or binding.meanings is self.executor.meanings:
            return None
        self.executor.meanings = None
        try:
            self._processor.bind(binding.meanings)
        except (Exception, SystemExit) as error:  # noqa: BLE001 whatever a processor raises is its outcome, and logged
            return self.executor.processor_error(tick, error)
        self.executor.meanings = binding.meanings
        return None

    def _tell(self, tick: MarketTick, binding: Bound) -> Outcome | None:
        problem = self._bind(tick, binding)
        if problem is not None:
            return problem
        limit = self._limits.max_model_age
        if limit is None:
            self._stale_after = None
        elif binding.trained_at is None:
            self._stale_after = BEFORE_ALL_TICKS
        else:
            self._stale_after = _later(binding.trained_at, limit)
        self._ranges = _widened(binding.training_ranges, self._limits.training_range_margin)
        self._told = binding
        return None

    def _doubt(self) -> None:
        if self._bindings is not None:
            self._bindings.doubt()

    def _non_finite(self, row: NDArray[np.float32]) -> str:
        named = zip(self._processor.features.names, row.tolist(), strict=True)
        return ", ".join(f"{name} is {value}" for name, value in named if not math.isfinite(value))

    def _outside(self, outside: Outside) -> str:
        names, values = self._processor.features.names, self._features.values
        return ", ".join(
            f"{names[place]} is {values[place]:.6g}, "
            f"trained on {self._ranges[place][0]:.6g} to {self._ranges[place][1]:.6g}"
            for place, _ in outside
        )

    def _age(self, tick: MarketTick, binding: Bound) -> str:
        model = f"model {self._processor.model.name!r} version {binding.version}"
        limit = self._limits.max_model_age
        if binding.trained_at is None or limit is None:
            return f"{model} does not say when it was trained, and max_model_age_days is set"
        age_days = (tick.timestamp - binding.trained_at) / DAY
        return f"{model} was trained {age_days:.1f} days before this tick, more than {limit / DAY:g}"


def _source(answer: Prediction) -> dict[str, Any]:
    return {
        "model": answer.model,
        "version": answer.version,
        "digest": answer.digest,
        "contract_hash": answer.contract_hash,
    }


def _later(instant: datetime, by: timedelta) -> datetime | None:
    try:
        return instant + by
    except OverflowError:  # beyond the year 9999
        return None


def _widened(ranges: Ranges, margin: float) -> Ranges:
    if not margin:
        return ranges
    return tuple((low - margin * (high - low), high + margin * (high - low)) for low, high in ranges)
