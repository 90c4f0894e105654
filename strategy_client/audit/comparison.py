"""Each recorded outcome held against what comes now: the model's answer, the features, the strategy's say."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from strategy_client.audit.decoder import NamedModel, Recorded, RecordedTick
from strategy_client.audit.reader import Entry
from strategy_client.audit.rerun import Rerun, RowKey, is_near, is_of_the_clock
from strategy_client.audit.served import ServedModels
from strategy_client.audit.verdict import Difference, Tally, Verdict
from strategy_client.configuration import EmissionConfig
from strategy_client.events import Outcome, Reason, Signal
from strategy_client.executor import StrategyExecutor
from strategy_client.predictor.description import Contract, OutputKind, VersionDescription
from strategy_client.predictor.port import Answer, Prediction, Refusal

# Nothing of these follows from ticks and models: they are of the time, or of the sidecar's state then.
MOMENTARY: Final = frozenset(
    {
        Reason.DEADLINE_EXCEEDED.value,
        Reason.BREAKER_OPEN.value,
        Reason.UNAVAILABLE.value,
        Reason.MODEL_NOT_FOUND.value,
        Reason.MODEL_NOT_READY.value,
        Reason.MODEL_STALE.value,
        Reason.CONTRACT_MISMATCH.value,
    }
)
AFTER_GAP: Final = "after a gap"
OF_THE_MOMENT: Final = "of the moment"
NO_MODEL: Final = "the model's file is not there"
NO_STRATEGY: Final = "the strategy cannot be made"
NO_ANSWER: Final = "no model's answer was recorded"


class Comparison:
    """Compares, counts and names. `served` must be set before anything that a model answered is compared."""

    def __init__(self, verdict: Verdict, rerun: Rerun, tolerance: float) -> None:
        self.served: ServedModels | None = None
        self._verdict = verdict
        self._rerun = rerun
        self._tolerance = tolerance
        self._after_gap = False
        self._ticks_since: dict[int, int] = {}

    def begin(self, lineup: Sequence[Mapping[str, Any]], *, after_gap: bool) -> None:
        """Start with empty histories: what they held before a gap is unknown."""
        self._rerun.begin(lineup)
        self._after_gap = after_gap
        self._ticks_since = {}

    def change(self, lineup: Sequence[Mapping[str, Any]]) -> None:
        """Run these strategies from the next tick on; what stays keeps its histories, as it did then."""
        self._rerun.change(lineup)

    def bind(self, strategy_id: str, model: NamedModel) -> None:
        """Bind a strategy to a model's bytes, as far as they are there, before it has answered."""
        version = self.served.description_of(model.digest) if self.served is not None else None
        if version is not None:
            self._rerun.bindings.set(strategy_id, model, version)

    def take_tick(self, entry: Entry, tick: RecordedTick, answers: Mapping[RowKey, Answer]) -> None:
        """Run a tick again and compare every outcome of it."""
        token = tick.tick.instrument_token
        rerun = self._rerun
        for each in tick.outcomes:
            version = self._version(each)
            if each.model is not None and version is not None:
                rerun.bindings.set(each.strategy_id, each.model, version)
        rerun.answers.prepare(tick, answers, after_gap=self._after_gap)
        came = dict(rerun.process(tick, after_gap=self._after_gap))
        self._ticks_since[token] = self._ticks_since.get(token, 0) + 1
        for recorded in tick.outcomes:
            outcome = came.pop(recorded.strategy_id, None)
            self._judge(_Case(entry, tick, recorded, outcome), answers)
        for strategy_id, outcome in came.items():
            self._differ(entry, tick.index, strategy_id, "outcome", "nothing", _said(outcome))

    def take_shadow(self, entry: Entry, index: int, said: Recorded, answers: Mapping[RowKey, Answer]) -> None:
        """Ask a shadow's row again; what its strategy would have made of the answer is not run again."""
        tally = self._verdict.shadows
        if said.model is None or said.row is None:
            tally.of_the_moment += 1
            return
        answer = answers[said.model.digest, said.row.tobytes()]
        if isinstance(answer, Refusal):
            tally.unverified[_why(answer)] += 1
            return
        before = self._verdict.difference_count
        self._compare_probabilities(entry, index, said, answer)
        tally.differs += self._verdict.difference_count > before
        tally.verified += self._verdict.difference_count == before

    def _judge(self, case: "_Case", answers: Mapping[RowKey, Answer]) -> None:
        before = self._verdict.difference_count
        why = self._unverified(case, answers)
        for tally in self._tallies(case.recorded):
            if self._verdict.difference_count > before:
                tally.differs += 1
            elif why == OF_THE_MOMENT:
                tally.of_the_moment += 1
            elif why:
                tally.unverified[why] += 1
            else:
                tally.verified += 1

    def _tallies(self, recorded: Recorded) -> Sequence[Tally]:
        verdict = self._verdict
        return (verdict.outcomes, verdict.signals) if recorded.is_signal else (verdict.outcomes,)

    def _unverified(self, case: "_Case", answers: Mapping[RowKey, Answer]) -> str:
        """Compare one outcome; returns why that could not be done, empty where it was."""
        recorded = case.recorded
        executor = self._rerun.executors.get(recorded.strategy_id)
        if recorded.strategy_id in self._rerun.problems:
            return NO_STRATEGY
        if executor is None or case.came is None:
            self._differ_in(case, "outcome", recorded.said, "nothing: no such strategy on this instrument")
            return ""
        if recorded.strategy_id in self._rerun.learned:
            return self._learned_unverified(case, executor, answers)
        return self._compare_unasked(case, executor)

    def _learned_unverified(  # noqa: PLR0911 one for each case
        self, case: "_Case", executor: StrategyExecutor, answers: Mapping[RowKey, Answer]
    ) -> str:
        recorded = case.recorded
        # Three cases: a model answered; it could not be asked, or did not answer; there was nothing to ask.
        if recorded.model is not None and recorded.row is not None:
            answer = answers[recorded.model.digest, recorded.row.tobytes()]
            if isinstance(answer, Refusal):
                return _why(answer)
            return self._compare_answered(case, executor, answer)
        if recorded.said in MOMENTARY:
            return OF_THE_MOMENT
        if recorded.said == Reason.STALE_TICK.value:
            return self._compare_unasked(case, executor)
        if recorded.is_signal:
            self._differ_in(case, "model", "none", "a signal of a learned strategy has one")
            return ""
        if _said(case.came) == Reason.UNAVAILABLE.value:
            return AFTER_GAP if self._is_cold(case, executor) else NO_ANSWER
        return self._compare_unasked(case, executor)

    def _compare_unasked(self, case: "_Case", executor: StrategyExecutor) -> str:
        came = case.came
        if case.recorded.said == Reason.STALE_TICK.value and is_of_the_clock(case.tick):
            return OF_THE_MOMENT
        if self._is_cold(case, executor):
            return AFTER_GAP
        model = case.recorded.model
        if model is not None and (came is None or came.metadata.get("digest") != model.digest):
            self._differ_in(case, "model", model.name, "none: it asks none")
            return ""
        self._compare_outcome(case, came)
        return ""

    def _compare_answered(self, case: "_Case", executor: StrategyExecutor, answer: Prediction) -> str:
        recorded, came = case.recorded, case.came
        self._compare_probabilities(case.entry, case.tick.index, recorded, answer)
        asked = self._rerun.answers.asked
        name = recorded.model.name if recorded.model is not None else ""
        rows = [row for model, row in asked if model == name]
        cold = self._is_cold(case, executor)
        if recorded.row is not None and any(self._is_same(row, recorded.row) for row in rows):
            self._verdict.features += 1
            if not cold:
                self._compare_outcome(case, came)
                return ""
        elif not cold and rows:
            self._differ_in(case, "features", _numbers(recorded.row), _numbers(rows[0]))
            return ""
        elif not cold:
            self._differ_in(case, "outcome", recorded.said, _said(came))
            return ""
        # What led to the row is unknown; what the strategy makes of the answer to it is not.
        if executor.config.emission == EmissionConfig():
            self._compare_outcome(case, self._rerun.interpret(case.tick, recorded, answer))
        return AFTER_GAP

    def _compare_probabilities(
        self, entry: Entry, index: int, recorded: Recorded, answer: Prediction
    ) -> None:
        self._verdict.rows += 1
        version = self._version(recorded)
        came = _probabilities(answer, version)
        if recorded.model is not None and answer.digest != recorded.model.digest:
            self._differ(entry, index, recorded.strategy_id, "digest", recorded.model.digest, answer.digest)
        elif version is not None and version.contract is not None and recorded.model is not None:
            self._compare_named(entry, index, recorded, recorded.model, version.contract)
        if not self._are_equal(recorded.probabilities or (), came):
            was = _numbers(recorded.probabilities)
            self._differ(entry, index, recorded.strategy_id, "probabilities", was, _numbers(came))

    def _compare_named(
        self, entry: Entry, index: int, recorded: Recorded, model: NamedModel, promised: Contract
    ) -> None:
        """Hold what a row and probabilities are said to mean to the contract of the bytes that answered."""
        classes = model.classes
        if recorded.probabilities is not None:
            classes = next((each.classes for each in promised.outputs if each.classes), ())
        for field, was, now in (
            ("contract_hash", model.contract_hash, promised.hash),
            ("features", model.features, promised.feature_names),
            ("classes", model.classes, classes),
        ):
            if was != now:
                self._differ(entry, index, recorded.strategy_id, field, was, now)

    def _compare_outcome(self, case: "_Case", came: Outcome | None) -> None:
        recorded = case.recorded
        said = _said(came)
        if recorded.said != said:
            self._differ_in(case, "outcome", recorded.said, said)
            return
        if recorded.model is not None and came is not None:
            threshold = came.metadata.get("confidence_threshold")
            if threshold is not None and threshold != recorded.model.threshold:
                self._differ_in(case, "confidence_threshold", recorded.model.threshold, threshold)
        if isinstance(came, Signal):
            if recorded.quantity != came.quantity:
                self._differ_in(case, "quantity", recorded.quantity, came.quantity)
            if recorded.price != str(came.price):
                self._differ_in(case, "price", recorded.price, came.price)
            confidence = (came.confidence,)
            was = () if recorded.confidence is None else (recorded.confidence,)
            if not self._are_equal(was, confidence):
                self._differ_in(case, "confidence", _numbers(was), _numbers(confidence))

    def _is_cold(self, case: "_Case", executor: StrategyExecutor) -> bool:
        if not self._after_gap:
            return False
        window = self._rerun.windows[executor.strategy_id]
        # What stood before the gap, an edge trigger or a cooldown may remember for as long as they like.
        remembers = executor.config.emission != EmissionConfig()
        return remembers or self._ticks_since[case.tick.tick.instrument_token] < window

    def _is_same(self, row: NDArray[np.float32], recorded: NDArray[np.float32]) -> bool:
        return row.tobytes() == recorded.tobytes() or (self._after_gap and is_near(row, recorded))

    def _are_equal(self, recorded: Sequence[float], came: Sequence[float]) -> bool:
        return len(recorded) == len(came) and all(
            was == now
            or (math.isnan(was) and math.isnan(now))
            or math.isclose(was, now, rel_tol=self._tolerance, abs_tol=0.0)
            for was, now in zip(recorded, came, strict=True)
        )

    def _version(self, recorded: Recorded) -> VersionDescription | None:
        if self.served is None or recorded.model is None:
            return None
        return self.served.description_of(recorded.model.digest)

    def _differ_in(self, case: "_Case", field: str, recorded: object, came: object) -> None:
        self._differ(case.entry, case.tick.index, case.recorded.strategy_id, field, recorded, came)

    def _differ(  # noqa: PLR0917 the fields of a Difference, in its order
        self, entry: Entry, index: int, strategy_id: str, field: str, recorded: object, came: object
    ) -> None:
        self._verdict.differ(
            Difference(entry.segment, entry.line, index, strategy_id, field, str(recorded), str(came))
        )


@dataclass(frozen=True, slots=True)
class _Case:
    """One recorded outcome, and what comes of the same tick now."""

    entry: Entry
    tick: RecordedTick
    recorded: Recorded
    came: Outcome | None


def _why(refusal: Refusal) -> str:
    return NO_MODEL if refusal.reason is Reason.MODEL_NOT_FOUND else f"the sidecar: {refusal.reason.value}"


def _said(outcome: Outcome | None) -> str:
    if outcome is None:
        return "nothing"
    return outcome.signal_type if isinstance(outcome, Signal) else outcome.reason.value


def _probabilities(answer: Prediction, version: VersionDescription | None) -> tuple[float, ...]:
    outputs = version.contract.outputs if version is not None and version.contract is not None else ()
    name = next((each.name for each in outputs if each.kind is OutputKind.PROBABILITIES), "")
    return tuple(answer.outputs[name][0].tolist()) if name in answer.outputs else ()


def _numbers(values: object) -> str:
    if isinstance(values, np.ndarray):
        values = values.tolist()
    return "none" if not isinstance(values, list | tuple) else "[" + ", ".join(map(repr, values)) + "]"
