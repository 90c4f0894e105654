"""The tick loop run again over recorded ticks: the real runner, with answers that were worked out before."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from strategy_client.audit.decoder import UNREADABLE, NamedModel, Recorded, RecordedTick
from strategy_client.audit.lineup import read_config
from strategy_client.binding import Binding, Unbound, Wanted, bind
from strategy_client.bindings import Bindings
from strategy_client.configuration import describe_error
from strategy_client.events import Outcome, Reason
from strategy_client.executor import StrategyExecutor
from strategy_client.factory import StrategyFactory
from strategy_client.lineup import renew, wanted_models
from strategy_client.predictor.description import Description, ModelDescription, VersionDescription
from strategy_client.predictor.port import Answer, Prediction, Question, Refusal
from strategy_client.processors.processor import LearnedProcessor
from strategy_client.runner import RunnerOptions, StrategyRunner

# A row that a window of features gives after a gap may differ from the recorded one by as much: a running sum
# that began elsewhere rounds otherwise.
AFTER_GAP: Final = 1e-5
# What the texts of `strategy_client.edge` say: a test holds these to it.
RECEIVED: Final = "received "
AHEAD: Final = "ahead of the clock"
FAR_NS: Final = 10**21
NOT_RECORDED: Final = Refusal(Reason.UNAVAILABLE, "the log has no answer to this row")

RowKey = tuple[str, bytes]


class RecordedBindings(Bindings):
    """Binds each strategy to the contract of the bytes that answered it when the log was written."""

    def __init__(self, wanted: Sequence[Wanted]) -> None:
        super().__init__(wanted, lambda _names: Description({}, ready=False))
        self._each: Mapping[str, Wanted] = {}
        self._now: dict[str, Binding] = {}
        self._digests: dict[str, str] = {}
        self.want(wanted)

    def want(self, wanted: Sequence[Wanted]) -> None:
        """Take what the strategies ask from now on; one that asks another model is not bound yet."""
        before, self._each = self._each, {each.strategy_id: each for each in wanted}
        for strategy_id, each in before.items():
            now = self._each.get(strategy_id)
            if now is None or (now.model, now.features.names) != (each.model, each.features.names):
                self._now.pop(strategy_id, None)
                self._digests.pop(strategy_id, None)

    def set(self, strategy_id: str, model: NamedModel, version: VersionDescription) -> None:
        """Bind a strategy to a version; the same object as before where it is the same bytes."""
        wanted = self._each.get(strategy_id)
        if wanted is None or self._digests.get(strategy_id) == model.digest:
            return
        # Under the number that it had then, whatever it is served as now.
        told = replace(version, version=model.version)
        name = wanted.model.name
        description = Description({name: ModelDescription(name, (told,), model.version)}, ready=True)
        self._now[strategy_id] = bind(wanted, description)
        self._digests[strategy_id] = model.digest

    def of(self, strategy_id: str) -> Binding:
        """Return a strategy's binding."""
        return self._now.get(strategy_id) or Unbound(Reason.UNAVAILABLE, "no answer was recorded yet")

    def doubt(self) -> None:
        """Do nothing: what is bound is what was recorded."""

    def saw(self, model: str, version: int, digest: str) -> None:
        """Do nothing: what answers is what was recorded."""


class RecordedAnswers:
    """Implements `Predictor` and, for one tick, `PendingAnswers`: what the recorded rows are answered now."""

    request_id = ""
    settled = True

    def __init__(self) -> None:
        # The rows asked on the tick that was prepared last, each with its model's name.
        self.asked: list[tuple[str, NDArray[np.float32]]] = []
        self._answers: Mapping[RowKey, Answer] = {}
        self._rows: Mapping[RowKey, NDArray[np.float32]] = {}
        self._came: list[Answer] = []
        self._after_gap = False

    def prepare(self, tick: RecordedTick, answers: Mapping[RowKey, Answer], *, after_gap: bool) -> None:
        """Take the answers of the tick that comes: by the digest, and the recorded row's bytes."""
        self._after_gap = after_gap
        self.asked = []
        self._answers = {}
        self._rows = {}
        for each in tick.outcomes:
            if each.model is not None and each.row is not None:
                content = each.row.tobytes()
                answer = answers.get((each.model.digest, content), NOT_RECORDED)
                key = (each.model.name, content)
                self._rows[key] = each.row
                self._answers[key] = _as_recorded(answer, each.model)

    def submit(self, questions: Sequence[Question], deadline_ns: int) -> "RecordedAnswers":  # noqa: ARG002 - nothing is waited for
        """Answer from what was prepared."""
        self.asked.extend((question.model, row) for question in questions for row in question.features)
        self._came = [self._answer(question) for question in questions]
        return self

    def result(self) -> Sequence[Answer]:
        """Return the answers to the questions just submitted."""
        return self._came

    def close(self) -> None:
        """Nothing is open."""

    def _answer(self, question: Question) -> Answer:
        found = [self._row_answer(question.model, row) for row in question.features]
        refusal = next((each for each in found if isinstance(each, Refusal)), None)
        if refusal is not None or len(found) == 1:
            return refusal or found[0]
        predictions = [each for each in found if isinstance(each, Prediction)]
        outputs = {
            name: np.concatenate([each.outputs[name] for each in predictions])
            for name in predictions[0].outputs
        }
        return replace(predictions[0], outputs=outputs)

    def _row_answer(self, model: str, row: NDArray[np.float32]) -> Answer:
        exact = self._answers.get((model, row.tobytes()))
        if exact is not None:
            return exact
        if self._after_gap:
            for (name, content), recorded in self._rows.items():
                if name == model and is_near(row, recorded):
                    return self._answers[name, content]
        return NOT_RECORDED


class Rerun:
    """The strategies of a log, run over its ticks; to `begin` again is to forget all that came before."""

    def __init__(self, factory: StrategyFactory) -> None:
        self.executors: dict[str, StrategyExecutor] = {}
        self.problems: dict[str, str] = {}
        # Worked out once: to ask whether a processor is learned costs more than all else of an outcome.
        self.windows: Mapping[str, int] = {}
        self.learned: frozenset[str] = frozenset()
        self.answers = RecordedAnswers()
        self._factory = factory
        self.bindings = RecordedBindings(())
        self._now_ns = self._wall_ns = 0
        self._runner = self._start(())

    def begin(self, lineup: Sequence[Mapping[str, Any]]) -> None:
        """Start with empty histories. A strategy that cannot be made is left out, and told in `problems`."""
        self._make(lineup, {})
        executors = list(self.executors.values())
        self.bindings = RecordedBindings(_wanted(executors))
        self._runner = self._start(executors)
        self._look_at(executors)

    def change(self, lineup: Sequence[Mapping[str, Any]]) -> None:
        """Run these strategies from the next tick on; those of the same logic keep their histories."""
        self._make(lineup, self.executors)
        executors = list(self.executors.values())
        self.bindings.want(_wanted(executors))
        self._runner.change(executors)
        self._look_at(executors)

    def _make(self, lineup: Sequence[Mapping[str, Any]], before: Mapping[str, StrategyExecutor]) -> None:
        self.executors, self.problems = {}, {}
        for each in lineup:
            try:
                config = read_config(each)
                kept = [before[config.strategy_id]] if config.strategy_id in before else []
                (executor,) = renew(kept, [config], self._factory)
            except UNREADABLE as error:
                self.problems[str(each.get("id"))] = describe_error(error)
            else:
                self.executors[config.strategy_id] = executor

    def process(self, tick: RecordedTick, *, after_gap: bool) -> Mapping[str, Outcome]:
        """Return what each strategy says now, by its id.

        What the clocks said then is not known, but what followed from it: the edge is made to find the same.
        """
        # Three cases: taken as it came; taken, but too old for a signal; refused, and without a trace. The
        # edge itself sees what is out of order, unless what came before is unknown.
        given = tick.tick
        stale = _staleness(tick)
        if stale.startswith(RECEIVED):
            self._now_ns, self._wall_ns = FAR_NS, FAR_NS
            given = replace(given, received_ns=0)
        elif AHEAD in stale or (stale and after_gap):
            self._now_ns = self._wall_ns = -FAR_NS
            given = replace(given, received_ns=-FAR_NS)
        return {outcome.strategy_id: outcome for outcome in self._runner.process(given)}

    def _look_at(self, executors: Sequence[StrategyExecutor]) -> None:
        features = {
            each.strategy_id: each.processor.features
            for each in executors
            if isinstance(each.processor, LearnedProcessor)
        }
        self.learned = frozenset(features)
        self.windows = {
            each.strategy_id: max(each.required_history, features[each.strategy_id].window)
            if each.strategy_id in features
            else each.required_history
            for each in executors
        }

    def _start(self, executors: Sequence[StrategyExecutor]) -> StrategyRunner:
        return StrategyRunner(
            executors,
            self.answers,
            self.bindings,
            RunnerOptions(max_tick_age_ms=1.0, max_ahead_s=1.0),
            now_ns=lambda: self._now_ns,
            wall_ns=lambda: self._wall_ns,
        )

    def interpret(self, tick: RecordedTick, recorded: Recorded, answer: Prediction) -> Outcome | None:
        """Return what a strategy makes of the answer to its recorded row; None where it is not bound."""
        executor = self.executors[recorded.strategy_id]
        bound = self.bindings.of(recorded.strategy_id)
        processor = executor.processor
        if not isinstance(processor, LearnedProcessor) or isinstance(bound, Unbound) or recorded.row is None:
            return None
        try:
            if bound.meanings is not None:
                processor.bind(bound.meanings)
            result = processor.interpret(tick.tick, recorded.row, bound.read_row(answer, 0))
            return executor.outcome_of(tick.tick, result)
        except Exception as error:  # noqa: BLE001 whatever a processor raises is its outcome
            return executor.processor_error(tick.tick, error)


def is_of_the_clock(tick: RecordedTick) -> bool:
    """Whether a tick was refused for what a clock said then, which nobody can say again."""
    stale = _staleness(tick)
    return stale.startswith(RECEIVED) or AHEAD in stale


def is_near(row: NDArray[np.float32], recorded: NDArray[np.float32]) -> bool:
    """Whether two rows are the same but for how their sums were rounded."""
    return row.shape == recorded.shape and bool(
        np.allclose(row, recorded, rtol=AFTER_GAP, atol=0.0, equal_nan=True)
    )


def _staleness(tick: RecordedTick) -> str:
    """Return why all strategies were told that the tick is stale; empty where they were not."""
    if not tick.outcomes or any(each.said != Reason.STALE_TICK.value for each in tick.outcomes):
        return ""
    return tick.outcomes[0].detail


def _wanted(executors: Sequence[StrategyExecutor]) -> Sequence[Wanted]:
    learned = [each.processor for each in executors if isinstance(each.processor, LearnedProcessor)]
    endpoints = [each.model.endpoint for each in learned if each.model.endpoint is not None]
    return wanted_models(executors, endpoints)


def _as_recorded(answer: Answer, model: NamedModel) -> Answer:
    if isinstance(answer, Refusal):
        return answer
    return replace(answer, model=model.name, version=model.version)
