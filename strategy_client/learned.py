"""A learned strategy on one instrument: what it asks its model, and what it makes of the answer."""

from collections import Counter
from collections.abc import Hashable, Mapping
from decimal import Decimal
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from strategy_client.asked import Asked, Said
from strategy_client.binding import BindingsView, Bound, Unbound
from strategy_client.drift import DriftCounts
from strategy_client.emission import Emission
from strategy_client.events import MarketTick, NoSignal, Outcome, Reason
from strategy_client.executor import StrategyExecutor, new
from strategy_client.feature_row import FeatureRow
from strategy_client.predictor.port import Answer, Prediction, Refusal
from strategy_client.processors.classifier import ClassifierProcessor
from strategy_client.processors.processor import LearnedProcessor
from strategy_client.questions import ModelKey, QuestionSheet
from strategy_client.reading import Reading, source_of
from strategy_client.trust import Trust

# Answers that say that what we are bound to is not what is served.
DOUBTFUL: Final = frozenset({Reason.CONTRACT_MISMATCH, Reason.MODEL_NOT_FOUND, Reason.MODEL_NOT_READY})


class LearnedStrategy:
    """Asks and concludes; the request in between is the runner's.

    `answered_by` counts the answers by model, version and digest, `drift` what lies outside of the training
    range. `bindings` None means that there is nobody to ask.
    """

    __slots__ = (
        "_answered_by",
        "_bindings",
        "_classifier",
        "_drift",
        "_features",
        "_key",
        "_processor",
        "_threshold",
        "_told",
        "_trust",
        "emission",
        "executor",
    )

    def __init__(
        self,
        executor: StrategyExecutor,
        processor: LearnedProcessor,
        features: FeatureRow,
        bindings: BindingsView | None,
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
        self._classifier = _own_classifier(processor)
        self._trust = Trust(processor, features, drift)
        self._threshold = getattr(processor, "confidence_threshold", None)
        self._told: Bound | None = None
        self._key: ModelKey = ("", 0, "")

    def ask(self, tick: MarketTick, sheet: QuestionSheet) -> Asked | Outcome:
        """Write this tick's row on the sheet; or return why nothing is asked."""
        row = self._features.row
        if row is None:
            return self._without_row(tick)
        if self._bindings is None:
            return self.executor.no_signal(tick, Reason.UNAVAILABLE, "this runner has no sidecar to ask")
        bound, binding = self._told, self._bindings.of(self.executor.strategy_id)
        if bound is None or binding is not bound:
            if isinstance(binding, Unbound):
                return self.executor.no_signal(tick, binding.reason, binding.detail)
            problem = self._tell(tick, binding)
            if problem is not None:
                return problem
            bound = binding
        trust = self._trust
        distrust = trust.find_distrust(tick, bound, row)
        if distrust is not None:
            return self.executor.no_signal(tick, *distrust)
        ranges = trust.ranges
        outside = self._features.outside(ranges) if ranges else ()
        return Asked(bound, row, sheet.add(self._key, row), bool(ranges), outside)

    @property
    def peerage(self) -> Hashable:
        """Equal for two that are peers: where they are bound alike, they ask alike."""
        if self._classifier is None:
            return self
        return self._classifier.model, self._features, self._trust.limits, self._bindings

    def asks_as(self, asked: Asked) -> bool:
        """Ask what a peer asked on this tick; False where it is bound otherwise and has to `ask` itself."""
        bindings = self._bindings
        if (
            self._told is not asked.bound
            or bindings is None
            or bindings.of(self.executor.strategy_id) is not asked.bound
        ):
            return False
        if asked.compared:
            self._drift.rows += 1
            if asked.outside:
                self._drift.count(asked.outside)
        return True

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
        executor, bound = self.executor, asked.bound
        if isinstance(answer, Refusal):
            if answer.reason in DOUBTFUL:
                self._doubt()
            return executor.no_signal(tick, answer.reason, answer.detail)
        self._answered_by[answer.model, answer.version, answer.digest] += 1
        if answer.contract_hash != bound.contract_hash:
            return self._other_contract(tick, bound, answer, provenance)
        if answer.digest != bound.digest or answer.version != bound.version:
            self._saw(answer)
        if bound.meanings is not executor.meanings:
            problem = self._bind(tick, bound)
            if problem is not None:
                return problem
        reading = asked.place.reading
        if reading is None:
            try:
                reading = asked.place.reading = self._read(asked, answer)
            except Exception as error:  # noqa: BLE001 the model's doing, whatever it is: its outputs are not as promised
                text = f"the answer lacks what the contract promises: {type(error).__name__}: {error}"
                metadata = {**source_of(answer), **provenance}
                return executor.no_signal(tick, Reason.CONTRACT_MISMATCH, text, metadata)
        try:
            return self._interpret(tick, asked.row, reading, provenance)
        except BaseException as error:  # noqa: BLE001 whatever a processor raises is its outcome, and logged
            return executor.processor_error(tick, error, {**source_of(answer), **provenance})

    def _interpret(
        self,
        tick: MarketTick,
        row: NDArray[np.float32],
        reading: Reading,
        provenance: Mapping[str, Any],
    ) -> Outcome:
        classifier, executor = self._classifier, self.executor
        # A price of another type may refuse what a signal asks of it.
        if classifier is None or reading.probabilities is None or type(tick.last_price) is not Decimal:
            result = self._processor.interpret(tick, row, reading.prediction)
            return executor.outcome_of(tick, result, reading.metadata(provenance, self._threshold))
        verdict, metadata = reading.conclude(classifier, provenance)
        if isinstance(verdict, Reason):
            return executor.no_signal(tick, verdict, "", metadata)
        side, probability = verdict
        return executor.signal(tick, side, min(1.0, probability), classifier.position_size, metadata)

    def said(self, tick: MarketTick, asked: Asked, provenance: Mapping[str, Any]) -> Said | None:
        """Return what this concluded last, where a peer that asked the same may conclude it as it stands."""
        classifier, reading = self._classifier, asked.place.reading
        meanings = asked.bound.meanings
        if classifier is None or reading is None or self.executor.meanings is not meanings:
            return None
        concluded = reading.concluded(classifier.rule, provenance)
        if concluded is None or type(tick.last_price) is not Decimal:
            return None
        verdict, metadata = concluded
        common = classifier.rule, meanings, reading.source, metadata
        if isinstance(verdict, Reason):
            return Said(*common, verdict)
        return Said(*common, Reason.HOLD, verdict.side, min(1.0, verdict.probability))

    def concludes_as(self, tick: MarketTick, said: Said) -> Outcome | None:
        """Return the outcome of what was `said`; None where this is to `conclude` for itself."""
        classifier, executor = self._classifier, self.executor
        if classifier is None or classifier.rule != said.rule or executor.meanings is not said.meanings:
            return None
        outcome: Outcome
        if said.side is None:
            # As the executor makes it, without another call.
            of = executor.strategy_id, tick.instrument_token, tick.timestamp
            outcome = new(NoSignal, (*of, said.reason, "", said.metadata))
        else:
            size = classifier.position_size
            try:
                outcome = executor.signal(tick, said.side, said.confidence, size, said.metadata)
            except Exception:  # noqa: BLE001 limits that no quantity can be held to: `conclude` tells of them
                return None
        self._answered_by[said.source] += 1
        return outcome

    def _other_contract(
        self, tick: MarketTick, bound: Bound, answer: Prediction, provenance: Mapping[str, Any]
    ) -> Outcome:
        self._doubt()
        return self.executor.no_signal(
            tick,
            Reason.CONTRACT_MISMATCH,
            f"version {answer.version} of {answer.model!r} answered under contract "
            f"{answer.contract_hash[:12]}, bound to {bound.contract_hash[:12]}",
            {**source_of(answer), **provenance},
        )

    def _read(self, asked: Asked, answer: Prediction) -> Reading:
        bound = asked.bound
        prediction = bound.read_row(answer, asked.place.row)
        return Reading(answer, prediction, self._features.named(asked.row), bound.meanings)

    def _without_row(self, tick: MarketTick) -> Outcome:
        if self._features.error is not None:
            return self.executor.processor_error(tick, self._features.error)
        return self.executor.no_signal(tick, Reason.WARMING_UP)

    def _bind(self, tick: MarketTick, binding: Bound) -> Outcome | None:
        # Of one processor, a later tick or another instrument may have told it other meanings meanwhile.
        if binding.meanings is None or binding.meanings is self.executor.meanings:
            return None
        self.executor.meanings = None
        try:
            self._processor.bind(binding.meanings)
        except BaseException as error:  # noqa: BLE001 whatever a processor raises is its outcome, and logged
            return self.executor.processor_error(tick, error)
        self.executor.meanings = binding.meanings
        return None

    def _tell(self, tick: MarketTick, binding: Bound) -> Outcome | None:
        problem = self._bind(tick, binding)
        if problem is not None:
            return problem
        self._trust.bind(binding)
        model = self._processor.model
        self._key = model.name, model.version, binding.contract_hash
        self._told = binding
        return None

    def _saw(self, answer: Prediction) -> None:
        if self._bindings is not None:
            self._bindings.saw(answer.model, answer.version, answer.digest)

    def _doubt(self) -> None:
        if self._bindings is not None:
            self._bindings.doubt()


def _own_classifier(processor: LearnedProcessor) -> ClassifierProcessor | None:
    """Return the processor where what it says is known to hang on its rule, and to be fit for an outcome.

    A subclass may interpret otherwise. What any other processor gives is looked at each time.
    """
    if type(processor) is not ClassifierProcessor:
        return None
    fits = processor.confidence_threshold >= 0 and processor.position_size >= 1
    return processor if fits else None
