"""A runner of scripted strategies, with a predictor that answers by a function."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import numpy as np
from fixtures_ticks import tick, ticks

from strategy_client.binding import Wanted
from strategy_client.bindings import Bindings
from strategy_client.configuration import StrategyConfig
from strategy_client.events import MarketTick, Outcome, Reason, Signal, SignalResult
from strategy_client.executor import StrategyExecutor
from strategy_client.features import FeatureSet
from strategy_client.predictor.description import (
    Contract,
    Description,
    ModelDescription,
    NanPolicy,
    OutputKind,
    OutputMeaning,
    VersionDescription,
    VersionState,
)
from strategy_client.predictor.port import Answer, Prediction, Question
from strategy_client.processors.model import ClassMeanings, ModelReference, PredictionRow
from strategy_client.runner import RunnerOptions, StrategyRunner

FEATURES = ("price", "return_3")


@dataclass
class Scripted:
    """A processor that does what it is told on each tick."""

    act: Callable[[MarketTick, Sequence[MarketTick]], Any]
    length: int = 1

    def process_tick(self, now: MarketTick, history: Sequence[MarketTick]) -> Any:
        """Do it."""
        return self.act(now, history)

    def get_required_history_length(self) -> int:
        """Return what was set."""
        return self.length

    def supports_instrument(self, token: int) -> bool:
        """Take all but 13."""
        return token != 13

    def get_strategy_name(self) -> str:
        """Return a name."""
        return "scripted"


@dataclass
class LearnedScripted:
    """A learned processor that buys whatever the answer is; it keeps what it saw."""

    model: ModelReference = field(default_factory=lambda: ModelReference("m"))
    features: FeatureSet = field(default_factory=lambda: FeatureSet(FEATURES))
    interpreted: Callable[[MarketTick, Any, PredictionRow], SignalResult | Reason] | None = None
    bound: list[ClassMeanings] = field(default_factory=list)
    rows: list[PredictionRow] = field(default_factory=list)

    def process_tick(self, now: MarketTick, history: Sequence[MarketTick]) -> None:
        """Never be called by a runner of ours."""
        raise AssertionError

    def get_required_history_length(self) -> int:
        """Return the features' window."""
        return self.features.window

    def supports_instrument(self, token: int) -> bool:
        """Take any."""
        return True

    def get_strategy_name(self) -> str:
        """Return a name."""
        return "learned"

    def bind(self, meanings: ClassMeanings) -> None:
        """Keep the meanings."""
        self.bound.append(meanings)

    def extract_features(self, now: MarketTick, history: Sequence[MarketTick]) -> Any:
        """Never be called by a runner of ours."""
        raise AssertionError

    def interpret(self, now: MarketTick, features: Any, prediction: PredictionRow) -> SignalResult | Reason:
        """Buy, at a price that is not the tick's."""
        self.rows.append(prediction)
        if self.interpreted is not None:
            return self.interpreted(now, features, prediction)
        return SignalResult("BUY", max(prediction.probabilities), 10, Decimal(1), metadata={"own": 1})


class Settled:
    """Answers that are there already."""

    request_id = "r-1"
    settled = True

    def __init__(self, answers: Sequence[Answer]) -> None:
        self._answers = answers

    def result(self) -> Sequence[Answer]:
        """Return them."""
        return self._answers


@dataclass
class RecordingPredictor:
    """Answers at once, by a function, and keeps every request."""

    answer: Callable[[Question], Answer]
    requests: list[list[Question]] = field(default_factory=list)
    events: list[str] = field(default_factory=list)

    def submit(self, questions: Sequence[Question], deadline_ns: int) -> Settled:
        """Keep the questions and answer them."""
        self.requests.append(list(questions))
        self.events.append("submit")
        return Settled([self.answer(question) for question in questions])

    def close(self) -> None:
        """Do nothing."""


def contract(**changes: Any) -> Contract:
    """Return the contract of the model `m`."""
    fields: dict[str, Any] = {
        "hash": "h1",
        "feature_names": FEATURES,
        "window": 3,
        "includes_current_tick": True,
        "nan_policy": NanPolicy.REFUSE,
        "outputs": (
            OutputMeaning("label", OutputKind.LABEL, ("0", "1"), ("SELL", "BUY")),
            OutputMeaning("probabilities", OutputKind.PROBABILITIES, ("0", "1"), ("SELL", "BUY")),
        ),
    }
    return Contract(**{**fields, **changes})


def description(served: Contract | None, **changes: Any) -> Description:
    """Describe the model `m` at version 4."""
    version = VersionDescription(4, VersionState.AVAILABLE, "", "d4", served, ("FP32",))
    model = ModelDescription("m", (version,), 4)
    return Description({"m": model}, ready=True, **changes)


def yes(question: Question, **changes: Any) -> Prediction:
    """Answer each row with class 1 at 0.75."""
    rows = len(question.features)
    outputs = {
        "label": np.ones(rows, np.int64),
        "probabilities": np.tile(np.array([0.25, 0.75]), (rows, 1)),
    }
    fields = {"version": 4, "digest": "d4", "contract_hash": "h1", "outputs": outputs}
    return Prediction(question.model, **{**fields, **changes})


def config(strategy_id: str, tokens: Sequence[int] = (1,), **changes: Any) -> StrategyConfig:
    """Return a configuration."""
    return StrategyConfig(strategy_id, "scripted", {}, ("paper",), tuple(tokens), **changes)


def buys(now: MarketTick, history: Sequence[MarketTick]) -> SignalResult:
    """Buy."""
    return SignalResult("BUY", 0.5, 10, now.last_price)


def run(act: Callable[..., Any], **changes: Any) -> Outcome:
    """Return what one tick gives to a strategy that does `act`."""
    (outcome,) = StrategyRunner([StrategyExecutor(Scripted(act), config("s", **changes))]).process(tick(100))
    return outcome


def learned_runner(
    processors: Mapping[str, LearnedScripted],
    answer: Callable[[Question], Answer] = yes,
    served: Contract | None = None,
    tokens: Sequence[int] = (1,),
    extra: Sequence[StrategyExecutor] = (),
) -> tuple[StrategyRunner, RecordingPredictor, Bindings]:
    """Return a runner of learned strategies whose bindings are fresh."""
    predictor = RecordingPredictor(answer)
    wanted = [Wanted(name, each.model, each.features) for name, each in processors.items()]
    bindings = Bindings(wanted, lambda _models: description(served or contract()))
    bindings.refresh()
    executors = [StrategyExecutor(each, config(name, tokens)) for name, each in processors.items()]
    return StrategyRunner([*executors, *extra], predictor, bindings, RunnerOptions()), predictor, bindings


def last(runner: StrategyRunner, prices: Sequence[object] = (100, 101, 102)) -> list[Outcome]:
    """Return the outcomes of the last of some ticks."""
    return [runner.process(each) for each in ticks(prices)][-1]


def reasons(outcomes: Sequence[Outcome]) -> list[Any]:
    """Return each outcome's side or reason."""
    return [o.signal_type if isinstance(o, Signal) else o.reason for o in outcomes]
